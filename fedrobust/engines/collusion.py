"""Collusion: a Grid in which attacks see several hospitals' updates before the server does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedrobust.attacks.compare import same_report, same_update
from fedrobust.attacks.hooks import collude, is_active, name_of
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update
from fedrobust.federation.memory import largest_memory
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import (
    HOSPITAL,
    TrainConfig,
    hospital_record,
    pack_update,
    read_metrics,
    write_metrics,
)
from fedrobust.flower.compat import error_reply, is_superlink
from fedrobust.flower.grid import WrappedGrid
from fedrobust.flower.memory import MemoryStore, NodeMemory, keep, recall
from fedrobust.flower.reply_checks import Expected, ReplyFault, check_reply
from fedrobust.flower.vectors import SentModel
from fedrobust.pipeline.no_effect import ROUNDING
from fedrobust.scenario import Scenario, Threat
from fedrobust.seeding import collusion_rng

__all__ = ["CollusionGrid", "with_collusion"]

_ERROR_ATTACK_RAISED = 1


def with_collusion(grid: Grid, scenario: Scenario, memories: MemoryStore | None = None) -> Grid:
    """Return the grid, wrapped where an attack of the scenario sees several hospitals' updates.

    Parameters
    ----------
    grid : Grid
    scenario : Scenario
    memories : MemoryStore, optional
        Where the attacks keep what they remember between rounds; in this process unless given.

    Raises
    ------
    UserError
        If there is such an attack and the grid is that of a real SuperLink: its hospitals do not see each
        other.
    """
    store = memories or NodeMemory(RecordDict())
    groups = [_Group(scenario, threat, place, store) for place, threat in enumerate(scenario.threats)]
    groups = [group for group in groups if group.colluders]
    if not groups:
        return grid
    if _is_real(grid):
        name = name_of(next(iter(groups[0].colluders.values())))
        raise UserError(
            f"attack '{name}' needs to see several hospitals' updates, which no hospital of a real "
            f"federation does; simulate it with --engine local or flower, or choose another attack"
        )
    return CollusionGrid(grid, groups, frozenset(scenario.malicious))


def _is_real(grid: Grid) -> bool:
    from fedrobust.flower.data_spec import DataSpecGrid

    return is_superlink(grid) or isinstance(grid, DataSpecGrid)


class _Group:
    """The hospitals of one threat with the attacks of its chain, the same objects in every round."""

    def __init__(self, scenario: Scenario, threat: Threat, place: int, memories: MemoryStore) -> None:
        self.hospitals = frozenset(threat.hospitals)
        self._chain = scenario.attacks_of(threat.hospitals[0])
        self._seed, self._threat, self._memories = scenario.seed, place, memories
        #: The attacks that see several updates, by their places in the chain.
        self.colluders = {
            place: attack
            for place, attack in enumerate(self._chain)
            if isinstance(attack, Attack) and attack.colludes
        }

    def colluding(self, round: int) -> Iterator[Attack]:
        """Yield the attacks that act in a round, each with its generator and what it remembers."""
        if not all(is_active(behaviour, round) for behaviour in self._chain):
            return
        kept = recall(self._memories, self._owner, round)
        for place, attack in self.colluders.items():
            memory = kept.setdefault(f"behaviour-{place}", {})
            attack.bind(rng=collusion_rng(self._seed, self._threat, place, round), memory=memory)
            yield attack

    def keep(self, round: int, limit: int) -> int:
        """Keep what the attacks of a round remember; return its bytes."""
        if not all(is_active(behaviour, round) for behaviour in self._chain):
            return 0
        kept = {f"behaviour-{place}": attack.memory for place, attack in self.colluders.items()}
        return keep(self._memories, self._owner, round, kept, limit)

    @property
    def _owner(self) -> str:
        return f"threat-{self._threat}"


class CollusionGrid(WrappedGrid):
    """Passes the colluders' replies of a round to their attacks and returns the replies with the results.

    Of a chain ``a + b`` the hospitals' own parts (records, update, report) of both run first, in order,
    inside each hospital; then, here, the colluding parts in order, each given what the one before made. So a
    report that a later attack forged is the report of the update that a colluding one replaced. Each threat
    colludes by itself; the hospitals of another are neither its colluders nor honest.

    Parameters
    ----------
    grid : Grid
        That of any simulation engine.
    groups : sequence
        The threats' hospitals and attacks; see `with_collusion`.
    malicious : frozenset of int
        The hospitals of all threats, also of those that do not collude.
    """

    def __init__(self, grid: Grid, groups: Sequence[_Group], malicious: frozenset[int]) -> None:
        """Wrap the grid."""
        super().__init__(grid)
        self._groups = tuple(groups)
        self._malicious = malicious

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages as the wrapped grid does; rewrite the colluders' replies to training messages."""
        asked = list(messages)
        replies = list(self.inner.send_and_receive(asked, timeout=timeout))
        training = [m for m in asked if m.metadata.message_type.partition(".")[0] == MessageType.TRAIN]
        if not training:
            return replies
        exchange = _Exchange(training[0])
        found = {place: update for place, reply in enumerate(replies) if (update := exchange.update(reply))}
        # By hospital, not by arrival: sums of floats depend on their order.
        order = sorted(found, key=lambda place: found[place].node)
        honest = [found[place] for place in order if found[place].node not in self._malicious]
        for group in self._groups:
            places = [place for place in order if found[place].node in group.hospitals]
            if not places:
                continue
            before = [found[place] for place in places]
            try:
                after, effective = _colluded(group, before, honest, exchange.round)
                kept = group.keep(exchange.round, largest_memory(exchange.model_bytes))
                changes = [_changes(*pair) for pair in zip(before, after, strict=True)]
            except Exception as error:  # noqa: BLE001 - if an attack fails, so do its hospitals in this round
                for place in places:
                    replies[place] = error_reply(replies[place], _ERROR_ATTACK_RAISED, str(error))
                continue
            for place, (arrays, metrics), names in zip(places, changes, effective, strict=True):
                _put(replies[place].content, arrays, metrics)
                about = hospital_record(replies[place])
                # What all of them keep together counts once.
                size, kept = about.memory_bytes + kept, 0
                about = replace(about, no_effect=about.no_effect - names, memory_bytes=size)
                replies[place].content[HOSPITAL] = about.record()
        return replies


class _Exchange:
    """What the replies of a round answer: the global model and the round's number."""

    def __init__(self, question: Message) -> None:
        self._model = SentModel(next(iter(records_in(question.content, ArrayRecord).values())))
        # Before the attack a colluder's update may be of any length.
        self._expected = Expected(self._model)
        self.round = TrainConfig.round_of(question) or 0
        self.model_bytes = sum(array.numpy().nbytes for array in self._model.arrays.values())

    def update(self, message: Message) -> Update | None:
        """Return a reply as an update of read-only views, or None; the client grid reports the fault."""
        reply = check_reply(message, self._expected)
        if isinstance(reply, ReplyFault) or reply.hospital.number is None:
            return None
        metrics = read_metrics(reply.metrics)
        return self._model.update(reply.hospital.number, reply.parameters, reply.buffers, metrics, self.round)


def _colluded(
    group: _Group, updates: Sequence[Update], honest: Sequence[Update], round: int
) -> tuple[Sequence[Update], list[set[str]]]:
    """Return the group's updates after its colluding attacks, and by hospital which attacks had an effect.

    Any fault in them is raised.
    """
    effective: list[set[str]] = [set() for _ in updates]
    for attack in group.colluding(round):
        made = collude(attack, updates, list(honest) if attack.knowledge == "all" else [])
        for names, one, other in zip(effective, made, updates, strict=True):
            if not (same_update(one, other, ROUNDING) and same_report(one.report, other.report)):
                names.add(name_of(attack))
        updates = made
    return updates, effective


def _changes(before: Update, after: Update) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """Return the records that an attack replaced; None for one that it left as the hospital sent it."""
    arrays = metrics = None
    if after.parameters is not before.parameters or after.buffers is not before.buffers:
        arrays = pack_update(after)
    if after.report is not before.report:
        metrics = write_metrics(after.report)
    return arrays, metrics


def _put(content: RecordDict, arrays: ArrayRecord | None, metrics: MetricRecord | None) -> None:
    if arrays is not None:
        content[next(iter(records_in(content, ArrayRecord)))] = arrays
    if metrics is not None:
        content[next(iter(records_in(content, MetricRecord)))] = metrics

"""Attacks on updates and reported metrics as a modifier of any ClientApp."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from logging import WARNING
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore import log

from fedrobust.attacks import hooks
from fedrobust.attacks.compare import same_update, to_change
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Behaviour, Role
from fedrobust.federation.memory import largest_memory
from fedrobust.flower.apps.metric_aliases import read_aliased, write_aliased
from fedrobust.flower.arrays import records_in
from fedrobust.flower.codec import NUM_EXAMPLES, PARTITION_ID, SERVER_ROUND, TrainConfig
from fedrobust.flower.memory import NodeMemory, keep, recall
from fedrobust.flower.vectors import SentModel, is_float, shapes_of, to_arrays
from fedrobust.plugins import AttackChain, add_working_folder, find, instantiate
from fedrobust.seeding import attack_rng

__all__ = ["AttackMod", "attack"]


def attack(
    spec: str,
    *,
    seed: int = 0,
    nodes: Iterable[int] | None = None,
    hospitals: int | None = None,
    weighted_by_key: str = NUM_EXAMPLES,
) -> AttackMod:
    """Return a Flower client modifier that attacks what a client sends.

    Use it as ``ClientApp(mods=[fedrobust.attack("boost")])``.

    Parameters
    ----------
    spec : str
        Attacks on updates and reports, joined with ``+``: from this project or from the user's own
        ``clients/`` folder.
    seed : int
        For attacks that draw.
    nodes : iterable of int, optional
        The partition ids (of the node config) that attack; the others stay honest. Not given: all that run
        the app.
    hospitals : int, optional
        How many nodes the federation has, for attacks that use it.
    weighted_by_key : str
        Under which the client's metrics hold the number of its images, as for Flower's strategies.

    Raises
    ------
    UserError
        If an attack is unknown, takes no such option, or cannot work inside another app's client.
    """
    add_working_folder()
    chosen = None if nodes is None else _numbers(nodes)
    if hospitals is not None and (type(hospitals) is not int or hospitals <= max(chosen or (0,))):
        raise UserError(
            f"attack: hospitals is {hospitals}, which is too few for the nodes; give how many there are"
        )
    mod = AttackMod(spec, seed, chosen, hospitals, weighted_by_key)
    chain = mod.chain(0)
    for one in chain:
        _check(one)
    if not any(map(_changes_reply, chain)):
        raise UserError(
            f"attack '{spec}' changes neither update nor report; join it with one that does, such as "
            f"'{spec} + sign-flip'"
        )
    return mod


def _numbers(nodes: object) -> tuple[int, ...]:
    """Return partition ids, sorted; integers of any type, but neither truth values nor a single number."""
    wrong = UserError(f"attack: nodes is {nodes!r}, but must be a list of partition ids, such as [0, 3]")
    given: list[Any] = list(nodes) if isinstance(nodes, Iterable) else [nodes]
    if not isinstance(nodes, Iterable) or any(isinstance(node, bool | np.bool_) for node in given):
        raise wrong
    try:
        numbers = sorted({operator.index(node) for node in given})
    except TypeError:
        raise wrong from None
    if numbers and numbers[0] < 0:
        raise wrong
    return tuple(numbers)


def _changes_reply(one: Behaviour) -> bool:
    if not isinstance(one, Attack):
        return False
    kind = type(one)
    return kind.poison_update is not Attack.poison_update or kind.forge_report is not Attack.forge_report


def _check(one: Behaviour) -> None:
    """Raise `UserError` if an attack needs what there is not inside another app's client."""
    reason = None
    if one.transforms_records:
        reason = "poisons records, which only the client's own code sees; poison them there"
    elif not isinstance(one, Attack):
        reason = "is no attack"
    elif one.colludes:
        reason = "needs to see several clients' updates, which no client does"
    elif one.needs_model or one.renews_records:
        reason = "works with the network and the records, which only the client's own code sees"
    elif one.hooks_gradient:
        reason = "changes the gradients of the training, which is the client's own"
    elif one.needs_honest:
        reason = "needs what an honest training gives, and the client trains only once"
    if reason is not None:
        raise UserError(f"attack '{one.role.name}' cannot work in another app's client: it {reason}")
    try:
        one.check(cast(Records, None))
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - it reads records, and there are none here
        return


class AttackMod:
    """A Flower modifier of training messages; a chain of attacks rewrites the reply.

    Parameters
    ----------
    spec : str
    seed : int
    nodes : tuple of int or None
        The partition ids that attack; None for all.
    hospitals : int or None
        How many nodes the federation has.
    key : str
        Under which metrics hold the number of images.
    """

    def __init__(
        self,
        spec: str,
        seed: int,
        nodes: tuple[int, ...] | None,
        hospitals: int | None,
        key: str = NUM_EXAMPLES,
    ) -> None:
        """Keep the specification; the attacks are made again for each message."""
        self.spec, self.seed, self.nodes, self.hospitals, self.key = spec, seed, nodes, hospitals, key

    def chain(self, number: int) -> list[Behaviour]:
        """Return fresh attacks for a node."""
        nodes = (number,) if self.nodes is None else self.nodes
        member = nodes.index(number) if number in nodes else 0
        attacks: list[Behaviour] = []
        for part in AttackChain.parse(self.spec).parts:
            one: Behaviour = instantiate(
                find(part.name, "clients", (Behaviour,), "attack"), part.options, part.name
            )
            role = Role(part.name, number, self.hospitals, member, max(1, len(nodes)), seed=self.seed)
            one.bind(role=role)
            attacks.append(one)
        return attacks

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the client answer; rewrite what it sends."""
        reply = call_next(message, context)
        number = context.node_config.get(PARTITION_ID)
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN or reply.has_error():
            return reply
        if number is None and self.nodes is not None:
            raise UserError(
                f"attack '{self.spec}' is for the nodes {list(self.nodes)}, and this one does not say which "
                f'it is; start it with --node-config "partition-id=0"'
            )
        if self.nodes is not None and number not in self.nodes:
            return reply
        node = int(cast(int, context.node_id if number is None else number))
        self._rewrite(message, reply, node, NodeMemory(context.state))
        return reply

    def _rewrite(self, message: Message, reply: Message, number: int, memories: NodeMemory) -> None:
        """Put what the attacks make of the client's arrays and metrics in their place."""
        received = self._one(message, ArrayRecord)[1]
        place, trained = self._one(reply, ArrayRecord)
        metrics_place, metrics = self._one(reply, MetricRecord)
        model = SentModel(received)
        if model.shapes != shapes_of(trained):
            raise UserError(
                f"attack '{self.spec}': the client's arrays have other names or shapes than the model it got"
            )
        reported = read_aliased(metrics, self.key)
        update = model.update(number, *model.vectors(trained), reported, _round(message, self.spec))
        attacks, owner = self.chain(number), f"fedrobust-attack-{number}"
        kept = recall(memories, owner, update.round)
        for position, one in enumerate(attacks):
            one.bind(memory=kept.setdefault(f"behaviour-{position}", {}))
        if not all(hooks.is_active(one, update.round) for one in attacks):
            return
        moved, report = update, update.report
        for position, one in enumerate(attacks):
            if isinstance(one, Attack):
                one.bind(rng=attack_rng(self.seed, position, update.round, number))
                moved = hooks.poison_update(one, to_change(moved))
                report = hooks.forge_report(one, replace(report, values=dict(report.values)))
        kept = {f"behaviour-{position}": one.memory for position, one in enumerate(attacks)}
        keep(memories, owner, update.round, kept, largest_memory(update.parameters.nbytes))
        same = same_update(moved, update)
        if self.key not in metrics and report.num_examples != update.report.num_examples:
            raise UserError(
                f"attack '{self.spec}' forges the number of images, and the client's metrics have no "
                f"'{self.key}'; say under which key it is with fedrobust.attack(..., weighted_by_key=...)"
            )
        sent = write_aliased(report, metrics, self.key)
        if not same:
            # Counters and the order of the names are the client's own.
            made = to_arrays(moved.parameters, moved.buffers, _like(trained, received))
            reply.content[place] = ArrayRecord({name: made[name] for name in trained})
        elif dict(sent) == dict(metrics):
            log(WARNING, "fedrobust: attack '%s' had no effect in round %s", self.spec, update.round)
        reply.content[metrics_place] = sent

    def _one(self, message: Message, kind: type[Any]) -> tuple[str, Any]:
        """Return the only record of a kind, with its name."""
        found = list(records_in(message.content, kind).items())
        if len(found) != 1:
            raise UserError(
                f"attack '{self.spec}' works on messages with one {kind.__name__}, not {len(found)}"
            )
        return found[0]


def _like(trained: ArrayRecord, received: ArrayRecord) -> ArrayRecord:
    """Return the client's arrays in the order in which the model came, each of the kind that it had there."""
    like = ArrayRecord()
    for name, array in received.items():
        same_kind = is_float(trained[name].dtype) == is_float(array.dtype)
        like[name] = trained[name] if same_kind else array
    return like


def _round(message: Message, spec: str) -> int:
    """Return the round, as Flower's FedAvg and its kin say it."""
    round = TrainConfig.round_of(message)
    if round is None:
        raise UserError(f"attack '{spec}' needs the round, but the train config has no '{SERVER_ROUND}'")
    return round

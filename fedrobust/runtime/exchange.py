"""A round's exchange between a strategy and the hospitals; the last good model is kept where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy

from fedrobust.errors import UserError
from fedrobust.federation.participation import TakingPart
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import PROXIMAL_MU
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.flower.reply_checks import ClientFailure, last_line
from fedrobust.flower.strategy_state import fewest_nodes, fewest_updates, remembered
from fedrobust.plugins import place_of, reraise_as_user_error
from fedrobust.results.records import ClientMetricsLine, VerdictLine
from fedrobust.results.round_lines import client_metrics_line, verdict_line
from fedrobust.runtime.peak_memory import extra_memory
from fedrobust.runtime.profiling import Profile
from fedrobust.seeding import globally_seeded, torch_seeded

__all__ = ["Exchange", "Exchanged", "strategy_at_work"]


@dataclass(frozen=True)
class Exchanged:
    """What a round's exchange gave, before the evaluation.

    Attributes
    ----------
    arrays : ArrayRecord
        The new global model, or the last one.
    not_kept : str or None
        Why the round gives no new model; None where it does.
    replies : sequence of Message
        The hospitals' usable replies, with the models that they trained.
    undo : callable
        Puts the strategy into the state that it was in before the round.
    client_evaluation : mapping or None
        What the strategy made of the hospitals' evaluation, where it asks for one.
    """

    arrays: ArrayRecord
    train_loss: object
    verdict: VerdictLine
    client_metrics: ClientMetricsLine
    failures: Sequence[ClientFailure]
    no_effect: Mapping[int, frozenset[str]]
    memory_bytes: int
    not_kept: str | None
    undo: Callable[[], None]
    replies: Sequence[Message] = ()
    client_evaluation: Mapping[str, object] | None = None
    defence_mib: float | None = None

    def without_model(self, arrays: ArrayRecord, why: str) -> Exchanged:
        """Return the same round with the last model; the strategy forgets the round."""
        self.undo()
        return replace(self, arrays=arrays, not_kept=why)


class Exchange:
    """Lets a strategy train rounds with the hospitals.

    A round gives no new model if too few updates can be used, if the strategy fails without those that cannot
    be, or if the new model holds NaN or infinite values. A strategy that fails on the updates of all that it
    asked is at fault itself, which ends the run.

    Parameters
    ----------
    strategy : Strategy
    name : str
        The strategy as the user wrote it.
    grid : ClientGrid
    seed : int
        For the global generators that Flower's strategies sample with.
    limit_s : float
        Seconds before a hospital is dropped from the round.
    proximal_mu : float
        Weight of FedProx's term in the hospitals, for strategies that ask for none themselves.
    preload : callable
        Called while nothing is measured, before the first aggregation.
    profile : Profile
        Counts the time.
    """

    def __init__(
        self,
        strategy: Strategy,
        name: str,
        grid: ClientGrid,
        *,
        seed: int = 0,
        limit_s: float = 3600.0,
        proximal_mu: float = 0.0,
        preload: Callable[[], None] = lambda: None,
        profile: Profile | None = None,
    ) -> None:
        """Keep everything."""
        self._strategy, self._name, self._grid = strategy, name, grid
        self._seed, self._limit_s, self._preload = seed, limit_s, preload
        self._config = {PROXIMAL_MU: proximal_mu} if proximal_mu else {}
        self._profile = profile or Profile()

    def run(
        self, number: int, arrays: ArrayRecord, lr: float, taking_part: TakingPart | None = None
    ) -> Exchanged:
        """Return what a round gives that starts from a global model; all take part unless it is said who."""
        strategy, grid = self._strategy, self._grid
        grid.set_taking_part(taking_part)
        grid.set_expected_shapes(arrays)
        with strategy_at_work(self._name, self._seed, number):
            # Flower's strategies wait for more nodes where there are too few; no more will come.
            enough = taking_part is None or len(taking_part.asked) >= fewest_nodes(strategy)
            config = ConfigRecord({"lr": lr, **self._config})
            messages = list(strategy.configure_train(number, arrays, config, grid)) if enough else []
            replies = self._ask(messages)
            faults = list(grid.faults)
            no_effect, memory_bytes = dict(grid.no_effect), grid.memory_bytes
            client_metrics = client_metrics_line(number, replies)
            with self._profile.phase("imports"):
                self._preload()
            undo = remembered(strategy)
            with extra_memory() as taken:
                fresh, metrics, not_kept = self._aggregated(number, replies, bool(faults))
            if not_kept is not None:
                undo()
            kept = arrays if fresh is None else fresh
            evaluated, late = self._evaluated(number, kept) if enough else (None, [])
        silent = not_kept is not None and isinstance(strategy, HostedStrategy)
        return Exchanged(
            arrays=kept,
            train_loss=None if metrics is None else metrics.get("loss"),
            verdict=VerdictLine(round=number) if silent else verdict_line(strategy, number),
            client_metrics=client_metrics,
            failures=[*faults, *late],
            no_effect=no_effect,
            memory_bytes=memory_bytes,
            not_kept=not_kept,
            undo=undo,
            replies=_usable(replies),
            client_evaluation=evaluated,
            defence_mib=taken.mib,
        )

    def _ask(self, messages: Sequence[Message]) -> list[Message]:
        with self._profile.phase("transport"):
            limit_s = self._grid.round_limit_s(self._limit_s)
            replies = list(self._grid.send_and_receive(messages, timeout=limit_s))
        self._profile.move("transport", "training", self._grid.busy_s)
        return replies

    def _aggregated(
        self, number: int, replies: Sequence[Message], faulty: bool
    ) -> tuple[ArrayRecord | None, MetricRecord | None, str | None]:
        """Return the next model, None for the last one; the round's metrics; and why the last one stays."""
        usable, wanted = _usable(replies), fewest_updates(self._strategy)
        if not usable:
            return None, None, "no hospital sent a usable update"
        if len(usable) < wanted:
            return None, None, f"{len(usable)} of the {wanted} updates that the strategy needs can be used"
        try:
            fresh, metrics = self._strategy.aggregate_train(number, usable)
        except Exception as error:
            if not faulty:
                raise
            words = str(error) if isinstance(error, UserError) else place_of(error)
            return None, None, f"the strategy fails without the discarded updates: {last_line(words)}"
        if fresh is None:
            return None, metrics, None if metrics is not None else "the strategy returns no model"
        self._grid.check_model(fresh)
        if not all(np.isfinite(array.numpy()).all() for array in fresh.values()):
            return None, metrics, "the new model holds NaN or infinite values"
        return fresh, metrics, None

    def _evaluated(
        self, number: int, arrays: ArrayRecord
    ) -> tuple[Mapping[str, object] | None, list[ClientFailure]]:
        """Return what the hospitals' evaluation gave, and who failed in it; nothing where nobody is asked."""
        questions = list(self._strategy.configure_evaluate(number, arrays, ConfigRecord(), self._grid))
        if not questions:
            return None, []
        metrics = self._strategy.aggregate_evaluate(number, _usable(self._ask(questions)))
        failures = [
            ClientFailure(fault.client, f"in the evaluation: {fault.reason}") for fault in self._grid.faults
        ]
        return None if metrics is None else dict(metrics), failures


def _usable(replies: Sequence[Message]) -> list[Message]:
    """Return the replies without errors; some of Flower's strategies give up a round that has one."""
    return [reply for reply in replies if not reply.has_error()]


@contextmanager
def strategy_at_work(name: str, seed: int, number: int) -> Iterator[None]:
    """Seed the global generators that Flower's strategies sample with; name the strategy if it fails."""
    seeded = globally_seeded(seed, number, kinds=("sampling", "numpy-sampling"))
    fails = reraise_as_user_error(f"strategy '{name}' fails in round {number}")
    with fails, seeded, torch_seeded(seed, "torch-sampling", number):
        yield

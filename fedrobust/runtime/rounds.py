"""One round: the strategy's exchange with the hospitals, and the evaluation of the model that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import unpack
from fedrobust.flower.reply_checks import ClientFailure
from fedrobust.plugins import reraise_as_user_error
from fedrobust.printing import one_line
from fedrobust.results.records import ClientMetricsLine, RoundLine, VerdictLine
from fedrobust.results.round_lines import client_metrics_line, verdict_line
from fedrobust.runtime.observers import RoundOutcome
from fedrobust.runtime.peak_memory import extra_memory
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.setup import Setup
from fedrobust.scenario import Scenario
from fedrobust.seeding import globally_seeded

__all__ = ["Rounds"]


@dataclass(frozen=True)
class _Trained:
    """What a round's exchange gave, before the evaluation."""

    arrays: ArrayRecord
    train_loss: object
    verdict: VerdictLine
    client_metrics: ClientMetricsLine
    failures: Sequence[ClientFailure]
    no_effect_attacks: Sequence[str]
    no_effect_steps: Sequence[str]
    defence_mib: float | None


class Rounds:
    """Runs rounds, one at a time; keeps nothing of them.

    Parameters
    ----------
    setup : Setup
    grid : Grid
        The hospitals.
    profile : Profile
        Counts the time.
    """

    def __init__(self, setup: Setup, grid: Grid, profile: Profile) -> None:
        """Ask every node which hospital it is."""
        self._setup = setup
        self._profile = profile
        self._grid = ClientGrid(grid, setup.scenario.hospitals)
        self._grid.discover()
        setup.task.set_unknown(self._grid.own_data)

    def run(self, number: int, arrays: ArrayRecord, lr: float) -> RoundOutcome:
        """Return the outcome of a round that starts from a global model."""
        self._grid.set_expected_shapes(arrays)
        with self._profile.phase("aggregation"):
            trained = self._train(number, arrays, lr)
        with self._profile.phase("evaluation"):
            line = self._line(number, lr, trained, self._setup.task.evaluate(unpack(trained.arrays)))
        return RoundOutcome(
            line, trained.verdict, trained.client_metrics, trained.arrays, trained.defence_mib
        )

    def _train(self, number: int, arrays: ArrayRecord, lr: float) -> _Trained:
        """Let the strategy train one round."""
        setup, strategy, grid = self._setup, self._setup.strategy, self._grid
        if setup.server_data is not None:
            setup.server_data.lr = lr
        with _strategy_at_work(setup.scenario, number):
            messages = list(strategy.configure_train(number, arrays, ConfigRecord({"lr": lr}), grid))
            with self._profile.phase("transport"):
                replies = list(grid.send_and_receive(messages, timeout=self._timeout_s()))
            self._profile.move("transport", "training", grid.busy_s)
            failures, no_effect = grid.faults, self._no_effect_attacks(grid.no_effect)
            client_metrics = client_metrics_line(number, replies)
            with self._profile.phase("imports"):
                setup.preload()
            with extra_memory() as taken:
                fresh, metrics = strategy.aggregate_train(number, replies)
            if fresh is None:
                fresh = arrays
            questions = list(strategy.configure_evaluate(number, fresh, ConfigRecord(), grid))
            if questions:
                strategy.aggregate_evaluate(number, grid.send_and_receive(questions))
            grid.check_model(fresh)
        return _Trained(
            arrays=fresh,
            train_loss=None if metrics is None else metrics.get("loss"),
            verdict=verdict_line(strategy, number),
            client_metrics=client_metrics,
            failures=failures,
            no_effect_attacks=no_effect,
            no_effect_steps=setup.monitor.no_effect if setup.monitor else [],
            defence_mib=taken.mib,
        )

    def _no_effect_attacks(self, reported: Mapping[int, frozenset[str]]) -> list[str]:
        """Return the attacks that had no effect at any hospital; one that did not reply reports nothing."""
        attacks = self._setup.attacks
        every = frozenset().union(*attacks.values())
        effective = (names - reported.get(number, frozenset()) for number, names in attacks.items())
        return sorted(every.difference(*effective))

    def _timeout_s(self) -> float:
        """Return how long a round may take: a node may have to train several hospitals one by one."""
        return self._setup.scenario.execution.client_timeout * self._setup.scenario.hospitals

    @staticmethod
    def _line(number: int, lr: float, trained: _Trained, measured: Mapping[str, object]) -> RoundLine:
        return RoundLine.of(
            measured,
            round=number,
            lr=lr,
            train_loss=trained.train_loss,
            flagged=trained.verdict.flagged,
            no_effect_attacks=trained.no_effect_attacks,
            no_effect_steps=trained.no_effect_steps,
            # Cut: whatever a hospital writes there would stand in the file once a round.
            faults=[{"hospital": one.client, "reason": one_line(one.reason)} for one in trained.failures],
        )


@contextmanager
def _strategy_at_work(scenario: Scenario, number: int) -> Iterator[None]:
    """Seed the global generators that Flower's strategies sample with; name the strategy if it fails."""
    seeded = globally_seeded(scenario.seed, number, kinds=("sampling", "numpy-sampling"))
    with reraise_as_user_error(f"strategy '{scenario.strategy.text}' fails in round {number}"), seeded:
        yield

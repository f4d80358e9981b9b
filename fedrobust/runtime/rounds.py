"""One round: the strategy's exchange with the hospitals, and the evaluation of the model that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fedrobust.federation.participation import TakingPart
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import model_of, pack, unpack
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.printing import one_line
from fedrobust.results.records import RoundLine
from fedrobust.runtime.exchange import Exchange, Exchanged
from fedrobust.runtime.observers import RoundOutcome
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.setup import Setup

__all__ = ["Rounds"]


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
        scenario = setup.scenario
        clients = ClientGrid(grid, scenario.hospitals)
        clients.discover()
        clients.set_expected_metrics(
            setup.reported,
            finite=not isinstance(setup.strategy, HostedStrategy),
            # QFedAvg's, which weighs hospitals by a power of their loss.
            raised=getattr(setup.strategy, "train_loss_key", None),
        )
        setup.task.set_unknown(clients.own_data)
        self._exchange = Exchange(
            setup.strategy,
            scenario.strategy.text,
            clients,
            seed=scenario.seed,
            limit_s=scenario.execution.client_timeout,
            proximal_mu=scenario.proximal_mu,
            preload=setup.preload,
            profile=profile,
        )

    def run(self, number: int, arrays: ArrayRecord, lr: float) -> RoundOutcome:
        """Return the outcome of a round that starts from a global model.

        A model whose validation loss is not a finite number is of no use to the next round: the last one is
        kept then, as where the exchange gives none.
        """
        if self._setup.server_data is not None:
            self._setup.server_data.lr = lr
        with self._profile.phase("aggregation"):
            exchanged = self._exchange.run(number, arrays, lr, self._taking_part(number))
            trained = self._settled(number, arrays, exchanged)
        if self._setup.scenario.data.site_tests:
            models = {ClientGrid.hospital_of(reply): model_of(reply) for reply in exchanged.replies}
            self._setup.task.set_hospital_models(models)
        with self._profile.phase("evaluation"):
            line = self._evaluated(number, lr, trained)
            if trained.not_kept is None and self._setup.task.validation_loss(line) is None:
                why = "the validation loss of the new model is not a finite number"
                trained = trained.without_model(arrays, why)
                line = self._evaluated(number, lr, trained)
        return RoundOutcome(
            line, trained.verdict, trained.client_metrics, trained.arrays, trained.defence_mib
        )

    def _settled(self, number: int, sent: ArrayRecord, trained: Exchanged) -> Exchanged:
        """Return the round with what the learner keeps of its model: a pruned one loses weights."""
        if self._setup.scenario.learner.pruning is None:
            return trained
        kept = self._setup.task.learner.settled(unpack(trained.arrays), unpack(sent), number)
        return replace(trained, arrays=pack(kept))

    def _taking_part(self, number: int) -> TakingPart | None:
        """Return who takes part in a round; None where all always do."""
        plan = self._setup.scenario.participation
        return None if plan.is_complete else plan.of(number, self._setup.data.sizes)

    def _no_effect_attacks(self, reported: Mapping[int, frozenset[str]]) -> list[str]:
        """Return the attacks that had no effect at any hospital; one that did not reply reports nothing."""
        attacks = self._setup.attacks
        every = frozenset().union(*attacks.values())
        effective = (names - reported.get(number, frozenset()) for number, names in attacks.items())
        return sorted(every.difference(*effective))

    def _evaluated(self, number: int, lr: float, trained: Exchanged) -> RoundLine:
        """Evaluate the model and return the round's line."""
        monitor, part = self._setup.monitor, self._taking_part(number)
        return RoundLine.of(
            self._setup.task.evaluate(unpack(trained.arrays)),
            round=number,
            lr=lr,
            train_loss=trained.train_loss,
            flagged=trained.verdict.flagged,
            no_effect_attacks=self._no_effect_attacks(trained.no_effect),
            no_effect_steps=monitor.no_effect if monitor else [],
            # Cut: whatever a hospital writes there would stand in the file once a round.
            faults=[{"hospital": one.client, "reason": one_line(one.reason)} for one in trained.failures],
            asked=None if part is None else part.asked,
            absent=[] if part is None else [{"hospital": h, "reason": r} for h, r in part.absent.items()],
            memory_bytes=trained.memory_bytes or None,
            not_kept=trained.not_kept,
            client_evaluation=trained.client_evaluation,
        )

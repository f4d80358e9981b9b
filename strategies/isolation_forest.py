"""Isolation-forest weighting by losses and by ties between hospitals, and a step of the server's own."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.aggregation.own_training import after_own_training
from fedrobust.federation import Defence, DifferentiableServerData, Model, State, Updates, Vector, Verdict
from fedrobust.scoring.anomaly import tail_probabilities
from fedrobust.scoring.class_losses import plausible_num_examples, reported_excess, robust_z_scores
from fedrobust.scoring.server_audit import audit_updates
from fedrobust.scoring.ties import TieMemory, most_tied, residual_cosines, shared_help

__all__ = ["IsolationForestWeighting"]

Floats = NDArray[np.float64]

#: The smallest standard deviation of reported losses between hospitals, as a share of the typical loss.
LOSS_FLOOR = 0.15
#: The same for the audit, in cosines: .03 to .06 where they are alike (brain_mri4_28, pneumoniamnist, iid).
AUDIT_FLOOR = 0.05


class IsolationForestWeighting(Defence):
    """Lowers the weight of hospitals with persistently anomalous losses or with a common aim of their own.

    Algorithm
    ---------
    The weight of an update longer than the median is reduced by as much as clipping would shorten it, and
    weights before the verdict are half uniform, half by reported images, bounded: whatever the evidence, no
    hospital moves the mean by much more than another.

    Two kinds of evidence are averaged over rounds. *Losses*: the reported losses of the received model and of
    the last epoch, compared class by class, the lower of the two; and the audit, what the update does to the
    class-balanced loss on the server's images to first order, net of what it helps a class. Both are robust
    z-scores over the round's hospitals. An isolation forest, fitted on drawn benign hospitals some of which
    are permanently atypical, scores the two; the p-value is the share of these with at least this score.
    *Ties*: the cosines between what remains of two updates without the others' mean direction. Benign
    hospitals have none, attackers with a common aim have positive ones in every round. A class that both
    hospitals help at no greater cost to the others explains a tie; nothing that they report does.

    p is twice the lower of the two p-values. A hospital is flagged if p < false_flag_rate; its weight is then
    multiplied by (p / false_flag_rate)^2, until its evidence fades. Ties take up to half of it before that.

    The server then trains the new model on its own images as a hospital would, for one epoch, and the model
    goes a part of the way, `server_step`: towards labels that nobody can have poisoned.

    Parameters
    ----------
    false_flag_rate : float
        Share of benign hospitals that would be flagged in a round if they were like the reference, in (0,
        0.5].
    memory : float
        Weight of the past in the moving averages, in [0, 1).
    audit : float
        Share of the server's validation part that the rule evaluates and trains on, in [0, 1]. With 0, as
        with a server without images, the audit and the server's step are left out and no tie is explained.
    server_step : float
        How far the model goes towards what the server's own training makes of it, in [0, 1].

    Notes
    -----
    Breakdown point: medians hold while the attackers are well below half of the hospitals; at most a third
    lose weight by ties. Cost: O(n^2 d + K n d), one pass over half of the server's images, the other half in
    the next round, and one epoch of training on all; of the history only sums by hospital and by pair are
    kept. With fewer than 4 hospitals there is no deviation to compare with and nobody is flagged. The
    reasoning and the measurements are in docs/detection.md.

    References
    ----------
    Liu, Ting and Zhou, "Isolation forest", ICDM 2008.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"loss", "num_examples"})

    def __init__(
        self,
        false_flag_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.01,
        memory: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        audit: Annotated[float, Field(ge=0, le=1)] = 0.5,
        server_step: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self.false_flag_rate = false_flag_rate
        self.memory = memory
        self.server_step = server_step
        self.server_share = audit
        #: By hospital: the decayed number of rounds, then the decayed sum of each feature over them.
        self._sums: dict[int, list[float]] = {}
        self._trust: dict[int, float] = {}
        self._ties = TieMemory(memory)

    def preload(self) -> None:
        """Import scikit-learn's forest."""
        import sklearn.ensemble  # noqa: F401

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean by the verdict's weights, with a long update's weight reduced by its length."""
        verdict = self.weigh(updates)
        weight = np.asarray(verdict.weight) * self._factors(updates)
        return updates.combination(weight / weight.sum()), verdict

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the tail probability of each hospital's evidence."""
        initial = _initial_weights(updates)
        weight = initial * [self._trust.get(node, 1.0) for node in updates.nodes]
        if len(updates) < 4:
            return Verdict(weight)
        harm, classes = self._audited(updates, weight)
        average = self._remembered(updates, np.column_stack([self._reported(updates), harm, classes]))
        tie, single = self._tied(updates, weight, average[:, 2:])
        by_losses = tail_probabilities(average[:, :2])
        by_ties = np.minimum(1.0, single * math.comb(len(updates), 2))
        # Two tests, so either counts twice its probability (Bonferroni), as a tie counts for each pair.
        p = np.minimum(1.0, 2 * np.minimum(by_losses, by_ties))
        trust = np.minimum(1.0, p / self.false_flag_rate) ** 2 * self._suspected(single)
        self._trust.update(zip(updates.nodes, trust.tolist(), strict=True))
        flagged = p < self.false_flag_rate
        why = [
            _reasons(row[0], row[1], strongest) if flag else ""
            for row, strongest, flag in zip(average, tie, flagged, strict=True)
        ]
        return Verdict(initial * trust, np.abs(np.log10(p)), flagged, why)

    def repair(self, model: Model) -> Model:
        """Return the model on its way to what the server's own training makes of it."""
        if self.server is None or not self.server_share * self.server_step:
            return model
        return after_own_training(model, self.server, self.server_step)

    def _audited(self, updates: Updates, weight: Floats) -> tuple[Floats, Floats]:
        """Return robust z-scores of the harm, shape (n,), and the class cosines, (n, K); 0 without images."""
        if not self.server_share or not isinstance(self.server, DifferentiableServerData):
            return np.zeros(len(updates)), np.zeros((len(updates), 1))
        harm, classes = audit_updates(updates, self.server, weight, self._factors(updates))
        return robust_z_scores(harm, AUDIT_FLOOR), classes

    def _tied(self, updates: Updates, weight: Floats, classes: Floats) -> tuple[Floats, Floats]:
        """Return each hospital's strongest tie, a z-score, and the probability of such a one, shape (n,)."""
        cosines = residual_cosines(updates.gram(), weight * self._factors(updates))
        scores = self._ties.add(updates.nodes, cosines, shared_help(classes))
        strongest = scores.max(axis=1)
        tail = np.array([0.5 * math.erfc(score / math.sqrt(2)) for score in strongest])
        return strongest, np.where(most_tied(scores), np.maximum(tail, 1e-12), 1.0)

    def _reported(self, updates: Updates) -> Floats:
        """Return the robust z-scores of the two reported losses, the lower of each hospital, shape (n,)."""
        named = (("class-losses", "received-loss"), ("class-epoch-losses", "loss"))
        reports = [reported_excess(updates, by_class, plain) for by_class, plain in named]
        known = [(loss, LOSS_FLOOR * abs(typical)) for loss, typical in reports if np.isfinite(loss).any()]
        scores = [robust_z_scores(loss, floor) for loss, floor in known]
        return np.min(scores, axis=0) if scores else np.zeros(len(updates))

    def _factors(self, updates: Updates) -> Floats:
        """Return the factors that would leave no update longer than the median one, shape (n,)."""
        norms = updates.norms()
        bound = float(np.median(norms))
        return clip_factors(norms, bound) if bound > 0 else np.ones(len(norms))

    def _suspected(self, single: Floats) -> Floats:
        """Return the part of the weight that ties leave before they flag, shape (n,), at least half."""
        return 0.5 + 0.5 * np.minimum(1.0, single / self.false_flag_rate)

    def _remembered(self, updates: Updates, features: Floats) -> Floats:
        """Add this round's features to the evidence; return the moving averages, of the features' shape.

        They count as if one round without evidence had gone before: a single round proves little.
        """
        averages = []
        for node, row in zip(updates.nodes, features.tolist(), strict=True):
            before = self._sums.get(node, [0.0] * (len(row) + 1))
            now = [self.memory * old + new for old, new in zip(before, [1.0, *row], strict=True)]
            self._sums[node] = now
            averages.append([total / (now[0] + 1) for total in now[1:]])
        return np.array(averages)

    def state(self) -> State:
        """Return the evidence and the trust by hospital."""
        return {"sums": self._sums, "trust": self._trust, "ties": self._ties.state()}

    def load_state(self, state: State) -> None:
        """Take back the evidence and the trust by hospital."""
        self._sums, self._trust = dict(state["sums"]), dict(state["trust"])
        self._ties.load_state(state["ties"])


def _initial_weights(updates: Updates) -> Floats:
    """Return the weights before the verdict, in uniform weights: half uniform, half by reported images."""
    images = plausible_num_examples(updates)
    return np.asarray(0.5 + 0.5 * images / images.mean()) if images.any() else np.ones(len(updates))


def _reasons(reported: float, harm: float, tie: float) -> str:
    """Return the evidence against a hospital, the strongest first."""
    kinds = ("reported losses", "harm on the server's images", "tie to another hospital")
    found = sorted(zip((reported, harm, tie), kinds, strict=True), reverse=True)
    return "; ".join(f"{kind}: robust z-score {value:.1f}" for value, kind in found if value > 1)

"""Isolation-forest weighting by reported losses, a server audit and update behaviour."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.federation import Defence, ServerData, State, Updates, Vector, Verdict
from fedrobust.scoring.anomaly import tail_probabilities
from fedrobust.scoring.class_losses import (
    CEILING,
    class_counts,
    class_excess,
    images_mean,
    plausible_num_examples,
    reported_excess,
    robust_z_scores,
)
from fedrobust.scoring.server_audit import Audit, audit_updates, balanced_loss, domain_shift_ratio
from fedrobust.scoring.update_geometry import cosine_to_others, excess_length, lack_of_direction
from fedrobust.scoring.weight_search import search_weights

__all__ = ["IsolationForestWeighting"]

Floats = NDArray[np.float64]

#: The features, in the words of a verdict. Without images of the server's own, the four that need some stay
#: 0.
FEATURES = (
    *("loss of the received model", "training loss"),
    *(
        "loss of its model on the server's images",
        "loss of the others' mean when it joins",
        "cosine deviation from the others",
    ),
    *("lack of direction", "length"),
    "another scanner",
)
#: The smallest standard deviations for the robust z-scores: a share of the typical loss for losses, absolute
#: for cosines and for logarithms of lengths.
RECEIVED, EPOCH, OWN, HARM, ANGLE, LENGTH = 0.1, 0.15, 0.15, 0.01, 0.1, 0.25
#: A hospital with records of at least this robust z-score is evaluated under other scanners' domain shifts.
#: It is taken to have another scanner if its model's loss falls below the first share of the loss on the
#: server's own images, with certainty from the second share on.
ANOMALOUS, ELSEWHERE = 1.5, (0.8, 0.6)
#: Updates longer than so many times the median are clipped to that.
CLIP = 3.0
#: Bounds on the searched weights, in uniform weights (1/n); trust below 1 lowers both. The first is slightly
#: more than a half, so that rounding leaves no hospital less.
LEAST, MOST = 0.5 + 1e-9, 3.0
#: Evidence counts in full from about so many rounds on.
ROUNDS = 4.0


class IsolationForestWeighting(Defence):
    """Lowers the weight of hospitals with persistently anomalous reports, models or updates.

    Algorithm
    ---------
    In each round, features of each hospital become robust z-scores over the hospitals. Two kinds of evidence
    are sums of their moving averages over rounds. *Records*: the losses that it reports of the received model
    and of its last epoch, compared class by class, mainly the lower of the two; and the loss of its own model
    on the server's images of the classes that it reports to hold, as far as the reported loss does not
    explain it. Neither counts as far as another scanner explains it: as far as its model fits the server's
    images better under that scanner's domain shift. *Update behaviour*: the increase of the loss of the
    others' mean on those classes when the hospital joins, the cosine deviation of its update from theirs,
    whether the update has no more direction than noise, and whether it is longer than its number of images
    explains.

    An isolation forest, fitted on a drawn reference of benign hospitals some of which are permanently
    atypical, scores both kinds and their sum, each divided by its own deviation between the hospitals; p is
    the share of the reference with at least this score. A hospital is flagged if p < false_flag_rate and its
    weight is then multiplied by (p / false_flag_rate)^2, until its evidence fades.

    The weight before that is half the uniform weight (1/n), half by reported images, bounded. From there a
    search for a lower class-balanced loss on the server's images makes it larger or smaller, between half the
    uniform weight and three times it; FedLAW (Li et al., ICML 2023) learns weights on a proxy data set too,
    but by gradients, not by evaluations.

    Parameters
    ----------
    false_flag_rate : float
        Share of the reference's benign hospitals that would be flagged, in (0, 0.5].
    memory : float
        Weight of the past in the moving average, in [0, 1).
    audit : float
        Share of the server's validation part that the rule evaluates on, in [0, 1]. With 0, as with a server
        without images, the four features that need some are left out and the weights are not searched.

    Notes
    -----
    Breakdown point: medians hold while the attackers are well below half of the hospitals. Cost: O(n^2 d) and
    at most 3n + 3 evaluations of the server's images, one more for each hospital that is not fully trusted,
    and six of some of them for each one with anomalous records; no history but the evidence. It needs 4
    hospitals or more; with fewer there is no deviation to compare with, no hospital is flagged and the
    weights are not searched. The reasoning and the measurements are in docs/detection.md.

    References
    ----------
    Liu, Ting and Zhou, "Isolation forest", ICDM 2008.

    Li et al., "Revisiting weighted aggregation in federated learning with neural networks", ICML 2023.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"loss", "num_examples"})

    def __init__(
        self,
        false_flag_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.01,
        memory: Annotated[float, Field(ge=0, lt=1)] = 0.8,
        audit: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        """Keep the options."""
        self.false_flag_rate = false_flag_rate
        self.memory = memory
        self.server_share = audit
        #: By hospital: the decayed number of rounds, then the decayed sum of each feature over them.
        self._sums: dict[int, list[float]] = {}
        self._trust: dict[int, float] = {}

    def preload(self) -> None:
        """Import scikit-learn's forest."""
        import sklearn.ensemble  # noqa: F401

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean by the verdict's weights, with clipped updates."""
        verdict = self.weigh(updates)
        weight = np.asarray(verdict.weight)
        return updates.combination(weight / weight.sum() * _clip_factors(updates)), verdict

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the tail probability of each hospital's evidence."""
        initial = _initial_weights(updates)
        if len(updates) < 4:
            return Verdict(initial * self._trusted(updates))
        audit = self._audit(updates)
        average = self._remembered(updates, self._features(updates, audit))
        p = tail_probabilities(_evidence(average))
        flagged = p < self.false_flag_rate
        trust = np.minimum(1.0, p / self.false_flag_rate) ** 2
        self._trust.update(zip(updates.nodes, trust.tolist(), strict=True))
        why = [_reasons(row) if flag else "" for row, flag in zip(average, flagged, strict=True)]
        weight = initial * trust
        if audit is not None:
            weight = self._searched(updates, audit, weight, trust)
        return Verdict(weight, np.abs(np.log10(p)), flagged, why)

    def _audit(self, updates: Updates) -> Audit | None:
        """Return the losses of each update on the server's images; None without images."""
        if self.server is None or not self.server_share:
            return None
        classes = _held(updates, self.server).shape[1]
        return audit_updates(updates, self.server, self._trusted(updates), _clip_factors(updates), classes)

    def _searched(self, updates: Updates, audit: Audit, weight: Floats, trust: Floats) -> Floats:
        """Return weights within bounds that lower the server's loss, from these or from uniform ones."""
        server, factor, classes = self.server, _clip_factors(updates), audit.own.shape[1]
        assert server is not None

        def loss(weight: Floats) -> float:
            found = updates.combination(weight * factor)
            return balanced_loss(server, found, updates.mean_buffers(weight), classes)

        least, most = LEAST * trust / len(trust), MOST * trust / trust.sum()
        return search_weights(loss, (weight, trust), least, most, np.nanmean(audit.harm, axis=1))

    def _features(self, updates: Updates, audit: Audit | None) -> Floats:
        """Return this round's features, robust z-scores, shape (n, len(FEATURES))."""
        received, level = reported_excess(updates, "class-losses", "received-loss")
        epoch, epoch_level = reported_excess(updates, "class-epoch-losses", "loss")
        if not np.isfinite(epoch).any():
            epoch, epoch_level = received, level
        elif not np.isfinite(received).any():
            received, level = epoch, epoch_level
        reported = (
            robust_z_scores(received, RECEIVED * abs(level)),
            robust_z_scores(epoch, EPOCH * abs(epoch_level)),
        )
        gram = updates.gram()
        noise = lack_of_direction(gram, updates.dimension, CEILING)
        length = robust_z_scores(excess_length(updates.norms(), plausible_num_examples(updates)), LENGTH)
        own, harm, deviation, scanner = self._audited_features(updates, audit, gram, reported)
        return np.column_stack([*reported, own, harm, deviation, noise, length, scanner])

    def _audited_features(
        self, updates: Updates, audit: Audit | None, gram: Floats, reported: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the features that need the server's images, shape (n,) each; zeros without them.

        The loss of each hospital's model, the increase of the others' mean's loss when it joins, its cosine
        deviation from them, and, if its records are anomalous, how surely it has another scanner, in [0, 1].
        """
        if audit is None or self.server is None:
            none = np.zeros(len(updates))
            return none, none, none, none
        held = _held(updates, self.server)
        # A class of which the server holds no image does not count.
        own = robust_z_scores(np.nan_to_num(class_excess(audit.own, held)), OWN * audit.level)
        harm = robust_z_scores(np.nan_to_num(images_mean(audit.harm, held)), HARM * audit.level)
        # Only beside the audit, which shows whom it helps: the only hospital holding a class deviates the
        # most.
        weight = self._trusted(updates) * _clip_factors(updates)
        deviation = robust_z_scores(-cosine_to_others(gram, weight), ANGLE)
        anomalous = np.maximum(np.minimum(*reported), _unexplained(own, reported[0])) > ANOMALOUS
        ratio = domain_shift_ratio(updates, self.server, held, anomalous)
        least, most = ELSEWHERE
        return own, harm, deviation, np.clip((least - ratio) / (least - most), 0.0, 1.0)

    def _trusted(self, updates: Updates) -> Floats:
        """Return the trust after the last round, shape (n,): 1 for a hospital that is not flagged or new."""
        return np.array([self._trust.get(node, 1.0) for node in updates.nodes])

    def _remembered(self, updates: Updates, features: Floats) -> Floats:
        """Add this round's features to the evidence; return the moving averages, of the features' shape."""
        enough = min(ROUNDS, 1 / (1 - self.memory))
        averages = []
        for node, row in zip(updates.nodes, features.tolist(), strict=True):
            before = self._sums.get(node, [0.0] * (len(row) + 1))
            now = [self.memory * old + new for old, new in zip(before, [1.0, *row], strict=True)]
            self._sums[node] = now
            averages.append([total / max(now[0], enough) for total in now[1:]])
        return np.array(averages)

    def state(self) -> State:
        """Return the evidence and the trust by hospital."""
        return {"sums": self._sums, "trust": self._trust}

    def load_state(self, state: State) -> None:
        """Take back the evidence and the trust by hospital."""
        self._sums, self._trust = dict(state["sums"]), dict(state["trust"])


def _held(updates: Updates, server: ServerData) -> Floats:
    """Return how many images of each class each hospital reports, shape (n, K)."""
    counts = class_counts(updates)
    # A hospital that reports none is evaluated on all classes.
    held = np.zeros((len(updates), int(server.labels.max()) + 1)) if counts is None else counts
    return np.where(held.sum(axis=1, keepdims=True) > 0, held, 1.0)


def _evidence(average: Floats) -> Floats:
    """Return the evidence against each hospital's records and update behaviour, shape (n, 2)."""
    received, epoch, own, harm, deviation, noise, length, scanner = average.T
    doubt = np.maximum(received, 0.0)
    # With another scanner, the received model fits a hospital's records badly and its model fits the server's
    # images badly. But the epoch's loss falls, its update agrees with the others', and its model fits the
    # server's images better under that scanner's domain shift, which is not so with wrong labels or noise.
    records = np.maximum(np.minimum(received, epoch), 0.0)
    records += 0.5 * np.maximum(received - 3.0, 0.0) * np.clip(deviation / 2, 0.0, 1.0) ** 2
    # A loss on the server's images that such records do not explain is a contradiction.
    records = (records + _unexplained(own, received)) * (1 - scanner)
    # Help, the opposite of harm, counts in favour of a hospital, the less the more its records are in doubt.
    # It also explains the deviation of a hospital that has learned what the others have not, and there counts
    # twice more.
    help = np.minimum(harm, 0.0) * np.clip(1 - doubt / 5, 0.0, 1.0)
    deviated = np.where(deviation > 0, np.maximum(deviation + 2 * help, 0.0), deviation)
    behaviour = np.maximum(harm - doubt, 0.0) + help + deviated + noise + np.maximum(length, 0.0)
    return np.column_stack([records, behaviour])


def _unexplained(own: Floats, received: Floats) -> Floats:
    """Return the part of a model's loss on the server's images that a high received loss does not explain."""
    return np.asarray(np.maximum(own - 2 * np.maximum(received, 0.0), 0.0))


def _clip_factors(updates: Updates) -> Floats:
    """Return the factors that leave no update longer than CLIP medians, shape (n,)."""
    norms = updates.norms()
    bound = CLIP * float(np.median(norms))
    return clip_factors(norms, bound) if bound > 0 else np.ones(len(norms))


def _initial_weights(updates: Updates) -> Floats:
    """Return the weights before the verdict, in uniform weights: half uniform, half by reported images."""
    images = plausible_num_examples(updates)
    if not images.any():
        return np.ones(len(updates))
    return np.asarray(0.5 + 0.5 * images / images.mean())


def _reasons(row: Floats) -> str:
    """Return the features with the highest evidence against a hospital."""
    most = np.argsort(-row, kind="stable")[:3]
    return "; ".join(f"{FEATURES[k]}: robust z-score {row[k]:.1f}" for k in most if row[k] > 1)

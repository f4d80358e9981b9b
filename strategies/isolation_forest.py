"""Isolation-forest weighting: what hospitals claim, what the server sees, and a reference of honest but odd ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.aggregation.clipping import clip_factors
from fedrobust.errors import UserError
from fedrobust.federation import Defence, ServerData, Updates, Vector, Verdict
from fedrobust.scoring.anomaly import tails
from fedrobust.scoring.class_losses import (
    CEILING,
    believable,
    class_counts,
    class_excess,
    images_mean,
    reported_excess,
    spreads,
)
from fedrobust.scoring.server_audit import Audit, audited, balanced_loss, loss_elsewhere
from fedrobust.scoring.update_geometry import excess_length, towards_others, undirected
from fedrobust.scoring.weight_search import best_shares

__all__ = ["IsolationForestWeighting"]

Floats = NDArray[np.float64]

#: What is looked at, in the words of a verdict. Without images of the server's own, the four that need some
#: stay 0.
FEATURES = (
    *("loss of the received model", "training loss"),
    *(
        "loss of its model on the server's images",
        "loss of the others' mean when it joins",
        "turn from the others",
    ),
    *("lack of direction", "length"),
    "another scanner",
)
#: The spread between hospitals counts as no smaller than this: a share of the typical loss for losses,
#: outright for cosines and for logarithms of lengths.
RECEIVED, EPOCH, OWN, HARM, ANGLE, LENGTH = 0.1, 0.15, 0.15, 0.01, 0.1, 0.25
#: Whose records are so many spreads odd is looked at through other scanners. He is taken to have one of them
#: where his model's loss falls to less than a share of that on the server's own images: beyond doubt from the
#: second share on.
ODD, ELSEWHERE = 1.5, (0.8, 0.6)
#: Updates longer than so many times the median are shortened to that.
CLIP = 3.0
#: Shares that the server's images choose lie between these, in fair ones; the trust that is left lowers both.
#: The first is a hair more than a half, so that rounding leaves nobody less.
LEAST, MOST = 0.5 + 1e-9, 3.0
#: Evidence counts in full from about so many rounds on.
ROUNDS = 4.0


class IsolationForestWeighting(Defence):
    """Lowers the weight of hospitals whose claims, models or updates stay odd, judged by an isolation forest.

    Each round, features of each hospital are put in robust spreads above the others. Two kinds of evidence
    are sums of their moving averages over rounds. *Records*: the losses that it reports of the received model
    and of its last epoch, compared class by class, mainly the lower of the two; and the loss of its own model
    on the server's images of the classes that it claims to hold, as far as the reported loss does not explain
    it; neither counts as far as another scanner explains it, through which its model fits the server's images
    better. *Conduct*: what the others' mean loses on those classes when the hospital joins, how far its
    update turns from theirs, whether it has no more direction than noise, and whether it is longer than its
    number of images explains. An isolation forest (Liu et al., ICDM 2008), fitted on a drawn reference of
    honest hospitals some of which are odd for good, scores both kinds and their sum, each held against its
    own spread between the hospitals; p is the share of the reference that scores as high. A hospital is
    flagged where p < false_flag_rate and then weighs (p / false_flag_rate)^2 of its share, until its evidence
    fades. The share is half a fair one, half by claimed images, those bounded. From there a search for a
    lower class-balanced loss on the server's images makes it larger or smaller, between half a fair share and
    three, as FedLAW (Li et al., ICML 2023) learns weights on a proxy data set, though by looks and not by
    gradients. The reasoning and the measurements are in docs/detection.md.

    Complexity O(n^2 d) and at most 3n + 3 looks at the server's images, one more for each hospital that is
    not fully trusted, and six at some of them for each one whose records are odd; no history but the
    evidence. Works for 4 hospitals or more; with fewer there is no spread to compare with, nobody is judged
    and shares stay as they are.

    Parameters
    ----------
    false_flag_rate : float
        Share of the reference's honest hospitals that would be flagged, in (0, 0.5].
    memory : float
        Weight of the past in the moving average, in [0, 1).
    audit : float
        Share of the server's validation part that the rule looks at, in [0, 1]. With 0, as with a server
        without images, the four features that need some are left out and shares stay as they are.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"loss", "num_examples"})

    def __init__(self, false_flag_rate: float = 0.01, memory: float = 0.8, audit: float = 0.5) -> None:
        """Check the options."""
        if not 0 < false_flag_rate <= 0.5:
            raise UserError(
                f"isolation-forest: false_flag_rate is {false_flag_rate}, but must lie in (0, 0.5]"
            )
        if not 0 <= memory < 1:
            raise UserError(f"isolation-forest: memory is {memory}, but must lie in [0, 1)")
        if not 0 <= audit <= 1:
            raise UserError(f"isolation-forest: audit is {audit}, but must lie in [0, 1]")
        self.false_flag_rate = false_flag_rate
        self.memory = memory
        self.server_share = audit
        #: By hospital: how many rounds count, then the sum of each feature over them, the older ones less.
        self._sums: dict[int, list[float]] = {}
        self._trust: dict[int, float] = {}

    def preload(self) -> None:
        """Import scikit-learn's forest."""
        import sklearn.ensemble  # noqa: F401

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        """Return the mean by the verdict's weights, updates that are far too long shortened."""
        verdict = self.weigh(updates)
        share = np.asarray(verdict.weight)
        return updates.combination(share / share.sum() * _shortened(updates)), verdict

    def weigh(self, updates: Updates) -> Verdict:
        """Return weights by the tail probability of each hospital's evidence."""
        share = _sizes(updates)
        if len(updates) < 4:
            return Verdict(share * self._trusted(updates))
        seen = self._look(updates)
        average = self._remembered(updates, self._features(updates, seen))
        p = tails(_evidence(average))
        flagged = p < self.false_flag_rate
        trust = np.minimum(1.0, p / self.false_flag_rate) ** 2
        self._trust.update(zip(updates.nodes, trust.tolist(), strict=True))
        why = [_words(row) if flag else "" for row, flag in zip(average, flagged, strict=True)]
        weight = share * trust if seen is None else self._chosen(updates, seen, share * trust, trust)
        return Verdict(weight, np.abs(np.log10(p)), flagged, why)

    def _look(self, updates: Updates) -> Audit | None:
        """Return what the server sees of each update; None without images."""
        if self.server is None or not self.server_share:
            return None
        classes = _held(updates, self.server).shape[1]
        return audited(updates, self.server, self._trusted(updates), _shortened(updates), classes)

    def _chosen(self, updates: Updates, seen: Audit, share: Floats, trust: Floats) -> Floats:
        """Return the shares within bounds that the server's images choose, from those given or from equal ones."""
        server, factor, classes = self.server, _shortened(updates), seen.own.shape[1]
        assert server is not None

        def loss(weight: Floats) -> float:
            found = updates.combination(weight * factor)
            return balanced_loss(server, found, updates.mean_buffers(weight), classes)

        least, most = LEAST * trust / len(trust), MOST * trust / trust.sum()
        return best_shares(loss, (share, trust), least, most, np.nanmean(seen.harm, axis=1))

    def _features(self, updates: Updates, seen: Audit | None) -> Floats:
        """Return this round's features in spreads above the others, shape (n, len(FEATURES)), in [-CEILING, CEILING]."""
        received, level = reported_excess(updates, "class-losses", "received-loss")
        epoch, epoch_level = reported_excess(updates, "class-epoch-losses", "loss")
        if not np.isfinite(epoch).any():
            epoch, epoch_level = received, level
        elif not np.isfinite(received).any():
            received, level = epoch, epoch_level
        claims = spreads(received, RECEIVED * abs(level)), spreads(epoch, EPOCH * abs(epoch_level))
        gram = updates.gram()
        noise = undirected(gram, updates.dimension, CEILING)
        length = spreads(excess_length(updates.norms(), believable(updates)), LENGTH)
        own, harm, turn, scanner = self._checked(updates, seen, gram, claims)
        return np.column_stack([*claims, own, harm, turn, noise, length, scanner])

    def _checked(
        self, updates: Updates, seen: Audit | None, gram: Floats, claims: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return what the server's look says of each hospital, shape (n,) each.

        Its model's loss, what the others' mean loses by it, how far it turns from them, and, where its
        records are odd, how surely it has another scanner, in [0, 1].
        """
        if seen is None or self.server is None:
            none = np.zeros(len(updates))
            return none, none, none, none
        held = _held(updates, self.server)
        # What the server holds no image of, it cannot judge.
        own = spreads(np.nan_to_num(class_excess(seen.own, held)), OWN * seen.level)
        harm = spreads(np.nan_to_num(images_mean(seen.harm, held)), HARM * seen.level)
        # Without the server's look at whom it helps, a hospital that alone knows a class would turn the most.
        turn = spreads(-towards_others(gram, self._trusted(updates) * _shortened(updates)), ANGLE)
        odd = np.maximum(np.minimum(*claims), _unexplained(own, claims[0])) > ODD
        ratio = loss_elsewhere(updates, self.server, held, odd)
        least, most = ELSEWHERE
        return own, harm, turn, np.clip((least - ratio) / (least - most), 0.0, 1.0)

    def _trusted(self, updates: Updates) -> Floats:
        """Return the last judgement of each hospital, shape (n,): 1 for one that is not flagged or new."""
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

    def state(self) -> dict[str, Any]:
        """Return the evidence and the trust by hospital."""
        return {"sums": self._sums, "trust": self._trust}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back the evidence and the trust by hospital."""
        self._sums, self._trust = dict(state["sums"]), dict(state["trust"])


def _held(updates: Updates, server: ServerData) -> Floats:
    """Return how many images of each class each hospital says it holds, shape (n, K)."""
    counts = class_counts(updates)
    # A hospital that does not say what it holds is looked at on everything.
    held = np.zeros((len(updates), int(server.labels.max()) + 1)) if counts is None else counts
    return np.where(held.sum(axis=1, keepdims=True) > 0, held, 1.0)


def _evidence(average: Floats) -> Floats:
    """Return the evidence against each hospital's records and conduct, shape (n, 2)."""
    received, epoch, own, harm, turn, noise, length, scanner = average.T
    doubt = np.maximum(received, 0.0)
    # Another scanner makes a hospital's records fit the received model badly and its model fit the server's
    # images badly. But it learns them within the epoch, its update goes with the others', and its model fits
    # the server's images better as another scanner would give them, which wrong labels or noise do not bring
    # about.
    claims = np.maximum(np.minimum(received, epoch), 0.0)
    claims += 0.5 * np.maximum(received - 3.0, 0.0) * np.clip(turn / 2, 0.0, 1.0) ** 2
    # A contradiction is what such records do not explain.
    records = (claims + _unexplained(own, received)) * (1 - scanner)
    # Help, the opposite of harm, counts for a hospital, the less the more its records are in doubt. It
    # explains why one turns from the others that knows what they do not, and there it counts twice more.
    help = np.minimum(harm, 0.0) * np.clip(1 - doubt / 5, 0.0, 1.0)
    turned = np.where(turn > 0, np.maximum(turn + 2 * help, 0.0), turn)
    conduct = np.maximum(harm - doubt, 0.0) + help + turned + noise + np.maximum(length, 0.0)
    return np.column_stack([records, conduct])


def _unexplained(own: Floats, received: Floats) -> Floats:
    """Return what a high loss of the received model does not explain of a model's loss on the server's images."""
    return np.asarray(np.maximum(own - 2 * np.maximum(received, 0.0), 0.0))


def _shortened(updates: Updates) -> Floats:
    """Return the factor that leaves no update longer than CLIP medians, shape (n,)."""
    norms = updates.norms()
    bound = CLIP * float(np.median(norms))
    return clip_factors(norms, bound) if bound > 0 else np.ones(len(norms))


def _sizes(updates: Updates) -> Floats:
    """Return each hospital's share before judgement, in fair shares: half of it fair, half by claimed images, bounded."""
    claimed = believable(updates)
    if not claimed.any():
        return np.ones(len(updates))
    return np.asarray(0.5 + 0.5 * claimed / claimed.mean())


def _words(row: Floats) -> str:
    """Return the features that speak most against a hospital."""
    most = np.argsort(-row, kind="stable")[:3]
    return "; ".join(f"{FEATURES[k]} {row[k]:.1f} spreads high" for k in most if row[k] > 1)

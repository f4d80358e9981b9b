"""The supervised losses of a classifier's scores, and what Rect makes of each.

A score is a logit of a trained linear layer, or the cosine between a feature and a column of the fixed frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from fedrobust.learners.etf import dot_regression
from fedrobust.learners.rect import rect_lengths, rect_shift
from fedrobust.learners.spec import LearnerSpec

__all__ = ["CrossEntropy", "DotRegression", "Loss", "loss_of", "mutual_kl"]


class Loss(Protocol):
    """A supervised loss.

    Attributes
    ----------
    temperature : float
        The scores are divided by it to give logits.
    """

    @property
    def temperature(self) -> float:
        """Return what the scores are divided by to give logits."""
        ...

    def each(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return each sample's loss without Rect, shape (n,): what hospitals and server report."""
        ...

    def trained(self, scores: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Return each sample's loss as it is trained, shape (n,); counts are the hospital's, by class."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of scores / temperature; Rect shifts the trained logits by the log of the counts."""

    temperature: float
    rect: bool

    def each(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return -log softmax(z)_y of each sample."""
        return functional.cross_entropy(scores / self.temperature, labels, reduction="none")

    def trained(self, scores: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Return -log softmax(z + log n)_y of each sample; without Rect, `each`."""
        if not self.rect:
            return self.each(scores, labels)
        logits = scores / self.temperature + rect_shift(counts)
        return functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class DotRegression:
    """Dot regression of cosines, times a weight; Rect lengthens the targets of a batch's rare classes."""

    temperature: float
    rect: bool
    weight: float

    def each(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted dot-regression loss of each sample, towards targets of unit length."""
        return self.weight * dot_regression(scores, labels)

    def trained(self, scores: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Return the loss towards Rect's targets; without Rect, `each`."""
        if not self.rect:
            return self.each(scores, labels)
        return self.weight * dot_regression(scores, labels, rect_lengths(labels, len(counts)))


def loss_of(spec: LearnerSpec) -> Loss:
    """Return the loss of a learner; a linear layer's is always cross-entropy."""
    rect = spec.head.endswith("-rect")
    if spec.fixed_frame and spec.loss == "dot-regression":
        return DotRegression(spec.softmax_temperature, rect, spec.dr_weight)
    return CrossEntropy(spec.softmax_temperature, rect)


def mutual_kl(own_logits: Tensor, peer_logits: Tensor) -> Tensor:
    """Return the batch's mean KL(p_peer || p_own), constant in the peer (Zhang et al. 2018, eq. 5)."""
    own = functional.log_softmax(own_logits, dim=1)
    peer = functional.log_softmax(peer_logits.detach(), dim=1)
    return functional.kl_div(own, peer, reduction="batchmean", log_target=True)

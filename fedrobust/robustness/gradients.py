"""Whether a model's gradients are real, and whether white-box attacks make use of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrobust.robustness.base import Evasion
from fedrobust.robustness.measure import Measured
from fedrobust.robustness.target import Images, Labels, Target

__all__ = ["GradientCheck", "check_gradients", "masking"]

#: Images whose gradients are checked.
_CHECKED = 32

#: Length of the step along the gradient over which the loss is compared, in images of [0, 1] and in float64.
_STEP = 1e-5

#: The loss may change so many times as much as the gradient says, or as little. In float32 a confident
#: model's gradient loses the part of the true class, a factor of about 2, and still points where the loss
#: rises.
_FACTOR = 3.0

#: From these shares of images without a gradient, or with a wrong one, on it is said.
_FEW = 0.05

#: A black-box attack finds more than a white-box one if it turns so many more of all attacked images.
_MORE = 0.02


@dataclass(frozen=True)
class GradientCheck:
    """What a check of the gradients of the loss in the images found.

    Attributes
    ----------
    images : int
        Correctly classified images that were checked.
    zero : float or None
        Share of them whose gradient is zero, so that a white-box attack does not move them.
    wrong : float or None
        Share of the others along whose gradient the loss does not rise as the gradient says, within a factor.
    """

    images: int
    zero: float | None
    wrong: float | None


def check_gradients(target: Target, images: Images, labels: Labels) -> GradientCheck:
    """Compare the gradients of the cross-entropy with differences of it along them, in float64.

    Parameters
    ----------
    target : Target
    images : ndarray of float32, shape (n, channels, height, width)
        In [0, 1]; those that are classified correctly are checked, up to 32.
    labels : ndarray of int64, shape (n,)
    """
    from fedrobust.learners.devices import repeatable

    with repeatable(target.device):
        return _checked(target, images, labels)


def _checked(target: Target, images: Images, labels: Labels) -> GradientCheck:
    right = np.flatnonzero(target.predict(images) == labels)[:_CHECKED]
    if not len(right):
        return GradientCheck(0, None, None)
    import torch

    answers = torch.tensor(labels[right], device=target.device)
    # As attacks see it, float32 and all: there a saturated model has no gradient left.
    seen = torch.tensor(images[right], device=target.device, requires_grad=True)
    loss = torch.nn.functional.nll_loss(target.module(seen), answers, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, seen)
    lengths = gradient.double().flatten(1).norm(dim=1)
    alive = (lengths > 0) & torch.isfinite(lengths)
    zero = 1 - float(alive.double().mean())
    if not alive.any():
        return GradientCheck(len(right), zero, None)
    exact = copy.deepcopy(target.module).double()
    along = gradient[alive].double() / lengths[alive, None, None, None]
    with torch.no_grad():
        ahead, behind = (
            torch.nn.functional.nll_loss(
                exact(seen[alive].double() + sign * _STEP * along), answers[alive], reduction="none"
            )
            for sign in (1, -1)
        )
    found = (ahead - behind) / (2 * _STEP)
    wrong = (found * _FACTOR < lengths[alive]) | (found > _FACTOR * lengths[alive])
    return GradientCheck(len(right), zero, float(wrong.double().mean()))


def masking(check: GradientCheck, measured: Sequence[Measured]) -> tuple[str, ...]:
    """Return sentences on signs of gradient masking: white-box results that are too favourable.

    An attack that has the gradients must find at least what one finds without them, if both may move an
    image equally far (Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML 2018,
    section 3.1).
    """
    found = []
    if check.zero is not None and check.zero > _FEW:
        found.append(
            f"gradient masking: the gradient is zero for {100 * check.zero:.0f} % of {check.images} images, "
            "so white-box attacks leave them as they are"
        )
    if check.wrong is not None and check.wrong > _FEW:
        found.append(
            f"gradient masking: for {100 * check.wrong:.0f} % of {check.images} images the loss does not "
            "change as its gradient says, so white-box attacks are misled"
        )
    for blind in _attacks(measured, white=False):
        rivals = [one for one in _attacks(measured, white=True) if _no_further(blind, one)]
        # The best of them: one step alone may find less without any masking.
        white = min(rivals, key=_left_right, default=None)
        if white is not None and _left_right(white) - _left_right(blind) > _MORE:
            found.append(
                f"gradient masking, or too few steps: {white.named.text}, which has the model's gradients, "
                f"leaves {100 * _left_right(white):.1f} % of the images right, {blind.named.text} without "
                f"them only {100 * _left_right(blind):.1f} %"
            )
    return tuple(found)


def _attacks(measured: Sequence[Measured], *, white: bool) -> list[Measured]:
    return [
        one
        for one in measured
        if isinstance(one.named.evaluation, Evasion) and (one.named.evaluation.kind == "white-box") == white
    ]


def _left_right(one: Measured) -> float:
    """Return the defence rate; 1 where no image was right."""
    rate = one.mean["defence_rate"]
    return 1.0 if rate is None else rate


def _no_further(first: Measured, second: Measured) -> bool:
    """Return whether an attack may move an image no further than another one, by the same norm."""
    one, other = first.named.evaluation, second.named.evaluation
    assert isinstance(one, Evasion) and isinstance(other, Evasion)
    return None not in (one.eps, other.eps) and one.norm == other.norm and (one.eps or 0) <= (other.eps or 0)

"""Attacks on the images of a training batch, for adversarial training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedrobust.learners.choices import Noise, Perturbation

__all__ = ["attacked"]

#: Levels of a pixel, the unit of a perturbation's radius.
_LEVELS = 255.0


def attacked(images: Tensor, how: Perturbation | Noise, loss: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return a batch of which a share is attacked, its first images; batches are shuffled.

    Parameters
    ----------
    images : Tensor, shape (n, channels, height, width)
        Values in [0, 1]; not changed.
    how : Perturbation or Noise
    loss : callable
        Returns the loss of the first k images, shape (), given them and k.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, eq. 2.1.
    """
    count = max(1, round(how.share * len(images)))
    clean = images[:count]
    if isinstance(how, Noise):
        changed = (clean + how.std * torch.randn_like(clean)).clamp(0, 1)
    else:
        changed = _ascended(clean, how, lambda x: loss(x, count))
    return torch.cat([changed, images[count:]])


def _ascended(clean: Tensor, how: Perturbation, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images of a high loss in the ball around the clean ones, by projected gradient ascent."""
    eps = how.eps / _LEVELS
    step = 2.5 * eps / how.steps if how.step is None else how.step / _LEVELS
    changed = clean
    if how.random_start:
        changed = _projected(clean, torch.empty_like(clean).uniform_(-eps, eps), eps, how.norm)
    for _ in range(how.steps):
        changed = changed.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(changed), changed)
        direction = gradient.sign() if how.norm == "inf" else gradient / _length(gradient)
        changed = _projected(clean, changed.detach() + step * direction - clean, eps, how.norm)
    return changed.detach()


def _projected(clean: Tensor, change: Tensor, eps: float, norm: object) -> Tensor:
    """Return the images with a change that is cut to the ball, values in [0, 1]."""
    cut = change.clamp(-eps, eps) if norm == "inf" else change * (eps / _length(change)).clamp(max=1)
    return (clean + cut).clamp(0, 1)


def _length(images: Tensor) -> Tensor:
    """Return each image's Euclidean length, shape (n, 1, 1, 1); never 0."""
    return images.square().sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)

"""Rect: more pull towards the classes that are rare in a mini-batch, or rare at a hospital."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rect_lengths", "rect_shift"]


def rect_lengths(labels: Tensor, classes: int) -> Tensor:
    """Return each sample's target length r_y = sqrt(gamma / c_y), gamma = B / U.

    B is the batch size, U the number of distinct labels in the batch, c_k the count of class k (Yang et al.,
    "Neural Collapse Inspired Feature-Classifier Alignment", ICLR 2023). The squared lengths weigh every class
    present alike and sum to B.

    Parameters
    ----------
    labels : Tensor of int64, shape (B,)
    classes : int
        K.

    Returns
    -------
    Tensor of float32, shape (B,)
    """
    counts = torch.bincount(labels, minlength=classes)
    gamma = len(labels) / (counts > 0).sum()
    return torch.sqrt(gamma / counts[labels])


def rect_shift(counts: Tensor) -> Tensor:
    """Return what Rect adds to the trained logits of cross-entropy: log n_k, shape (K,).

    It is the lengths of `rect_lengths` in the exponent: with r_k^2 = gamma / n_k it is -2 log r_k up to a
    constant, which the softmax ignores. n_k is the number of the hospital's images of class k, and 1 where it
    has none (Li et al., "No Fear of Classifier Biases", ICCV 2023). Logits that have to be right after this
    shift in favour of common classes are balanced without it, as they are when the model is used.

    Parameters
    ----------
    counts : Tensor of int64, shape (K,)
    """
    return counts.clamp(min=1).log()

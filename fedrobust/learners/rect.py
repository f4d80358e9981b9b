"""Rect: longer targets for the classes that are rare in a mini-batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rect_lengths"]


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

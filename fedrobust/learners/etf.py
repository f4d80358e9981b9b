"""The fixed classifier: a simplex equiangular tight frame, and the loss that pulls features towards it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["dot_regression", "simplex_etf"]


def simplex_etf(classes: int, dim: int, seed: int) -> Tensor:
    """Return a simplex equiangular tight frame.

    M = sqrt(K / (K - 1)) U (I - 11^T / K) with U a random d x K matrix of orthonormal columns (Yang et al.,
    "Inducing Neural Collapse in Imbalanced Learning", NeurIPS 2022, eq. 1). For d = K - 1, where no such U
    exists, the centred identity is expressed in an orthonormal basis of the complement of the ones first.

    Parameters
    ----------
    classes : int
        K, at least 2.
    dim : int
        d, at least K - 1.
    seed : int
        The frame follows from it, so both networks and all hospitals hold the same one without sending it.

    Returns
    -------
    Tensor of float32, shape (dim, classes)
        Columns of unit length with pairwise cosine -1 / (K - 1).

    Raises
    ------
    UserError
        If there are fewer than 2 classes or dim < classes - 1.
    """
    if classes < 2:
        raise UserError(f"a classifier needs at least 2 classes, the data have {classes}")
    if dim < classes - 1:
        raise UserError(f"{classes} classes need features of dimension {classes - 1} or more, got {dim}")
    width = min(dim, classes)
    draw = generator(seed, "etf").standard_normal((dim, width))
    orthonormal, _ = np.linalg.qr(draw)
    centred = np.eye(classes) - np.full((classes, classes), 1 / classes)
    if dim < classes:
        # The K - 1 eigenvectors of eigenvalue 1 span the centred identity; eigh sorts them behind the null
        # one.
        centred = np.linalg.eigh(centred)[1][:, 1:].T
    frame = np.sqrt(classes / (classes - 1)) * orthonormal @ centred
    return torch.from_numpy(frame.astype(np.float32))


def dot_regression(cosines: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the dot-regression loss of each sample, 1/2 r_y^2 (h.m_y - 1)^2.

    Yang et al. 2022, eq. 9, with the target r_y m_y: the length r_y of `rect_lengths` becomes an exact weight
    r_y^2.

    Parameters
    ----------
    cosines : Tensor, shape (n, K)
        Inner products of the normalised features with the frame.
    labels : Tensor of int64, shape (n,)
    lengths : Tensor, shape (n,), optional
        r_y of each sample; 1 when absent.

    Returns
    -------
    Tensor, shape (n,)
    """
    pull = 0.5 * (cosines.gather(1, labels[:, None]).squeeze(1) - 1) ** 2
    return pull if lengths is None else lengths**2 * pull

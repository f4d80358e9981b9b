"""Plain float64 definitions of the defences: everything stacked, line by line as the papers have it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fedrobust.federation import Updates


def stacked(updates: Updates) -> np.ndarray[Any, Any]:
    """Return the parameters, shape (n, d), float64."""
    return np.stack([update.parameters for update in updates]).astype(np.float64)


def differences(updates: Updates) -> np.ndarray[Any, Any]:
    """Return the differences from the global parameters, shape (n, d), float64."""
    return stacked(updates) - updates.global_parameters.astype(np.float64)


def distances(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return Euclidean distances, shape (n, n)."""
    return np.array([[np.linalg.norm(a - b) for b in x] for a in x])


def cosine_distances(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return cosine distances, shape (n, n)."""
    return np.array(
        [
            [0.0 if i == j else 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for j, b in enumerate(x)]
            for i, a in enumerate(x)
        ]
    )


def trimmed_mean(x: np.ndarray[Any, Any], f: int) -> np.ndarray[Any, Any]:
    """Drop the f largest and f smallest of each coordinate."""
    return np.asarray(np.sort(x, axis=0)[f : len(x) - f].mean(axis=0))


def krum_scores(x: np.ndarray[Any, Any], f: int) -> np.ndarray[Any, Any]:
    """Sum the squared distances to the n - f - 2 nearest others."""
    scores = []
    for i in range(len(x)):
        others = sorted(float(((x[i] - x[j]) ** 2).sum()) for j in range(len(x)) if j != i)
        scores.append(sum(others[: max(1, len(x) - f - 2)]))
    return np.array(scores)


def bulyan(x: np.ndarray[Any, Any], f: int) -> np.ndarray[Any, Any]:
    """Choose by repeated Krum, then average what is nearest to the median."""
    left, chosen = list(range(len(x))), []
    for _ in range(len(x) - 2 * f):
        scores = krum_scores(x[left], f)
        chosen.append(left.pop(int(np.argmin(scores))))
    kept = x[chosen]
    median = np.sort(kept, axis=0)[(len(kept) - 1) // 2]
    order = np.argsort(np.abs(kept - median), axis=0)
    return np.asarray(np.take_along_axis(kept, order[: len(kept) - 2 * f], axis=0).mean(axis=0))


def weiszfeld(x: np.ndarray[Any, Any], nu: float, iterations: int) -> np.ndarray[Any, Any]:
    """Run the smoothed Weiszfeld algorithm from the mean."""
    point = x.mean(axis=0)
    for _ in range(iterations):
        beta = 1 / np.maximum(nu, np.linalg.norm(x - point, axis=1))
        point = (beta[:, None] * x).sum(axis=0) / beta.sum()
    return np.asarray(point)


def centered_clipping(
    x: np.ndarray[Any, Any], start: np.ndarray[Any, Any], tau: float | None, iterations: int
) -> np.ndarray[Any, Any]:
    """Clip around a moving centre."""
    v = start
    for _ in range(iterations):
        lengths = np.linalg.norm(x - v, axis=1)
        radius = np.median(lengths) if tau is None else tau
        v = v + ((x - v) * np.minimum(1, radius / lengths)[:, None]).mean(axis=0)
    return np.asarray(v)


def clipped(x: np.ndarray[Any, Any], limit: float) -> np.ndarray[Any, Any]:
    """Shorten rows to at most `limit`."""
    return np.asarray(x * np.minimum(1, limit / np.linalg.norm(x, axis=1))[:, None])


def nnm(x: np.ndarray[Any, Any], f: int) -> np.ndarray[Any, Any]:
    """Average the n - f nearest of each."""
    return np.stack([x[np.argsort(row)[: len(x) - f]].mean(axis=0) for row in distances(x)])


def arc(x: np.ndarray[Any, Any], f: int) -> np.ndarray[Any, Any]:
    """Clip the k longest to the next longest."""
    n = len(x)
    k = int(np.floor(2 * f * (n - f) / n + 1e-9))
    return clipped(x, np.sort(np.linalg.norm(x, axis=1))[::-1][k])


def foolsgold(history: np.ndarray[Any, Any], kappa: float = 1.0) -> np.ndarray[Any, Any]:
    """Follow the pseudocode with its loops."""
    n = len(history)
    cs = 1 - cosine_distances(history)
    v = np.array([max(0, *(cs[i, j] for j in range(n) if j != i)) for i in range(n)])
    alpha = np.empty(n)
    for i in range(n):
        row = [0.0]
        for j in range(n):
            if j != i:
                row.append(cs[i, j] * (v[i] / v[j] if v[j] > v[i] and v[j] > 0 else 1))
        alpha[i] = 1 - max(row)
    alpha = np.clip(alpha, 0, 1) / np.clip(alpha, 0, 1).max()
    alpha[alpha == 1] = 0.99
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(kappa * (np.log(alpha / (1 - alpha)) + 0.5), 0, 1))


def copod(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Score each point by its tail probabilities, with loops, as pyod 2 has it."""
    n, k = points.shape
    scores = np.zeros(n)
    for i, j in itertools.product(range(n), range(k)):
        column = points[:, j]
        left = -np.log(np.mean([value <= column[i] for value in column]))
        right = -np.log(np.mean([value >= column[i] for value in column]))
        sign = np.sign(np.mean((column - column.mean()) ** 3))
        skewed = left * -np.sign(sign - 1) + right * np.sign(sign + 1)
        scores[i] += max(skewed, (left + right) / 2)
    return scores


def lbfgs_matrix(steps: np.ndarray[Any, Any], changes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Build the L-BFGS matrix by its recursion: one BFGS update for each pair, from a scaled identity."""
    scale = steps[-1] @ changes[-1] / (steps[-1] @ steps[-1])
    b = scale * np.eye(steps.shape[1])
    for s, y in zip(steps, changes, strict=True):
        b = b - np.outer(b @ s, b @ s) / (s @ b @ s) + np.outer(y, y) / (y @ s)
    return np.asarray(b)


def fltrust(x: np.ndarray[Any, Any], own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Average the updates, each as long as the server's, by their clipped cosines with it."""
    total, moved = 0.0, np.zeros(len(own))
    for row in x:
        trust = max(0.0, row @ own / np.linalg.norm(row) / np.linalg.norm(own))
        total += trust
        moved += trust * np.linalg.norm(own) / np.linalg.norm(row) * row
    return moved / total if total else moved

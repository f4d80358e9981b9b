"""Rows of docs/conformance.md on the newest rules: what their papers say, and what other code makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedrobust.federation import Updates
from strategies.align_ins import AlignIns
from strategies.caf import CAF
from strategies.foundation_fl import FoundationFL
from strategies.lasa import LASA
from strategies.smea import SMEA

__all__ = ["newest_rows"]

Floats = np.ndarray[Any, Any]


def newest_rows(byzfl: Any, draw: Any, updates: Any) -> list[tuple[str, str, str]]:
    """Return the disagreements around the rules of 2023 to 2025.

    Parameters
    ----------
    byzfl : module
    draw : callable
        Returns the random input of a seed, shape (10, 200).
    updates : callable
        Returns such an input as updates from a model of zeros.
    """
    inputs = [draw(seed) for seed in range(30)]
    chosen = [set(np.flatnonzero(np.asarray(SMEA(f=2).weigh(updates(x)).weight)).tolist()) for x in inputs]
    theirs = [byzfl.SMEA(2)(x) for x in inputs]
    other = np.mean(
        [
            not np.allclose(x[sorted(s)].mean(axis=0), t, atol=1e-5)
            for x, s, t in zip(inputs, chosen, theirs, strict=True)
        ]
    )
    calls = np.linalg.norm(byzfl.CAF(2)(inputs[0]) - byzfl.CAF(2)(inputs[0]))
    length = np.linalg.norm(CAF(f=2).combine(updates(inputs[0]))[0])
    huge = [draw(seed) for seed in range(50)]
    for x in huge:
        x[4] *= 1e4
    copied = np.mean([np.argmin(np.asarray(FoundationFL().combine(updates(x))[1].score)) == 4 for x in huge])
    kept = np.mean(
        [1 - np.asarray(AlignIns().combine(_around(x, updates))[1].flagged).mean() for x in inputs]
    )
    sparse, dense = (LASA(dense=d).combine(updates(inputs[0]))[0].astype(np.float64) for d in (False, True))
    apart = np.linalg.norm(sparse - dense) / np.linalg.norm(dense)
    return [
        (
            "SMEA's eigenvalue",
            "paper, fedrobust: the top eigenvalue; ByzFL: one step of the power method from a random vector",
            f"another subset is averaged in {100 * other:.0f} % of 30 inputs",
        ),
        (
            "CAF's eigenvector",
            "as SMEA's; fedrobust takes the largest projection among updates that have weight left",
            (
                f"two calls of ByzFL's `CAF(2)` on one input differ by {calls:.2f}; the result has length "
                f"{length:.1f}"
            ),
        ),
        (
            "FoundationFL's deepest update",
            "paper, fedrobust: the one farthest from both extremes",
            (
                f"one update 10,000 times as long is itself the deepest, and is copied, in "
                f"{100 * copied:.0f} % of 50 inputs: a trimmed mean with f below the copies averages it"
            ),
        ),
        (
            "AlignIns' two thresholds of 1",
            "paper, fedrobust: within one standard deviation of both medians",
            f"of honest, normally distributed updates {100 * kept:.0f} % are kept",
        ),
        (
            "LASA's mean",
            (
                "the authors' code averages what it has sparsified in place (fedrobust's default); "
                "FL-Byz-Lib dense updates"
            ),
            f"the results differ by {apart:.2f} of their length",
        ),
    ]


def _around(x: Floats, updates: Any) -> Updates:
    """Return an input as updates from a random model, with which they have cosines."""
    base = np.random.default_rng(9).standard_normal(x.shape[1]).astype(np.float32)
    found: Updates = updates(x, base)
    return found

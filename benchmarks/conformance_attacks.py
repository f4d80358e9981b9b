"""Rows of docs/conformance.md on the newest attacks: their authors' code, other code, and this project."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from clients.a3fl import A3fl

__all__ = ["attack_rows"]

#: Passes of the search for a patch in the defaults of BackFed, and from one training of its second model to
#: the next; none is trained before the first pass. In the authors' code the second number is 1.
_PASSES, _EVERY = 100, 100


def attack_rows(draw: Any) -> list[tuple[str, str, str]]:
    """Return the disagreements around the attacks of 2023 to 2026.

    Parameters
    ----------
    draw : callable
        Returns the random input of a seed, shape (10, 200).
    """
    one, two, four = (_shift(10, m) for m in (1, 2, 4))
    long = np.mean([np.linalg.norm(draw(seed), axis=1).mean() for seed in range(20)])
    honest = draw(0)[2:]
    spread = (honest.std(axis=0, ddof=1) / honest.std(axis=0)).mean()
    return [
        (
            "ROP's length",
            (
                "authors' code: ALIE's z as it is, for momenta of gradients; fedrobust: z mean lengths of "
                "the honest updates"
            ),
            (
                f"n = 10: z is {two:.2f} for two attackers and {four:.2f} for four; "
                f"the inputs are {long:.1f} long"
            ),
        ),
        (
            "Sparse's shift of the other weights",
            "authors' code: ALIE's z, also below 0; fedrobust: at least 0",
            f"n = 10, one attacker: z = {one:.2f}, a shift in the opposite direction of the masked weights'",
        ),
        (
            "Sparse's deviation",
            "authors' code: of a sample (n - 1); fedrobust: of the updates themselves, as in ALIE",
            f"eight honest updates: larger by a factor of {spread:.3f}",
        ),
        (
            "A3FL's second model",
            (
                "authors' code: trained before each pass but the first; BackFed's defaults: before every "
                "100th of 100 passes but the first; fedrobust: before every 10th, the first included"
            ),
            (
                f"trainings in {_PASSES} passes: {_trainings(1)}, {_trainings(_EVERY)} and "
                f"{len(range(0, _PASSES, A3fl().every))}; with none the patch adapts to nothing"
            ),
        ),
    ]


def _shift(n: int, m: int) -> float:
    """Return ALIE's z of m attackers among n without a lower bound."""
    return NormalDist().inv_cdf((n - m - (n // 2 + 1 - m)) / (n - m))


def _trainings(every: int) -> int:
    return sum(number % every == 0 for number in range(1, _PASSES))

"""What a defence decides on each hospital of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Verdict"]


@dataclass
class Verdict:
    """What a defence decides on each hospital of a round, in the order of `Updates`.

    Attributes
    ----------
    weight : array_like, shape (n,)
        Weight in the aggregate, up to a common factor; not negative. All zero keeps the global model.
    score : array_like, shape (n,), optional
        Anomaly score, higher is more suspicious; only its order matters.
    flagged : array_like of bool, shape (n,), optional
        The hospitals that the defence takes to be poisoned.
    why : sequence of str, optional
        The reason, a few words for each, for the report.
    """

    weight: ArrayLike
    score: ArrayLike | None = None
    flagged: ArrayLike | None = None
    why: Sequence[str] | None = None

    def checked(self, n: int) -> Verdict:
        """Return a copy with arrays of length n; `ValueError` where something does not fit."""
        weight = np.array(self.weight, np.float64)
        if weight.shape != (n,):
            raise ValueError(f"weight has shape {weight.shape}, but {n} hospitals replied")
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError(f"weights must be finite and not negative, got {weight.tolist()}")
        score = np.full(n, np.nan) if self.score is None else np.array(self.score, np.float64)
        flagged = np.zeros(n, bool) if self.flagged is None else np.array(self.flagged, bool)
        why = [""] * n if self.why is None else [str(words) for words in self.why]
        for name, column in (("score", score), ("flagged", flagged), ("why", why)):
            if np.shape(column) != (n,):
                raise ValueError(f"{name} has shape {np.shape(column)}, but {n} hospitals replied")
        return Verdict(weight, score, flagged, why)

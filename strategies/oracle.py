"""The oracle: what could be reached if the malicious hospitals were known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["Oracle"]


class Oracle(Defence):
    """Averages the benign hospitals, which it is given: no defence, but an upper bound for defences.

    Algorithm
    ---------
    The mean of the other hospitals' updates, weighted by the reported numbers of images.

    Parameters
    ----------
    malicious : sequence of int
        The hospitals to leave out; ``Result.malicious`` of an earlier run, or the manifest, names them.

    Notes
    -----
    Cost: O(n d).
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"num_examples"})
    oracle: ClassVar[bool] = True

    def __init__(self, malicious: Sequence[int] = ()) -> None:
        """Keep the numbers."""
        self.malicious = frozenset(malicious)

    def check(self, hospitals: int) -> None:
        """Refuse a hospital that does not exist."""
        if unknown := sorted(number for number in self.malicious if not 0 <= number < hospitals):
            raise UserError(f"oracle: there is no hospital {unknown[0]}; they are 0 to {hospitals - 1}")

    def weigh(self, updates: Updates) -> Verdict:
        """Return the reported numbers of images as weights, 0 for the malicious."""
        out = np.array([node in self.malicious for node in updates.nodes])
        return Verdict(np.where(out, 0.0, updates.num_examples), score=out.astype(float), flagged=out)

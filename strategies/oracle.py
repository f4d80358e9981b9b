"""The oracle: what could be reached if one knew who is poisoned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["Oracle"]


class Oracle(Defence):
    """Averages the honest hospitals, whose numbers it is told: no defence, but a bound to compare defences with.

    Parameters
    ----------
    malicious : sequence of int
        The hospitals to leave out; ``Result.malicious`` of an earlier run, or the manifest, names them.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"num_examples"})
    oracle: ClassVar[bool] = True

    def __init__(self, malicious: Sequence[int] = ()) -> None:
        """Keep the numbers."""
        if not all(isinstance(number, int) for number in malicious):
            raise UserError(
                "oracle: malicious is a list of hospital numbers, such as oracle(malicious=[0, 4])"
            )
        self.malicious = frozenset(malicious)

    def check(self, hospitals: int) -> None:
        """Refuse a hospital that does not exist."""
        if lost := sorted(number for number in self.malicious if not 0 <= number < hospitals):
            raise UserError(f"oracle: there is no hospital {lost[0]}; they are 0 to {hospitals - 1}")

    def weigh(self, updates: Updates) -> Verdict:
        """Return the claimed numbers of images as weights, 0 for the malicious."""
        out = np.array([node in self.malicious for node in updates.nodes])
        return Verdict(np.where(out, 0.0, updates.num_examples), score=out.astype(float), flagged=out)

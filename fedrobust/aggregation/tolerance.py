"""How many Byzantine hospitals a rule assumes, and so tolerates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedrobust.errors import UserError

__all__ = ["AssumedByzantine"]


@dataclass(frozen=True)
class AssumedByzantine:
    """The assumed number of Byzantine hospitals, f, that a rule tolerates.

    The true number is unknown. If f is not given, it is a third of the hospitals that replied (rounded down),
    the classical bound of Byzantine agreement, or the largest f that the rule admits if that is smaller. A
    given f that does not fit the number of hospitals is an error before anything runs. If so few hospitals
    reply in a round that f is too large, the rule uses the largest f it admits and says so in its verdict,
    and the run continues.

    Parameters
    ----------
    rule : str
        The rule's name, for messages.
    f : int or None
        The user's value; None if it is not given.
    most : callable
        Returns the largest f for n updates; may be negative.
    needs : str
        The paper's condition, for messages.
    option : str
        The rule's name for f, for messages.
    """

    rule: str
    f: int | None
    most: Callable[[int], int]
    needs: str
    option: str = "f"

    def check(self, hospitals: int) -> None:
        """Raise `UserError` if the given f is too large for this number of hospitals."""
        most = max(0, self.most(hospitals))
        if self.f is not None and self.f > most:
            raise UserError(
                f"{self.rule}: {self.option}={self.f} does not fit {hospitals} hospitals, as the rule needs "
                f"{self.needs}; give {self.option}={most}{' or less' if most else ', or ask more hospitals'}"
            )

    def at(self, n: int) -> tuple[int, list[str] | None]:
        """Return the f to use for n updates and a note for each of them (None if f is as given)."""
        most = max(0, self.most(n))
        if self.f is None:
            return min(n // 3, most), None
        if self.f <= most:
            return self.f, None
        return most, [f"only {n} replied: {self.option}={most} instead of {self.f}"] * n

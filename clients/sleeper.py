"""Sleeper: honest at first."""

from __future__ import annotations

from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["Sleeper"]


class Sleeper(Attack):
    """Holds back all attacks of its chain for the first rounds, wherever in the chain it stands.

    ``sleeper(rounds=5) + label-flip`` trains on clean records through round 5, to the same bits as an honest hospital,
    and flips labels from round 6 on. It gets past the warm-up of rules that judge early and never again, and gains
    the trust of those that judge by history.

    Parameters
    ----------
    rounds : int
        Rounds to be honest, 1 or more.
    """

    def __init__(self, rounds: int = 5) -> None:
        """Check the options."""
        if not isinstance(rounds, int) or rounds < 1:
            raise UserError(f"sleeper: rounds is {rounds}, but must be a whole number of 1 or more")
        self.rounds = rounds

    def is_active(self, round: int) -> bool:
        """Return whether the honest rounds are over."""
        return round > self.rounds

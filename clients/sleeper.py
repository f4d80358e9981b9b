"""Sleeper: honest at first."""

from __future__ import annotations

from pydantic import PositiveInt

from fedrobust.federation import Attack

__all__ = ["Sleeper"]


class Sleeper(Attack):
    """Holds back all attacks of its chain for the first rounds, wherever in the chain it stands.

    ``sleeper(rounds=5) + label-flip`` trains on clean records through round 5, to the same bits as an honest
    hospital, and flips labels from round 6 on. It gets past the warm-up of rules that judge early and never
    again, and gains the trust of those that judge by history.

    Parameters
    ----------
    rounds : int
        Number of rounds to be honest.
    """

    def __init__(self, rounds: PositiveInt = 5) -> None:
        """Keep the option."""
        self.rounds = rounds

    def is_active(self, round: int) -> bool:
        """Return whether the honest rounds are over."""
        return round > self.rounds

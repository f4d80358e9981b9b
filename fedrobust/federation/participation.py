"""Who takes part in a round: how many hospitals are asked, which, and which of them do not answer in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fedrobust.errors import UserError, nearest
from fedrobust.plugins.options import Fraction, instantiate
from fedrobust.plugins.specs import AvailabilitySpec
from fedrobust.seeding import generator

__all__ = ["ALWAYS", "AVAILABILITY", "Participation", "Sampling", "TakingPart"]

Mask = NDArray[np.bool_]

#: How the hospitals of a round are drawn from those that are in the federation: all equally likely, in
#: proportion to their images, or one after another in an order drawn once.
Sampling = Literal["uniform", "size", "cyclic"]

#: The availability of hospitals that are always there.
ALWAYS = "always"


@dataclass(frozen=True)
class TakingPart:
    """Who takes part in one round.

    Attributes
    ----------
    asked : tuple of int
        The hospitals that the server asks, ascending.
    absent : mapping of int to str
        Those of them that do not answer, and why.
    """

    asked: tuple[int, ...]
    absent: Mapping[int, str] = field(default_factory=dict)


class Availability:
    """What keeps hospitals from taking part; both methods draw from generators of their own."""

    def members(self, rng: np.random.Generator, hospitals: int, round: int) -> Mask:
        """Return which hospitals are in the federation in a round; the generator is the same in each."""
        return np.ones(hospitals, bool)

    def silent(self, once: np.random.Generator, now: np.random.Generator, images: NDArray[np.int64]) -> Mask:
        """Return which hospitals, if asked, do not answer in a round; `once` is the same in each."""
        return np.zeros(len(images), bool)

    #: Why a silent hospital does not answer.
    reason = ""


class Dropout(Availability):
    """In each round every hospital that is asked fails to answer with the same probability.

    Parameters
    ----------
    rate : float
    """

    reason = "dropped out"

    def __init__(self, rate: Fraction = 0.1) -> None:
        """Keep the option."""
        self.rate = rate

    def silent(self, once: np.random.Generator, now: np.random.Generator, images: NDArray[np.int64]) -> Mask:
        """Return a drawn share."""
        return now.random(len(images)) < self.rate


class Late(Availability):
    """A share of the hospitals joins later.

    Parameters
    ----------
    share : float
    round : int
        The first round that they are in.
    """

    def __init__(self, share: Fraction = 0.2, round: PositiveInt = 5) -> None:
        """Keep the options."""
        self.share, self.round = share, round

    def members(self, rng: np.random.Generator, hospitals: int, round: int) -> Mask:
        """Return all, from the round on; before it, those that are not late."""
        return ~_share(rng, hospitals, self.share) | (round >= self.round)


class Leaving(Availability):
    """A share of the hospitals leaves the federation.

    Parameters
    ----------
    share : float
    round : int
        The first round that they are not in.
    """

    def __init__(self, share: Fraction = 0.2, round: PositiveInt = 10) -> None:
        """Keep the options."""
        self.share, self.round = share, round

    def members(self, rng: np.random.Generator, hospitals: int, round: int) -> Mask:
        """Return all, before the round; from it on, those that stay."""
        return ~_share(rng, hospitals, self.share) | (round < self.round)


class Stragglers(Availability):
    """Hospitals that train longer than a deadline answer too late, and their updates do not count.

    A hospital's time is in proportion to its images and to a log-normal factor, half of whose variance is the
    hospital's own in all rounds. Such times are simulated: no run waits for them.

    Parameters
    ----------
    deadline : float
        In times that a hospital with the median number of images takes at the median speed.
    spread : float
        Standard deviation of the factor's logarithm.
    """

    reason = "answered after the deadline"

    def __init__(self, deadline: PositiveFloat = 2.0, spread: NonNegativeFloat = 0.5) -> None:
        """Keep the options."""
        self.deadline, self.spread = deadline, spread

    def silent(self, once: np.random.Generator, now: np.random.Generator, images: NDArray[np.int64]) -> Mask:
        """Return those that take longer."""
        own, fresh = once.standard_normal(len(images)), now.standard_normal(len(images))
        time = images / max(1.0, float(np.median(images))) * np.exp(self.spread * (own + fresh) / np.sqrt(2))
        return np.asarray(time > self.deadline)


#: By the name that the setting `availability` knows it by.
AVAILABILITY: Mapping[str, type[Availability]] = {
    "dropout": Dropout,
    "late": Late,
    "leaving": Leaving,
    "stragglers": Stragglers,
}


class Participation:
    """Decides who takes part in each round; a function of the seed and the round alone.

    Parameters
    ----------
    hospitals : int
        How many there are.
    seed : int
    share : float
        The share of them that each round asks.
    per_round : int, optional
        Their number, in place of the share.
    sampling : str
    availability : str
        Names of `AVAILABILITY` with their options, joined with ``+``, or ``always``.

    Raises
    ------
    UserError
        If an availability is unknown, or takes no such option.
    """

    def __init__(
        self,
        hospitals: int,
        seed: int = 0,
        share: float = 1.0,
        per_round: int | None = None,
        sampling: Sampling = "uniform",
        availability: str = ALWAYS,
    ) -> None:
        """Read the availability."""
        assert sampling in get_args(Sampling)
        self._hospitals, self._seed, self._sampling = hospitals, seed, sampling
        self.per_round = min(hospitals, per_round or max(1, round(share * hospitals)))
        self._limits = _availability(availability)

    @property
    def is_complete(self) -> bool:
        """Return whether all hospitals take part in every round."""
        return self.per_round == self._hospitals and not self._limits

    def of(self, round: int, images: NDArray[np.int64]) -> TakingPart:
        """Return who takes part in a round.

        Parameters
        ----------
        round : int
            Counted from 1.
        images : ndarray of int64, shape (hospitals,)
            Each hospital's number of training images, as far as the server knows.
        """
        members = np.ones(self._hospitals, bool)
        for place, limit in enumerate(self._limits):
            members &= limit.members(self._rng("members", place), self._hospitals, round)
        asked = self._drawn(round, members, images)
        absent: dict[int, str] = {}
        for place, limit in enumerate(self._limits):
            once = self._rng("speed", place)
            silent = limit.silent(once, self._rng("silent", place, round), images)
            absent |= {int(one): limit.reason for one in asked if silent[one] and one not in absent}
        return TakingPart(tuple(asked.tolist()), dict(sorted(absent.items())))

    def _drawn(self, round: int, members: Mask, images: NDArray[np.int64]) -> NDArray[np.int64]:
        there = np.flatnonzero(members)
        count = min(self.per_round, len(there))
        if count == len(there):
            return there
        if self._sampling == "cyclic":
            order = self._rng("order").permutation(self._hospitals)
            turn = np.roll(order, -(round - 1) * self.per_round)
            return np.sort(turn[members[turn]][:count])
        rng = self._rng("drawn", round)
        if self._sampling == "uniform":
            return np.sort(rng.permutation(there)[:count])
        weight = np.maximum(images[there], 1).astype(np.float64)
        return np.sort(rng.choice(there, count, replace=False, p=weight / weight.sum()))

    def _rng(self, *purpose: str | int) -> np.random.Generator:
        return generator(self._seed, "participation", *purpose)


def _availability(text: str) -> list[Availability]:
    parts = AvailabilitySpec.parse(text).parts
    if [part.name for part in parts] == [ALWAYS] and not parts[0].options:
        return []
    found: list[Any] = []
    for part in parts:
        if part.name not in AVAILABILITY:
            hint = nearest(part.name, [*AVAILABILITY, ALWAYS])
            raise UserError(f"unknown availability '{part.name}'; {hint}")
        found.append(instantiate(AVAILABILITY[part.name], part.options, part.name))
    return found


def _share(rng: np.random.Generator, hospitals: int, share: float) -> Mask:
    """Return a drawn share of the hospitals."""
    drawn = np.zeros(hospitals, bool)
    drawn[rng.permutation(hospitals)[: round(share * hospitals)]] = True
    return drawn

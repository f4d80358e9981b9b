"""A search along an attack's one number for the harm that it does to the defence in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedrobust.errors import UserError
from fedrobust.federation import Defence, Role, Update, Updates, Vector
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.pipeline.specs import build_pipeline, find_part
from fedrobust.plugins import PipelineSpec

__all__ = ["DefenceInUse", "LineSearch", "largest"]

#: Points of the coarse grid, evenly apart on a log scale from a thousandth of the limit up to it.
_COARSE = 9
#: Times that the interval around the best point is halved, at two evaluations each.
_HALVINGS = 4
_MANY = 1_000_000


class DefenceInUse:
    """The server's rule as an attack can try it out: a new one for each trial.

    So a rule with memory acts as in its first round, and one that draws uses other draws than the server's,
    the same in all trials.

    Parameters
    ----------
    attack : str
        The attack's name, for messages.
    spec : str
        The strategy as the settings write it, steps included.
    hospitals : int
        How many take part.
    seed : int
        For rules that draw.

    Raises
    ------
    UserError
        If the defence is unknown, or an attack cannot evaluate it: a plain Flower strategy, or a rule that
        uses images of the server's own.
    """

    def __init__(self, attack: str, spec: str, hospitals: int, seed: int = 0) -> None:
        """Build it once, to check whether it can be tried out."""
        self._hospitals, self._seed = hospitals, seed
        instead = "name a rule in its place, such as against=median"
        if not spec:
            raise UserError(f"{attack}: the defence is not known here; name it, such as against=median")
        self._spec = PipelineSpec.parse(spec)
        last = self._spec.parts[-1]
        if ":" in last.name and not issubclass(find_part(last, object), Defence):
            raise UserError(
                f"{attack}: '{spec}' is a plain Flower strategy, which cannot be tried out; {instead}"
            )
        if self._fresh().with_images:
            raise UserError(
                f"{attack}: '{spec}' uses images of the server's own, which no attack sees; {instead}"
            )

    def aggregate(self, updates: Sequence[Update]) -> Vector:
        """Return the parameters that a new rule makes of a round's updates, shape (d,)."""
        return self._fresh().aggregate(Updates(updates, self._seed))[0]

    def _fresh(self) -> Pipeline:
        pipeline = build_pipeline(self._spec)
        pipeline.check(self._hospitals)
        return pipeline


@dataclass(frozen=True)
class LineSearch:
    """What an attack's option ``optimal`` stands for: the number that moves the defence's result farthest.

    As in the optimised attacks of Allouah et al., "Fixing by Mixing", AISTATS 2023, section 6 (ByzFL's
    Opt-IPM and Opt-ALIE): the x that maximises |R(honest and forged(x)) - mean(honest)|, with R the defence
    with its steps. They expand and contract a step; here the range is fixed, limit / 1000 to limit, and the
    search is `largest`: 17 evaluations of the defence a round, in the server's process, so a round's
    aggregation costs 18 times as much.

    Parameters
    ----------
    attack : str
        Its name, for messages.
    against : str, optional
        The defence to search against; unless given, the one that `Role.strategy` names.
    limit : float
        The largest number that the search tries.
    """

    attack: str
    against: str | None = None
    limit: float = 10.0

    @classmethod
    def given(
        cls, attack: str, option: str, value: float | str | None, against: str | None, limit: float | None
    ) -> LineSearch | None:
        """Return the search that an attack's options ask for; None where `value` is no ``optimal``."""
        if value == "optimal":
            return cls(attack, against, 10.0 if limit is None else limit)
        for name, extra in (("against", against), ("limit", limit)):
            if extra is not None:
                raise UserError(f"{attack}: {name} belongs to {option}=optimal; leave it out or search")
        return None

    def check(self, role: Role) -> None:
        """Raise `UserError` if the defence cannot be searched against; called before anything runs."""
        self._defence(role, 0)

    def worst(
        self,
        forged: Callable[[float], Sequence[Update]],
        honest: Sequence[Update],
        role: Role,
        rng: np.random.Generator,
    ) -> Sequence[Update]:
        """Return `forged` at the number that moves the defence's result farthest from the honest mean.

        Parameters
        ----------
        forged : callable
            Number to what all colluders send.
        honest : sequence of Update
            What the honest hospitals send; one or more.
        role : Role
        rng : Generator
            Draws the seed of a rule that draws.
        """
        centre = Updates(honest)
        mean = centre.mean(np.ones(len(centre)))
        defence = self._defence(role, int(rng.integers(2**31)))

        def harm(x: float) -> float:
            moved = defence.aggregate([*honest, *forged(x)])
            squares = centre.by_part(
                lambda part: float(np.sum((moved[part] - mean[part].astype(float)) ** 2))
            )
            return float(np.sqrt(sum(squares)))

        return forged(largest(harm, self.limit))

    def _defence(self, role: Role, seed: int) -> DefenceInUse:
        # Where the number of hospitals is unknown, no option of the rule must be refused for it.
        hospitals = _MANY if role.hospitals is None else role.hospitals
        return DefenceInUse(self.attack, self.against or role.strategy, hospitals, seed)


def largest(harm: Callable[[float], float], limit: float) -> float:
    """Return the number in [limit / 1000, limit] at which a function is largest, by 17 evaluations.

    A grid of 9 numbers, each 2.4 times the one before, and then four times the middles (on the log scale)
    between the best number so far and its neighbours, down to 6 % apart. The smaller number wins a tie, so of
    several that do the same harm the attack takes the least conspicuous.
    """
    known: dict[float, float] = {}

    def best_of(places: Sequence[float]) -> float:
        # A place p stands for limit 1000^(p - 1).
        for place in places:
            known.setdefault(place, harm(limit * 1000.0 ** (place - 1)))
        return min(known, key=lambda place: (-known[place], place))

    best = best_of([step / (_COARSE - 1) for step in range(_COARSE)])
    apart = 1 / (_COARSE - 1)
    for _ in range(_HALVINGS):
        apart /= 2
        best = best_of([place for place in (best - apart, best + apart) if 0 <= place <= 1])
    return float(limit * 1000.0 ** (best - 1))

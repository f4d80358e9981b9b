"""The outcome of one check: it holds, it does not, or it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fedrobust.errors import UserError
from fedrobust.plugins import place_of

__all__ = ["DoesNotApply", "Outcome", "Violation", "run_checks"]


class Violation(Exception):
    """A check that does not hold; its text says what was seen."""


class DoesNotApply(Exception):
    """A check that says nothing of this plug-in; its text says why."""


@dataclass(frozen=True)
class Outcome:
    """What one check found.

    Attributes
    ----------
    check : str
        Its name.
    holds : bool or None
        None where it does not apply.
    detail : str
        What was seen, where it does not hold or apply; a figure, where it has one.
    """

    check: str
    holds: bool | None
    detail: str = ""


def run_checks(checks: Iterable[tuple[str, Callable[[], str | None]]], file: str | None) -> list[Outcome]:
    """Return the outcome of each named check; one that raises does not hold.

    Parameters
    ----------
    checks : iterable of (str, callable)
        A check returns a figure or None, and raises `Violation` or `DoesNotApply`.
    file : str or None
        The plug-in's file, whose line is named where it raises.
    """
    return [_outcome(name, check, file) for name, check in checks]


def _outcome(name: str, check: Callable[[], str | None], file: str | None) -> Outcome:
    try:
        return Outcome(name, True, check() or "")
    except DoesNotApply as reason:
        return Outcome(name, None, str(reason))
    except (Violation, UserError) as error:
        return Outcome(name, False, str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plug-in raises is the outcome
        return Outcome(name, False, f"raises {place_of(error, file)}")

"""Faults of a source's records, gathered so that one report names them all."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedrobust.errors import UserError

__all__ = ["Fault", "FaultyRecords", "settle"]

#: Faults that a report prints; of more, only the number is given.
MOST_PRINTED = 1000

#: Faults that a note or a sentence on one line quotes.
_QUOTED = 3


@dataclass(frozen=True)
class Fault:
    """What is wrong with one record, or with the source as a whole.

    Attributes
    ----------
    what : str
        A sentence without a full stop.
    where : str
        Such as ``"line 12: images/a.png"``; empty for the whole source.
    kind : str
        The same in two or three words, without names, to count by.
    fatal : bool
        Whether the source is unusable without what is missing, so that leaving records out does not help.
    """

    what: str
    where: str = ""
    kind: str = field(default="other faults", compare=False)
    fatal: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """Return place and fault on one line."""
        return f"{self.where}: {self.what}" if self.where else self.what


class FaultyRecords(UserError):
    """Records of a source that cannot be used; the commands print `report`, one line for each.

    Attributes
    ----------
    faults : sequence of Fault
    """

    def __init__(self, source: str, faults: Sequence[Fault], records: int) -> None:
        """Keep the faults; the message quotes the first."""
        self.faults = tuple(faults)
        fatal = any(fault.fatal for fault in faults)
        advice = "correct this" if fatal else "correct them, or leave them out with --skip-bad"
        super().__init__(
            f"{source}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'} in {records} records "
            f"({_quoted(faults)}); {advice}"
        )

    @property
    def report(self) -> list[str]:
        """Return a line for each fault."""
        shown = [str(fault) for fault in self.faults[:MOST_PRINTED]]
        left = len(self.faults) - len(shown)
        return shown + ([f"and {left} more"] if left else [])


def settle(source: str, faults: Sequence[Fault], records: int, *, skip: bool) -> None:
    """Raise for faults, or with `skip` give one note that says how many records are left out.

    Raises
    ------
    FaultyRecords
        If there are any and they are not to be skipped, or one concerns the whole source.
    """
    if not faults:
        return
    if not skip or any(fault.fatal for fault in faults):
        raise FaultyRecords(source, faults, records)
    counts = Counter(fault.kind for fault in faults)
    kinds = ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())
    warnings.warn(
        f"{source}: {len(faults)} faults in {records} records are left out ({kinds}), such as "
        f"{_quoted(faults)}",
        UserWarning,
        stacklevel=2,
    )


def _quoted(faults: Iterable[Fault]) -> str:
    texts = [str(fault) for fault in faults]
    return "; ".join(texts[:_QUOTED]) + ("; ..." if len(texts) > _QUOTED else "")

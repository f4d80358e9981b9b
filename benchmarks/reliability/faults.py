"""What a promise counts while it injects faults."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Count", "Faults"]

#: At most so many losses of a promise are described; all are counted.
_DESCRIBED = 20


@dataclass
class Count:
    """How many faults of a kind were injected, and how many survived."""

    injected: int = 0
    survived: int = 0


@dataclass
class Faults:
    """The faults of one promise.

    Attributes
    ----------
    folder : Path
        An empty folder for the promise's files; it is deleted at the end.
    ends : float
        When the promise must be done, by `time.monotonic`.
    kinds : dict
        Kind of fault to its count.
    lost : list of str
        What a fault cost, the first of each kind first.
    skipped : dict
        Kind of fault to why it cannot be injected here.
    """

    folder: Path
    ends: float = float("inf")
    kinds: dict[str, Count] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the promise must be done: loops of random faults stop in time."""
        return self.ends - time.monotonic()

    def check(self, kind: str, held: bool, what: str) -> None:
        """Count one fault, and whether the promise held; `what` says which fault it was."""
        count = self.kinds.setdefault(kind, Count())
        count.injected += 1
        count.survived += held
        if not held and len(self.lost) < _DESCRIBED:
            self.lost.append(f"{kind}: {what}")

    def skip(self, kind: str, why: str) -> None:
        """Say that a kind of fault cannot be injected on this machine."""
        self.skipped[kind] = why

    @contextmanager
    def fault(self, kind: str, what: str) -> Iterator[None]:
        """Count one fault: it survives unless the block raises."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the promise did not hold
            self.check(kind, False, f"{what}: {type(error).__name__}: {str(error)[:500]}")
        else:
            self.check(kind, True, what)

    def totals(self) -> Counter[str]:
        """Return how many faults were injected, survived and were lost."""
        injected = sum(count.injected for count in self.kinds.values())
        survived = sum(count.survived for count in self.kinds.values())
        return Counter(injected=injected, survived=survived, lost=injected - survived)

"""How much memory a piece of work takes at its worst, beyond what the process holds already.

Linux keeps the high-water mark of each process's resident memory and lets the process set it back. Setting
and reading it costs a fraction of a millisecond. What the work takes from memory that the process holds
free already does not show, so of several rounds the largest figure counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ExtraMemory", "extra_memory"]

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
#: Written to `_CLEAR`: set the high-water mark back to what is resident now.
_RESET = "5"
#: The kernel counts pages in batches for each thread: a mark this much (KiB) above what is resident has
#: been set back.
_SLACK = 8 << 10


@dataclass
class ExtraMemory:
    """The peak of resident memory during a block beyond that at its start, in MiB; None if unknown."""

    mib: float | None = None


@contextmanager
def extra_memory() -> Iterator[ExtraMemory]:
    """Measure the block; the result is complete once the block has ended."""
    taken = ExtraMemory()
    before = _set_back()
    yield taken
    after = _status() if before is not None else None
    if before is not None and after is not None:
        taken.mib = round(max(0, after["VmHWM"] - before) / 1024, 2)


def _set_back() -> int | None:
    """Set the high-water mark back and return it, in KiB; None if the system does not do that."""
    try:
        _CLEAR.write_text(_RESET)
    except OSError:
        return None
    now = _status()
    if now is None or now["VmHWM"] - now["VmRSS"] > _SLACK:
        return None
    return now["VmHWM"]


def _status() -> dict[str, int] | None:
    """Return the process's resident memory and its high-water mark in KiB; None if unknown."""
    try:
        lines = (line.split(":") for line in _STATUS.read_text().splitlines() if line.startswith("Vm"))
        found = {name: int(value.split()[0]) for name, value in lines}
    except (OSError, ValueError, IndexError):
        return None
    return found if {"VmHWM", "VmRSS"} <= found.keys() else None

"""Where a run's time goes: seconds by phase, until round 1 is done and in each later round.

The phases do not overlap and add up to the wall time. In an exchange of messages the busiest worker's own
work counts as training, and all the rest as transport: copying, checking, waiting for a free worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

__all__ = ["PHASES", "Profile", "process_began"]

PHASES = {
    "imports": "Python's modules, from the start of the command",
    "data": "reading or drawing the images, splitting them and dealing them out",
    "set-up": "workers, initial weights, the run folder, asking the hospitals who they are",
    "training": "the hospitals' own work, in the busiest worker",
    "transport": "messages to the hospitals and back, and the check of their replies",
    "aggregation": "the strategy's work",
    "evaluation": "the server's evaluation on validation, clean, noisy and stamped images",
    "records": "writing the round's lines, and the checkpoint to resume from",
}


def process_began() -> float:
    """Return when this process began, as `time.time` counts; where the system does not say, now."""
    try:
        since_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - uptime + since_boot / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.time()


class Profile:
    """Collects the seconds of a run.

    Parameters
    ----------
    began : float, optional
        When the command began, as `time.time` counts; what has passed since then counts as imports.
    """

    def __init__(self, began: float | None = None) -> None:
        """Begin with the time before round 1."""
        self._laps: list[dict[str, float]] = [{}]
        self._inside = 0.0
        if began is not None:
            self.add("imports", max(0.0, time.time() - began))

    def add(self, phase: str, seconds: float) -> None:
        """Count some seconds to a phase of the present lap."""
        self._laps[-1][phase] = self._laps[-1].get(phase, 0.0) + seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block to a phase, less what phases inside it take."""
        outside, self._inside = self._inside, 0.0
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.add(name, passed - self._inside)
            self._inside = outside + passed

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count some of a phase's seconds in this lap to another phase."""
        moved = min(seconds, self._laps[-1].get(source, 0.0))
        self.add(source, -moved)
        self.add(target, moved)

    def lap(self) -> Mapping[str, float]:
        """End the present lap, the start or a round, and return its seconds by phase."""
        self._laps.append({})
        return self._laps[-2]

    def close(self) -> None:
        """Count what came after the last round to that round."""
        for phase, seconds in self._laps.pop().items():
            self.add(phase, seconds)

    def table(self) -> list[tuple[str, float, float | None]]:
        """Return each phase's seconds until round 1 is done, and in a later round (median; None if none)."""
        laps = [lap for lap in self._laps if lap]
        first, later = laps[:2], laps[2:]
        rows = [(name, _sum(first, name), _median(later, name)) for name in PHASES]
        total = [sum(lap.values()) for lap in later]
        return [*rows, ("total", sum(row[1] for row in rows), median(total) if total else None)]


def _sum(laps: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(lap.get(name, 0.0) for lap in laps)


def _median(laps: Sequence[Mapping[str, float]], name: str) -> float | None:
    return median(lap.get(name, 0.0) for lap in laps) if laps else None

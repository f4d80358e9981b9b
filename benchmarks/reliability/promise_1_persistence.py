"""Promise 1: whatever ends a run, a suite or a report, nothing computed is lost and nothing counted twice."""

from __future__ import annotations

from benchmarks.reliability.faults import Faults

__all__ = ["MINUTES", "TITLE", "inject"]

TITLE = "nothing computed is lost, nothing counted twice"
MINUTES = 14


def inject(faults: Faults) -> None:
    """Inject the faults."""
    faults.check("folders", not list(faults.folder.iterdir()), "an empty folder")

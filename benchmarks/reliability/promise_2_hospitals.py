"""Promise 2: whatever a hospital does, its own round is all that it costs."""

from __future__ import annotations

import gc

from benchmarks.reliability.faults import Faults
from benchmarks.reliability.hospital_faults import FAULTS, problems, strategies

TITLE = "A bad hospital costs its own round only"
MINUTES = 13


def inject(faults: Faults) -> None:
    """Let every strategy of the catalogue meet every fault."""
    # Some strategies import torch when they first run. Some of Flower's call the collector for each array:
    # what is there by now it shall not look at.
    import torch  # noqa: F401

    gc.freeze()
    for name in FAULTS:
        for spec in strategies():
            if faults.seconds_left < 0:
                faults.skip(name, "the time is over")
                break
            with faults.fault(name, spec):
                found = list(problems(spec, name))
                assert not found, found[0]

"""Promise 2: whatever a hospital does, its own round is all that it costs."""

from __future__ import annotations

import gc

from benchmarks.reliability.faults import Faults
from benchmarks.reliability.faulty_replies import FAULTS
from benchmarks.reliability.hospital_faults import problems, strategies

TITLE = "A bad hospital costs its own round only"
MINUTES = 10


def inject(faults: Faults) -> None:
    """Let every strategy of the catalogue meet every fault."""
    for name in FAULTS:
        # Flower's QFedAvg calls the collector for each array. It shall not look at what is there by now, such
        # as the libraries that strategies import when they first run: that took half of all the time.
        gc.freeze()
        for spec in strategies():
            if faults.seconds_left < 0:
                faults.skip(name, "the time is over")
                break
            with faults.fault(name, spec):
                found = list(problems(spec, name))
                assert not found, found[0]

"""A thousand hospitals of 4 images each: what a hospital costs beside a hundred such, and whether memory grows with rounds.

    python benchmarks/engine_growth.py cost        cost per hospital at 1,000 over that at 100
    python benchmarks/engine_growth.py memory      memory after 200 rounds over that after 20 (100 hospitals)

The last line is the figure. `engine.py` runs both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

from engine_big import tree_bytes

from fedrobust import Observer, Settings, run
from fedrobust.runtime.observers import RoundOutcome

WORKERS = 2
IMAGES = 4


class MemoryMonitor(Observer):
    """Notes the memory of all processes after some rounds."""

    def __init__(self, *rounds: int) -> None:
        """Choose the rounds."""
        self._rounds = rounds
        self.bytes: list[int] = []

    def round_done(self, outcome: RoundOutcome) -> None:
        """Measure the processes."""
        if outcome.number in self._rounds:
            self.bytes.append(tree_bytes(os.getpid(), ("Pss_Anon", "Pss_Shmem")))


def settings(hospitals: int, rounds: int, out: str) -> Settings:
    """Return a federation of hospitals with 4 images each: 7 of 10 images are for training."""
    images = -(-hospitals * IMAGES * 10 // 7)
    quick: dict[str, Any] = {"networks": 1, "head": "linear", "local_epochs": 1, "strategy": "fedavg"}
    # Patience beyond the rounds: every round is wanted.
    return Settings(
        data=f"phantom(images={images})",
        clients=hospitals,
        rounds=rounds,
        patience=rounds + 1,
        workers=WORKERS,
        out=out,
        **quick,
    )


def seconds(hospitals: int, rounds: int) -> float:
    """Return the seconds of a later round, evaluation left out, by hospital."""
    from fedrobust.runtime.profiling import Profile

    profile = Profile()
    with tempfile.TemporaryDirectory() as out:
        run(settings(hospitals, rounds, out), profile=profile)
    left_out = {"evaluation", "records", "total"}
    return sum(later or 0.0 for name, _, later in profile.table() if name not in left_out) / hospitals


def cost() -> float:
    """Return the ratio of the costs; the small federation is measured before and after the large one."""
    small = [seconds(100, 12)]
    large = seconds(1000, 6)
    small.append(seconds(100, 12))
    print(
        f"a hospital's share of a round: {1e3 * large:.2f} ms of 1,000, {[round(1e3 * s, 2) for s in small]} of 100"
    )
    return large / statistics.mean(small)


def memory() -> float:
    """Return the memory after 200 rounds over that after 20."""
    watch = MemoryMonitor(20, 200)
    with tempfile.TemporaryDirectory() as out:
        run(settings(100, 200, out), [watch])
    print(f"after round 20: {watch.bytes[0] / 1e6:.1f} MB, after round 200: {watch.bytes[1] / 1e6:.1f} MB")
    return watch.bytes[1] / watch.bytes[0]


def main() -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "memory"))
    print({"cost": cost, "memory": memory}[parser.parse_args().what]())


if __name__ == "__main__":
    main()

"""Cost of a hospital among a thousand, relative to one among a hundred, and growth of memory over rounds.

    python benchmarks/engine_growth.py cost        cost per hospital at 1,000 over that at 100
    python benchmarks/engine_growth.py memory      memory after 200 rounds over that after 20 (100 hospitals)

Each hospital has 4 images. The last line is the result. `engine.py` runs both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

from benchmarks.engine_big import tree_bytes
from fedrobust import Observer, Settings, run
from fedrobust.runtime.observers import RoundOutcome

WORKERS = 2
IMAGES = 4


class MemoryMonitor(Observer):
    """Records the memory of all processes after the given rounds."""

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
    # With patience beyond the rounds, no round is saved by early stopping.
    return Settings(
        data=f"phantom(images={images})",
        clients=hospitals,
        rounds=rounds,
        patience=rounds + 1,
        workers=WORKERS,
        out=out,
        networks=1,
        head="linear",
        local_epochs=1,
        strategy="fedavg",
    )


def seconds(hospitals: int, rounds: int) -> float:
    """Return the seconds of a later round without evaluation, divided by the number of hospitals."""
    from fedrobust.runtime.profiling import Profile

    profile = Profile()
    with tempfile.TemporaryDirectory() as out:
        run(settings(hospitals, rounds, out), profile=profile)
    excluded = {"evaluation", "records", "total"}
    return sum(later or 0.0 for name, _, later in profile.table() if name not in excluded) / hospitals


def cost() -> float:
    """Return the ratio of the costs; the small federation is measured before and after the large one."""
    small = [seconds(100, 12)]
    large = seconds(1000, 6)
    small.append(seconds(100, 12))
    print(
        f"a hospital's share of a round: {1e3 * large:.2f} ms of 1,000, "
        f"{[round(1e3 * one, 2) for one in small]} ms of 100"
    )
    return large / statistics.mean(small)


def memory() -> float:
    """Return the memory after 200 rounds over that after 20."""
    monitor = MemoryMonitor(20, 200)
    with tempfile.TemporaryDirectory() as out:
        run(settings(100, 200, out), [monitor])
    print(
        f"after round 20: {monitor.bytes[0] / 1e6:.1f} MB, after round 200: {monitor.bytes[1] / 1e6:.1f} MB"
    )
    return monitor.bytes[1] / monitor.bytes[0]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cost", "memory"))
    print({"cost": cost, "memory": memory}[parser.parse_args().what]())


if __name__ == "__main__":
    main()

"""What it costs that most hospitals of a round are not asked: a round's seconds, and memory over the rounds.

Two federations ask the same number of hospitals in a round, each of them with 3 images and the same images
for evaluation: one has no others, the other has many more. ``round_ratio`` is the median later round of the
large one over that of the small one, all phases included; ``memory_growth`` is the memory of all processes of
the large one after its last round over that after a fifth of the rounds. With ``--json`` the last line is
JSON.

    python benchmarks/participation.py --json

The results are meaningless if the machine does other work at the same time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_growth import MemoryMonitor
from fedrobust import Settings, run
from fedrobust.results.finished_run import FinishedRun

#: Training images of a hospital, and images of the server's validation and test parts.
IMAGES, SERVER_IMAGES = 3, 100
SIDE, CLASSES = 16, 4


def write_images(folder: Path, hospitals: int) -> None:
    """Write a MedMNIST-like file with random images: as many classes, each one bright quarter under noise."""
    rng = np.random.default_rng(0)
    parts: dict[str, NDArray[Any]] = {}
    for part, count in (("train", hospitals * IMAGES), ("val", SERVER_IMAGES), ("test", SERVER_IMAGES)):
        labels = rng.integers(0, CLASSES, count)
        images = rng.integers(0, 120, (count, SIDE, SIDE), dtype=np.uint8)
        half = SIDE // 2
        for image, label in zip(images, labels, strict=True):
            top, left = divmod(int(label), 2)
            image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 100
        parts |= {f"{part}_images": images, f"{part}_labels": labels.reshape(-1, 1)}
    np.savez(folder / "many.npz", **parts)  # type: ignore[arg-type]


def settings(folder: Path, hospitals: int, per_round: int, rounds: int, workers: int) -> Settings:
    """Return a federation of so many hospitals, with its images."""
    folder.mkdir()
    write_images(folder, hospitals)
    return Settings(
        data="medmnist:many",
        data_root=str(folder),
        split="official",
        clients=hospitals,
        per_round=per_round if per_round < hospitals else None,
        rounds=rounds,
        patience=rounds + 1,
        workers=workers,
        out=str(folder),
        networks=1,
        local_epochs=1,
        strategy="fedavg",
    )


def measured(settings: Settings) -> tuple[float, float]:
    """Return the seconds of a later round, and the memory at the end over that after a fifth of them."""
    monitor = MemoryMonitor(max(1, settings.rounds // 5), settings.rounds)
    found = FinishedRun(run(settings, [monitor], report=False).folder)
    # The first two rounds make what later ones use again, and the last line holds the records of the others.
    later = [sum(line.seconds.values()) for line in found.timings if line.round > 2]
    return median(later), monitor.bytes[-1] / monitor.bytes[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hospitals", type=int, default=10_000)
    parser.add_argument("--per-round", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON on the last line")
    given = parser.parse_args()
    options = (given.per_round, given.rounds, given.workers)
    with tempfile.TemporaryDirectory() as folder:
        small, _ = measured(settings(Path(folder) / "small", given.per_round, *options))
        large, growth = measured(settings(Path(folder) / "large", given.hospitals, *options))
    print(f"a round: {small:.3f} s of {given.per_round} hospitals, {large:.3f} s of {given.hospitals}")
    print(f"memory after the last round over that after a fifth of them: {growth:.3f}")
    if given.json:
        print(json.dumps({"round_ratio": round(large / small, 3), "memory_growth": round(growth - 1, 4)}))


if __name__ == "__main__":
    main()

"""What several test files build: records, updates, and one-class federations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedrobust.data.records import Records
from fedrobust.federation import ClientMetrics, Update, Updates
from fedrobust.results.state import state_from_json, state_to_json


def make_records(
    n: int = 20,
    classes: int = 4,
    channels: int = 1,
    size: tuple[int, int] = (8, 8),
    seed: int = 0,
    labels: Sequence[int] | None = None,
) -> Records:
    """Return random images; labels go round the classes unless they are given."""
    rng = np.random.default_rng(seed)
    chosen = np.arange(n) % classes if labels is None else np.asarray(labels)
    return Records(
        images=rng.integers(0, 256, (len(chosen), channels, *size), dtype=np.uint8),
        labels=chosen.astype(np.int64),
        classes=tuple(f"class {number}" for number in range(classes)),
        facts={"site": np.array([f"site {number % 3}" for number in range(len(chosen))])},
        source="made",
    )


def easy_records(n: int = 64, size: int = 12, seed: int = 0) -> Records:
    """Return four classes that are easy to separate: each has one bright quarter, under some noise."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 4).astype(np.int64)
    images = rng.integers(0, 80, (n, 1, size, size))
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = divmod(int(label), 2)
        image[0, top * half : (top + 1) * half, left * half : (left + 1) * half] += 120
    return Records(images.astype(np.uint8), labels, ("nw", "ne", "sw", "se"), source="easy")


def make_updates(
    n: int = 5,
    d: int = 40,
    seed: int = 0,
    round: int = 1,
    buffers: int = 0,
    values: Sequence[dict[str, float | tuple[float, ...]]] | None = None,
    num_examples: Sequence[int] | None = None,
    nodes: Sequence[int] | None = None,
) -> Updates:
    """Return a round of random updates around a random global model."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(d).astype(np.float32)
    return Updates(
        [
            Update(
                node=position if nodes is None else nodes[position],
                parameters=base + rng.standard_normal(d).astype(np.float32),
                report=ClientMetrics(
                    10 if num_examples is None else num_examples[position],
                    {} if values is None else values[position],
                ),
                global_parameters=base,
                buffers=rng.standard_normal(buffers).astype(np.float32),
                round=round,
            )
            for position in range(n)
        ]
    )


def restored(state: Mapping[str, Any]) -> Any:
    """Return a plug-in's state as a checkpoint gives it back."""
    return state_from_json(state_to_json(state, "a plug-in"))


def reporting(losses: Sequence[float], round: int, nodes: Sequence[int] | None = None) -> Updates:
    """Return a round in which the hospitals report these losses of their last mini-batch."""
    values: list[dict[str, float | tuple[float, ...]]] = [{"last-loss": float(loss)} for loss in losses]
    return make_updates(len(losses), d=3, round=round, values=values, nodes=nodes)


def processes_of(folder: Path) -> list[str]:
    """Return the commands of all processes that know of this folder."""
    word, found = str(folder).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if word in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found

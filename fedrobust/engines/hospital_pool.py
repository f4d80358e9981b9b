"""The local engine for a run: a pool whose workers share the hospitals' records."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.clientapp import ClientApp

from fedrobust.data.scratch import on_disk, scratch_folder
from fedrobust.data.sources import FederationData, adopt
from fedrobust.engines.pool import PoolGrid
from fedrobust.engines.shared_folder import SharedFolder
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.memory import MemoryStore
from fedrobust.scenario import Scenario

__all__ = ["pool_of_hospitals"]


def pool_of_hospitals(
    client_app: ClientApp,
    scenario: Scenario,
    data: FederationData,
    workers: int,
    on_reply: Callable[[], None] | None = None,
    memories: MemoryStore | None = None,
) -> PoolGrid:
    """Return a pool whose workers map the hospitals' records instead of loading them.

    The training images are written to a shared file once, one hospital after another, so that a hospital's
    records are a view of the file in every worker.
    """
    ordered = data.records.take(np.concatenate(data.hospitals))
    size = ordered.images.nbytes
    # Shared memory is memory: what is too much for it stays on disk, and is mapped from there.
    folder = SharedFolder(size, scratch_folder() if on_disk(data.records.images, size) else None)
    try:
        images = folder.path / "images.npy"
        np.save(images, ordered.images)
        ends = np.cumsum([len(part) for part in data.hospitals])
        hospitals = tuple(
            np.arange(end - len(part), end) for part, end in zip(data.hospitals, ends, strict=True)
        )
        empty = np.zeros(0, np.int64)
        light = replace(
            data,
            records=replace(ordered, images=np.zeros((len(ordered), 1, 0, 0), np.uint8)),
            split=replace(data.split, train=np.arange(len(ordered)), val=empty, test=empty),
            hospitals=hospitals,
            site_tests=(),
        )
        make_app = functools.partial(_hospitals_app, scenario, light, images, memories)
        return PoolGrid(
            client_app,
            make_app,
            scenario.hospitals,
            workers,
            folder,
            scenario.execution.client_timeout,
            on_reply,
        )
    except BaseException:
        folder.remove()
        raise


def _hospitals_app(
    scenario: Scenario, light: FederationData, images: Path, memories: MemoryStore | None
) -> ClientApp:
    """Return a worker's ClientApp, whose records are those in the shared file."""
    mapped: Any = np.load(images, mmap_mode="r")
    adopt(scenario.data, replace(light, records=replace(light.records, images=mapped)))
    return make_client_app(scenario, memories)

"""Cells as tasks on a Ray cluster: each runs whole on one CPU of some node, and its folder comes back as bytes.

Nothing is read from Ray but names and bytes of files. A cell that is cut off begins anew: what a node had of it is lost.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fedrobust.engines.timeouts import may_end_this_process
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings
from fedrobust.suites.cells import Cell, laid_out, note_failure, run_one
from fedrobust.suites.progress import Lines, Watcher

__all__ = ["run_cells_on_ray"]

Key = TypeVar("Key", bound=Hashable)


def run_cells_on_ray(
    cells: Mapping[Key, Settings],
    address: str,
    out: Path,
    *,
    jobs: int | None = None,
    watcher: Watcher | None = None,
    report: bool = False,
    seconds: float | None = None,
) -> dict[Key, Cell]:
    """Run all cells that have no finished run yet, on a running Ray cluster; see `run_cells`.

    Parameters
    ----------
    cells, out, watcher, report, seconds
        As for `run_cells`. Every node needs fedrobust, the data under the same `data_root`, and plug-ins of your
        own in a folder of the same path as the one where this process runs.
    address : str
        ``host:port`` of the cluster, or ``auto``.
    jobs : int, optional
        Cells at once; as many as the cluster has CPUs unless given.

    Raises
    ------
    UserError
        If no cluster answers at the address, or none that this process can join.
    """
    from fedrobust.engines.flower import join_cluster, leave_cluster

    placed, waiting = laid_out(cells, out, watcher := watcher or Lines())
    errors: dict[str, str] = {}
    if waiting:
        cpus = join_cluster(address)
        try:
            errors = _work_off(waiting, jobs or cpus, watcher, report, seconds)
        finally:
            watcher.closed()
            leave_cluster()
    return {name: Cell(settings, errors.get(settings.digest(), "")) for name, settings in placed.items()}


def _work_off(
    waiting: Mapping[str, Settings], jobs: int, watcher: Watcher, report: bool, seconds: float | None
) -> dict[str, str]:
    import ray

    task = ray.remote(num_cpus=1, max_retries=0)(_whole_run)
    queue, errors, again = deque(waiting.items()), dict[str, str](), set[str]()
    ends = None if seconds is None else time.monotonic() + seconds
    at_work: dict[Any, tuple[str, Settings, float]] = {}
    while queue or at_work:
        while queue and len(at_work) < jobs and (ends is None or time.monotonic() < ends):
            digest, settings = queue.popleft()
            # Only plain values travel: the node checks them as any settings.
            reference = task.remote(settings.model_dump(exclude={"out"}), report)
            at_work[reference] = (digest, settings, time.monotonic())
            watcher.began(settings)
        if not at_work:
            break
        (ready, *_), _ = ray.wait(list(at_work), num_returns=1)
        digest, settings, since = at_work.pop(ready)
        error, lost = _kept(settings, ready)
        if lost and digest not in again:
            # The node may have gone, or a hospital's code ended the process: as in `run_cells`, a second try tells them apart.
            again.add(digest)
            queue.append((digest, settings.model_copy(update={"workers": 2})))
            watcher.ended(settings, None, time.monotonic() - since)
            continue
        note_failure(settings, error)
        if error:
            errors[digest] = error
        watcher.ended(settings, error, time.monotonic() - since)
    return errors


def _whole_run(values: dict[str, Any], report: bool) -> tuple[str, dict[str, bytes]]:
    """Run one cell on a node; return its error, or its files by name."""
    import warnings

    warnings.simplefilter("ignore")
    import torch

    # One CPU is what the cell was given.
    torch.set_num_threads(1)
    may_end_this_process()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(**values, out=folder)
        error = run_one(settings, report=report)
        if error:
            return error, {}
        final = RunIdentity.of(settings).folder
        return "", {file.name: file.read_bytes() for file in sorted(final.iterdir()) if file.is_file()}


def _kept(settings: Settings, reference: Any) -> tuple[str, bool]:
    """Put a cell's files in their place; return what went wrong, or nothing, and whether the process or node was lost."""
    import ray

    try:
        error, files = ray.get(reference)
    except Exception as lost:  # noqa: BLE001 - whatever the cluster does costs nobody but this cell
        return f"the cell was lost on the cluster: {str(lost).strip().splitlines()[0]}", True
    if error:
        return str(error), False
    final = RunIdentity.of(settings).folder
    aside = final.with_name(final.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, content in files.items():
        # A name is a file's own, never a path out of the folder.
        (aside / Path(name).name).write_bytes(content)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(aside, final)
    return "", False

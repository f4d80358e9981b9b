"""Cells as tasks on a Ray cluster: each runs on one CPU of a node, and its folder comes back as bytes.

Nothing is read from Ray but names and bytes of files. A cell that is cut off begins again: what a node had
of it is lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedrobust.disk.lock import Held
from fedrobust.engines.timeouts import may_end_this_process
from fedrobust.errors import UserError
from fedrobust.results.folder import RunFolder
from fedrobust.scenario import RunIdentity
from fedrobust.settings import Settings
from fedrobust.suites.one_cell import run_one
from fedrobust.suites.scheduler import Outcome
from fedrobust.suites.suite import Table

__all__ = ["RayExecutor"]


class RayExecutor:
    """Runs cells on a running Ray cluster.

    Every node needs fedrobust, the data under the same `data_root`, and plug-ins of your own in a folder of
    the same path as the one where this process runs.

    Parameters
    ----------
    address : str
        ``host:port`` of the cluster, or ``auto``.
    jobs : int or None
        Cells at once; None for as many as the cluster has CPUs.
    report : bool
        Whether each run gets a page.

    Raises
    ------
    UserError
        If no cluster answers at the address, or none that this process can join.
    """

    def __init__(self, address: str, jobs: int | None, report: bool) -> None:
        """Join the cluster."""
        from fedrobust.engines.flower import join_cluster

        cpus = join_cluster(address)
        import ray

        self._task = ray.remote(num_cpus=1, max_retries=0)(_whole_run)
        self._slots, self._report = jobs or cpus, report
        self._running: dict[Any, tuple[str, Settings]] = {}

    @property
    def slots(self) -> int:
        """Return how many cells run at once."""
        return self._slots

    def start(self, digest: str, settings: Settings) -> None:
        """Hand a cell to the cluster."""
        # Only plain values travel: the node checks them as any settings.
        reference = self._task.remote(settings.model_dump(exclude={"out"}), self._report)
        self._running[reference] = digest, settings

    def wait(self) -> Sequence[Outcome]:
        """Wait until a cell has ended, and put its files in their place."""
        import ray

        (ready, *_), _ = ray.wait(list(self._running), num_returns=1)
        _, settings = self._running.pop(ready)
        return [_kept(settings, ready)]

    def close(self) -> None:
        """Leave the cluster."""
        from fedrobust.engines.flower import leave_cluster

        leave_cluster()


def _whole_run(values: Table, report: bool) -> tuple[str, dict[str, bytes]]:
    """Run one cell on a node; return its error, or its files by name."""
    import warnings

    warnings.simplefilter("ignore")
    import torch

    # One CPU is what the cell was given.
    torch.set_num_threads(1)
    may_end_this_process()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(**values, out=folder)
        error = run_one(settings, report=report).error
        if error:
            return error, {}
        final = RunIdentity.of(settings).folder
        return "", {file.name: file.read_bytes() for file in sorted(final.iterdir()) if file.is_file()}


def _kept(settings: Settings, reference: Any) -> Outcome:
    """Put a cell's files in their place."""
    import ray

    try:
        error, files = ray.get(reference)
    except Exception as lost:  # noqa: BLE001 - whatever the cluster does fails this cell only
        first = str(lost).strip().splitlines()[0]
        return Outcome(settings.digest(), f"the cell was lost on the cluster: {first}", lost=True)
    if error:
        return Outcome(settings.digest(), str(error))
    try:
        folder = RunFolder(RunIdentity.of(settings))
        try:
            for name, content in files.items():
                # A name is a file's own, never a path out of the folder.
                folder.write_bytes(Path(name).name, content)
            folder.finish()
        finally:
            folder.release()
    except UserError as refused:
        return Outcome(settings.digest(), str(refused), held=isinstance(refused, Held))
    return Outcome(settings.digest())

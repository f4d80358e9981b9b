"""How many worker processes train, and their early start; light to import, so that they start first."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from fedrobust.engines.socket_folder import use_socket_folder
from fedrobust.settings.execution import Execution

__all__ = ["SAFE_PATH", "keep_freed_memory", "warm_up", "without_main_module", "worker_count"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: Python's own variable: where it is set, neither a script's nor the working folder is searched first.
SAFE_PATH = "PYTHONSAFEPATH"


def worker_count(execution: Execution) -> int:
    """Return how many processes train: `workers`, or one for each core, never more than hospitals.

    A process of a `multiprocessing.Pool` may not have any of its own: it trains itself.
    """
    if _may_not_start_processes():
        return 1
    if execution.device != "cpu" and execution.workers == "auto":
        return 1
    wanted = execution.workers if isinstance(execution.workers, int) else _cores()
    return min(wanted, execution.hospitals)


def _may_not_start_processes() -> bool:
    process = sys.modules.get("multiprocessing.process")
    return process is not None and bool(process.current_process().daemon)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up(execution: Execution) -> None:
    """Start the fork server of the local engine: it imports what workers need meanwhile."""
    if execution.engine != "local":
        return
    import multiprocessing
    import multiprocessing.forkserver

    use_socket_folder()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fedrobust.engines.preload"])
    with _without_working_folder():
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def _without_working_folder() -> Iterator[None]:
    """Keep interpreters that start meanwhile from searching the working folder first, as ``python -c`` does.

    `preload` takes the variable out of the fork server again: what a plug-in starts is not bound by it.
    """
    if SAFE_PATH in os.environ or sys.flags.safe_path:
        yield
        return
    os.environ[SAFE_PATH] = __name__
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Keep processes that start meanwhile from importing the main module again.

    They need nothing of it, and a script that calls `fedrobust.run` without an ``if __name__ == "__main__"``
    would otherwise start a federation in every worker.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        # The fork server starts here where nothing has started it before.
        with _without_working_folder():
            yield
    finally:
        sys.modules["__main__"] = main


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next batch; return whether the C library can.

    glibc gives the memory of nearly every batch back to the system, and training then gets it again page by
    page: a tenth of the time with small networks, more beside another worker. Half a gigabyte may stay.
    Results do not depend on it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(_M_TRIM_THRESHOLD, 512 << 20))

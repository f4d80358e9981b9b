"""The local engine's pool: a Grid whose hospitals train in worker processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from fedrobust.config import Settings
from fedrobust.data.sources import FederationData, adopt
from fedrobust.engines.local import LocalGrid

__all__ = ["PoolGrid", "warm_up", "worker_count"]

_ERROR_CLIENT_RAISED = 1
_ERROR_WORKER_DIED = 2

_worker_app: ClientApp | None = None


def worker_count(settings: Settings) -> int:
    """Return how many processes train: `workers`, or one for each core, never more than hospitals."""
    if settings.device != "cpu" and settings.workers == "auto":
        return 1
    wanted = settings.workers if isinstance(settings.workers, int) else _cores()
    return min(wanted, settings.clients)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up() -> None:
    """Start the fork server, which imports what workers need while this process goes on."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fedrobust.engines.preload"])
    multiprocessing.forkserver.ensure_running()


class PoolGrid(LocalGrid):
    """Deals messages out to worker processes; a hospital whose worker dies loses its round.

    Parameters
    ----------
    client_app : ClientApp
        Used for questions that need no training; workers make their own.
    settings : Settings
    data : FederationData
        Written once to shared memory; workers map it.
    workers : int
    on_reply : callable, optional
        Called without arguments after each reply to a training message.
    """

    def __init__(
        self,
        client_app: ClientApp,
        settings: Settings,
        data: FederationData,
        workers: int,
        on_reply: Callable[[], None] | None = None,
    ) -> None:
        """Write the records where workers find them; processes start with the first message."""
        super().__init__(client_app, settings.clients, on_reply)
        self._settings = settings
        self._workers = workers
        shared = Path("/dev/shm")
        self._folder = Path(
            tempfile.mkdtemp(prefix="fedrobust-", dir=shared if _roomy(shared, data) else None)
        )
        np.save(self._folder / "images.npy", data.records.images)
        empty = np.zeros((len(data.records), 1, 0, 0), np.uint8)
        self._light = replace(data, records=replace(data.records, images=empty))
        self._pool: ProcessPoolExecutor | None = None

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies in the order of completion; a dead worker's hospitals are errors."""
        sent = list(messages)
        if not any(message.metadata.message_type == "train" for message in sent):
            return super().send_and_receive(sent, timeout=timeout)
        running: dict[Future[Message], Message] = {}
        replies: list[Message] = []
        broken: list[Message] = []
        for message in sent:
            try:
                running[self._submit(message)] = message
            except BrokenProcessPool:
                broken.append(message)
        for done in as_completed(running):
            try:
                replies.append(self._counted(done.result()))
            except BrokenProcessPool:
                broken.append(running[done])
        # A dead worker takes the whole pool along. Each hospital that was not done tries again by itself: the one
        # that kills its worker is found, the others lose nothing.
        if broken:
            self._stop_pool()
        replies += [self._counted(self._alone(message)) for message in broken]
        return replies

    def _counted(self, reply: Message) -> Message:
        if self._on_reply is not None:
            self._on_reply()
        return reply

    def _alone(self, message: Message) -> Message:
        try:
            return self._submit(message).result()
        except BrokenProcessPool:
            self._stop_pool()
            return Message(Error(_ERROR_WORKER_DIED, "its worker process died"), reply_to=message)

    def _submit(self, message: Message) -> Future[Message]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("forkserver"),
                initializer=_start_worker,
                initargs=(self._settings, self._light, str(self._folder / "images.npy"), list(sys.path)),
            )
        with _main_left_alone():
            return self._pool.submit(_work, message, self._contexts[message.metadata.dst_node_id])

    def _stop_pool(self) -> None:
        """End the workers, also in the middle of a training."""
        if self._pool is None:
            return
        # Python 3.14's terminate_workers(), for the versions before it.
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def close(self) -> None:
        """End the workers and remove the shared records."""
        self._stop_pool()
        shutil.rmtree(self._folder, ignore_errors=True)


def _roomy(folder: Path, data: FederationData) -> bool:
    """Tell whether shared memory exists and has room for twice the images."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free > 2 * data.records.images.nbytes
    return False


@contextlib.contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep new processes from importing the main module again.

    They need nothing of it, and a script that calls `fedrobust.run` without an ``if __name__ == "__main__"`` would
    otherwise start a federation in every worker.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker(settings: Settings, light: FederationData, images: str, path: list[str]) -> None:
    """Make a worker ready: the user's folder on the path, the records mapped, the ClientApp built."""
    global _worker_app
    # Ctrl-C reaches the whole process group; the server ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    from fedrobust.app import make_client_app

    mapped: Any = np.load(images, mmap_mode="r")
    adopt(settings, replace(light, records=replace(light.records, images=mapped)))
    _worker_app = make_client_app(settings)


def _work(message: Message, context: Context) -> Message:
    assert _worker_app is not None
    try:
        return _worker_app(message, context)
    except Exception:  # noqa: BLE001 - whatever a hospital does costs it its round, never the run
        return Message(Error(_ERROR_CLIENT_RAISED, traceback.format_exc()), reply_to=message)

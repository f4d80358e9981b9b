"""The local engine's pool: a Grid whose hospitals train in worker processes of this machine.

Each worker has one hospital at a time, and the grid knows which. So a worker that dies or hangs costs that hospital its
round and nobody else's; a fresh worker takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Error, Message
from flwr.clientapp import ClientApp

from fedrobust.config import Settings
from fedrobust.data.sources import FederationData, adopt
from fedrobust.engines.local import LocalGrid
from fedrobust.engines.shared import discard, shared

__all__ = ["PoolGrid", "warm_up", "worker_count"]

_ERROR_CLIENT_RAISED = 1
_ERROR_WORKER_LOST = 2


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


@dataclass
class _Worker:
    """A process, the pipe to it, and what it is at."""

    process: Any
    pipe: Connection
    message: Message | None = None
    since: float = 0.0


class PoolGrid(LocalGrid):
    """Deals messages out to worker processes, a hospital at a time each.

    Parameters
    ----------
    client_app : ClientApp
        Used for questions that need no training; workers make their own.
    settings : Settings
        `client_timeout` bounds the time of one hospital's training.
    data : FederationData
        The images are written once to shared memory; workers map them.
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
        """Write the records where workers find them, and start the workers."""
        super().__init__(client_app, settings.clients, on_reply)
        self._settings = settings
        shared = Path("/dev/shm")
        self._folder = Path(
            tempfile.mkdtemp(prefix="fedrobust-", dir=shared if _roomy(shared, data) else None)
        )
        np.save(self._folder / "images.npy", data.records.images)
        empty = np.zeros((len(data.records), 1, 0, 0), np.uint8)
        self._light = replace(data, records=replace(data.records, images=empty))
        self._workers = [self._start() for _ in range(workers)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies in the order of completion; a lost worker's hospital is an error."""
        asked = list(messages)
        if not any(message.metadata.message_type == "train" for message in asked):
            return super().send_and_receive(asked, timeout=timeout)
        known: dict[int, ArrayRecord] = {}
        waiting = deque(shared(message, self._folder, known) for message in asked)
        sent = list(waiting)
        try:
            return self._work_off(waiting)
        finally:
            for message in sent:
                discard(message)

    def _work_off(self, waiting: deque[Message]) -> list[Message]:
        replies: list[Message] = []
        while waiting or any(worker.message for worker in self._workers):
            for place, worker in enumerate(self._workers):
                if worker.message is None and waiting:
                    self._workers[place] = self._give(worker, waiting.popleft())
            self._wait()
            for place, worker in enumerate(self._workers):
                reply = self._take(worker)
                if reply is None:
                    continue
                if reply.has_error() and reply.error.code == _ERROR_WORKER_LOST:
                    self._stop(worker)
                    self._workers[place] = self._start()
                worker.message = None
                replies.append(reply)
                if self._on_reply is not None:
                    self._on_reply()
        return replies

    def _give(self, worker: _Worker, message: Message) -> _Worker:
        """Send a message to a worker, a fresh one if it has died at rest."""
        job = (message, self._contexts[message.metadata.dst_node_id])
        try:
            worker.pipe.send(job)
        except OSError:
            self._stop(worker)
            worker = self._start()
            worker.pipe.send(job)
        worker.message, worker.since = message, time.monotonic()
        return worker

    def _take(self, worker: _Worker) -> Message | None:
        """Return a busy worker's reply, or an error if it is lost; None while it works."""
        if worker.message is None:
            return None
        limit = self._settings.client_timeout
        try:
            if worker.pipe.poll():
                reply: Message = worker.pipe.recv()
                discard(reply)
                return reply
            if time.monotonic() - worker.since < limit:
                return None
            reason = f"no answer within {limit:g} s"
        except (EOFError, OSError):
            reason = "its worker process died"
        return Message(Error(_ERROR_WORKER_LOST, reason), reply_to=worker.message)

    def _wait(self) -> None:
        """Sleep until a worker answers or dies, or a time limit may be over."""
        busy = [worker for worker in self._workers if worker.message is not None]
        if busy:
            oldest = min(worker.since for worker in busy)
            left = oldest + self._settings.client_timeout - time.monotonic()
            wait([worker.pipe for worker in busy], timeout=max(0.0, left))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe()
        images = str(self._folder / "images.npy")
        arguments = (theirs, self._settings, self._light, images, str(self._folder), list(sys.path))
        process = context.Process(target=_serve, args=arguments, daemon=True)
        with _main_left_alone():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    @staticmethod
    def _stop(worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()

    def close(self) -> None:
        """End the workers, also in the middle of a training, and remove the shared records."""
        for worker in self._workers:
            self._stop(worker)
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


def _serve(
    pipe: Connection, settings: Settings, light: FederationData, images: str, folder: str, path: list[str]
) -> None:
    """Answer messages until the pipe closes: a worker's whole life."""
    # Ctrl-C reaches the whole process group; the server ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    from fedrobust.client import make_client_app

    mapped: Any = np.load(images, mmap_mode="r")
    adopt(settings, replace(light, records=replace(light.records, images=mapped)))
    app = make_client_app(settings)
    # An end of the pipe means that the server is gone: there is nobody left to answer.
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(shared(_answer(app, *pipe.recv()), Path(folder)))


def _answer(app: ClientApp, message: Message, context: Context) -> Message:
    try:
        return app(message, context)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever a hospital does costs it its round, never the run
        return Message(Error(_ERROR_CLIENT_RAISED, traceback.format_exc()), reply_to=message)

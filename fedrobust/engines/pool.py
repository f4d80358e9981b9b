"""The local engine's pool: a Grid whose hospitals train in worker processes of this machine.

Each worker has one hospital at a time, and the grid knows which. If a worker dies or hangs, only that
hospital fails in the round, and a new worker replaces it. The next hospital's message already waits in the
worker's pipe, so that a worker never waits while the grid reads a reply.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import pickle
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from flwr.app import ArrayRecord, Error, Message
from flwr.clientapp import ClientApp

from fedrobust.engines.answering import no_answer
from fedrobust.engines.launch import without_main_module
from fedrobust.engines.local import LocalGrid
from fedrobust.engines.shared_arrays import broadcast, dumps, loads
from fedrobust.engines.shared_folder import SharedFolder
from fedrobust.engines.slots import Place, Slots
from fedrobust.engines.socket_folder import use_socket_folder
from fedrobust.engines.worker import (
    COLLECT_BYTES,
    Done,
    Job,
    end_with_children,
    largest_reply,
    serve,
    too_large,
)
from fedrobust.flower.arrays import records_in

__all__ = ["PoolGrid"]

_ERROR_CLIENT_RAISED = 1
_ERROR_WORKER_LOST = 2

#: Seconds that a worker may take to start: the fork server may still be importing.
_START_S = 60.0

#: Bytes that certainly fit a pipe that is not read: 64 KiB on Linux, 16 KiB on macOS.
_PIPE_HOLDS = 1 << 13


@dataclass
class _Worker:
    """A process, the pipe to it, and its messages: the first under way, the others waiting in the pipe."""

    number: int
    process: Any
    pipe: Connection
    tasks: deque[tuple[Message, list[Place]]] = field(default_factory=deque)
    up: bool = False
    spoilt: bool = False
    since: float = 0.0
    busy_s: float = 0.0


class PoolGrid(LocalGrid):
    """Distributes messages over worker processes, each of which has one hospital at a time.

    Parameters
    ----------
    client_app : ClientApp
        Answers here what needs no training.
    make_app : callable
        Picklable; each worker calls it without arguments for a ClientApp of its own.
    hospitals : int
    workers : int
    folder : SharedFolder
        For shared files; removed in the end.
    limit_s : float
        Seconds before a hospital is dropped from the round.
    on_reply : callable, optional
        Called without arguments after each reply to a training message.
    """

    def __init__(
        self,
        client_app: ClientApp,
        make_app: Callable[[], ClientApp],
        hospitals: int,
        workers: int,
        folder: SharedFolder,
        limit_s: float = 3600.0,
        on_reply: Callable[[], None] | None = None,
    ) -> None:
        """Start the workers."""
        super().__init__(client_app, hospitals, on_reply, limit_s)
        self._make_app = make_app
        self._folder = folder
        self._slots = Slots(folder.path)
        self._states: dict[int, bytes] = {}
        self._started = 0
        self._largest = 0
        self._selector = selectors.DefaultSelector()
        self._workers = [self._start() for _ in range(workers)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies in the order of completion; an error where a worker died."""
        asked = list(messages)
        if not any(message.metadata.message_type.startswith(("train", "evaluate")) for message in asked):
            return super().send_and_receive(asked, timeout=timeout)
        if self._slots.used_bytes > COLLECT_BYTES:
            gc.collect()
        for worker in self._workers:
            worker.busy_s = 0.0
        replies = self._exchange(asked)
        self.busy_s = max(worker.busy_s for worker in self._workers)
        return replies

    def _exchange(self, asked: list[Message]) -> list[Message]:
        known: dict[int, ArrayRecord] = {}
        contents: dict[int, tuple[bytes, list[int]]] = {}
        for message in asked:
            if id(message.content) not in contents:
                records = records_in(message.content, ArrayRecord).values()
                sizes = [array.numpy().nbytes for record in records for array in record.values()]
                contents[id(message.content)] = (dumps(broadcast(message.content, self._slots, known)), sizes)
                # Beside the reply's content there are the node's state and the reply's frame.
                self._largest = max(self._largest, 2 * largest_reply(sum(sizes)))
        waiting = deque(asked)
        replies: list[Message] = []
        while waiting or any(worker.tasks for worker in self._workers):
            for place in range(len(self._workers)):
                self._assign(place, waiting, contents)
            ready = self._ready()
            for place, worker in enumerate(self._workers):
                if worker.number in ready and not self._has_reply(place, waiting):
                    continue
                reply = self._receive(worker, worker.number in ready)
                if reply is None:
                    continue
                if reply.has_error() and reply.error.code == _ERROR_WORKER_LOST:
                    self._replace(place, waiting)
                elif worker.spoilt:
                    self._replace(place, waiting, lost=0)
                replies.append(reply)
                if self._on_reply is not None and reply.metadata.message_type.startswith("train"):
                    self._on_reply()
        return replies

    def _assign(
        self, place: int, waiting: deque[Message], contents: dict[int, tuple[bytes, list[int]]]
    ) -> None:
        """Send a worker its next message, and one in advance while there are enough for all workers."""
        worker = self._workers[place]
        while waiting and len(worker.tasks) < (2 if len(waiting) > len(self._workers) else 1):
            message = waiting.popleft()
            content, sizes = contents[id(message.content)]
            node = message.metadata.dst_node_id
            places = self._reserved(sizes)
            config = self._contexts[node].node_config
            state = self._states.get(node, b"")
            job = Job(node, config, message.metadata.message_type, content, state, places)
            data = pickle.dumps(job)
            if not worker.tasks:
                worker.since = time.monotonic()
            elif len(data) > _PIPE_HOLDS:
                # Both ends would wait for each other: this one to be read, the worker's reply likewise.
                self._slots.release(places)
                waiting.appendleft(message)
                return
            worker.tasks.append((message, places))
            try:
                worker.pipe.send_bytes(data)
            except OSError:
                # It died between two hospitals. If it was training one, `_receive` finds out.
                if len(worker.tasks) > 1:
                    return
                worker = self._replace(place, waiting, lost=0)

    def _reserved(self, sizes: Iterable[int]) -> list[Place]:
        """Return slots for a reply of the same sizes; none where no file can be made."""
        places: list[Place] = []
        with contextlib.suppress(OSError):
            for size in sizes:
                if size:
                    places.append(self._slots.take(size))
        return places

    def _has_reply(self, place: int, waiting: deque[Message]) -> bool:
        """Tell whether a worker has sent a reply; otherwise it has started, or died between two hospitals."""
        worker = self._workers[place]
        if worker.tasks and worker.up:
            return True
        try:
            worker.pipe.recv_bytes()
        except (EOFError, OSError):
            # If it died while it had a hospital's message, `_receive` handles it.
            if not worker.tasks:
                self._replace(place, waiting, lost=0)
            return bool(worker.tasks)
        worker.up, worker.since = True, time.monotonic()
        return False

    def _receive(self, worker: _Worker, ready: bool) -> Message | None:
        """Return a busy worker's reply, or an error if it is lost; None while it works."""
        if not worker.tasks:
            return None
        message, places = worker.tasks[0]
        try:
            if ready:
                done: Done = pickle.loads(worker.pipe.recv_bytes(self._largest))
                worker.tasks.popleft()
                worker.since = time.monotonic()
                return self._received(worker, message, places, done)
            if time.monotonic() < self._deadline(worker):
                return None
            reason = no_answer(self._limit_s)
        except (EOFError, OSError) as error:
            too_long = "bad message length" in str(error)
            reason = too_large("more than", self._largest) if too_long else "its worker process died"
        return Message(Error(_ERROR_WORKER_LOST, reason), reply_to=message)

    def _received(self, worker: _Worker, message: Message, places: list[Place], done: Done) -> Message:
        worker.busy_s += done.seconds
        worker.spoilt = done.spoilt
        self._slots.hold(worker.number, done.kept)
        self._slots.release(place for place in places if place not in done.used)
        if done.state:
            self._states[message.metadata.dst_node_id] = done.state
        if done.error:
            return Message(Error(_ERROR_CLIENT_RAISED, done.error), reply_to=message)
        return Message(loads(done.content, self._slots.view), reply_to=message)

    def _ready(self) -> set[int]:
        """Wait for a worker to answer or die, or for a time limit; return the workers that sent something."""
        first = min((self._deadline(w) for w in self._workers if w.tasks), default=0.0)
        return {key.data for key, _ in self._selector.select(max(0.0, first - time.monotonic()))}

    def _deadline(self, worker: _Worker) -> float:
        """Return when a worker's first message is overdue; the worker's start does not count."""
        return worker.since + self._limit_s + (0.0 if worker.up else _START_S)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._make_app, list(sys.path))
        use_socket_folder()
        process = context.Process(target=serve, args=arguments, daemon=True)
        with without_main_module():
            process.start()
        theirs.close()
        self._started += 1
        self._selector.register(ours, selectors.EVENT_READ, self._started)
        return _Worker(self._started, process, ours)

    def _replace(self, place: int, waiting: deque[Message], lost: int = 1) -> _Worker:
        """End a worker and start a new one; its messages but the first `lost` ones wait for any worker."""
        worker = self._workers[place]
        self._stop(worker)
        for number, (message, places) in enumerate(worker.tasks):
            self._slots.release(places)
            if number >= lost:
                waiting.appendleft(message)
        self._slots.hold(worker.number, set())
        self._workers[place] = self._start()
        return self._workers[place]

    def _stop(self, worker: _Worker) -> None:
        self._selector.unregister(worker.pipe)
        worker.pipe.close()
        end_with_children(worker.process.pid)
        worker.process.kill()
        worker.process.join()

    def close(self) -> None:
        """End the workers, also in the middle of a training, and remove the shared files."""
        for worker in self._workers:
            self._stop(worker)
        self._workers = []
        self._selector.close()
        self._folder.remove()

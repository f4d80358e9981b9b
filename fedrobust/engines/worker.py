"""A worker process of the pool: answers messages, one hospital at a time, until its pipe closes."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.engines.answering import answer
from fedrobust.engines.process_state import ProcessState, adopt_orphans, descendants
from fedrobust.engines.shared_arrays import WorkerMemory, dumps, loads, outgoing
from fedrobust.engines.slots import Place
from fedrobust.flower.arrays import records_in
from fedrobust.flower.compat import identify_process
from fedrobust.flower.reply_checks import last_line

__all__ = ["COLLECT_BYTES", "Done", "Job", "end_with_children", "largest_reply", "serve", "too_large"]

#: Bytes of shared memory that may wait for Python's collector; reference cycles of Flower's records hold
#: them.
COLLECT_BYTES = 1 << 26

#: A reply may hold wider numbers than the model, and metrics.
_WIDER, _REST = 4, 1 << 24


class Job(NamedTuple):
    """What a worker gets for one hospital; `content` and `state` are pickled already."""

    node: int
    node_config: Any
    message_type: str
    content: bytes
    state: bytes
    places: list[Place]


class Done(NamedTuple):
    """What a worker sends back; spoilt if the hospital left something in the process that may not stay."""

    content: bytes
    state: bytes
    error: str
    used: list[Place]
    kept: set[Place]
    seconds: float
    spoilt: bool


def serve(pipe: Connection, make_app: Callable[[], ClientApp], path: list[str]) -> None:
    """Answer messages until the pipe closes."""
    # Ctrl-C reaches the process group; the server ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_alone(pipe)
    sys.path[:] = path
    identify_process()
    app = make_app()
    memory = WorkerMemory()
    # What is loaded by now stays: the collector need not examine it again and again.
    gc.freeze()
    state = ProcessState()
    # The end of the pipe means that the server has ended.
    with contextlib.suppress(EOFError, OSError):
        # Ready: from now on the hospitals' time limits count.
        pipe.send_bytes(b"")
        while True:
            job: Job = pickle.loads(pipe.recv_bytes())
            began = time.perf_counter()
            content, node_state, error, used = _answer(app, job, memory)
            kept = memory.kept()
            if sum(place.size for place in kept) > COLLECT_BYTES:
                gc.collect()
                kept = memory.kept()
            spoilt = not state.restore() or bool(descendants(os.getpid()))
            seconds = time.perf_counter() - began
            pipe.send_bytes(pickle.dumps(Done(content, node_state, error, used, kept, seconds, spoilt)))
    end_with_children(os.getpid())


def _be_alone(pipe: Connection) -> None:
    """Part this process from the server's output and terminal, and its children from the pipe."""
    with contextlib.suppress(OSError):
        # A group of its own: whatever a hospital starts ends with the worker.
        os.setsid()
    adopt_orphans()
    # The server's output is the summary's alone.
    os.dup2(2, 1)
    os.register_at_fork(after_in_child=pipe.close)


def end_with_children(worker: int) -> None:
    """End a worker, what it has started, and all processes of its group."""
    for started in descendants(worker):
        with contextlib.suppress(OSError):
            os.kill(started, signal.SIGKILL)
    with contextlib.suppress(OSError):
        if os.getpgid(worker) == worker:
            os.killpg(worker, signal.SIGKILL)


def largest_reply(model: int) -> int:
    """Return how many bytes a reply to a model of so many may take beside the slots."""
    return _WIDER * model + _REST


def too_large(size: str, bound: int) -> str:
    """Return the reason why a hospital failed whose reply is too large."""
    return f"its reply takes {size} {bound} bytes"


def _answer(app: ClientApp, job: Job, memory: WorkerMemory) -> tuple[bytes, bytes, str, list[Place]]:
    """Return the reply's content, the node's state, what was raised, and the slots that hold the arrays."""
    try:
        message = Message(loads(job.content, memory.view), job.node, job.message_type)
        before = pickle.loads(job.state) if job.state else RecordDict()
        context = Context(
            run_id=1, node_id=job.node, node_config=job.node_config, state=before, run_config={}
        )
        reply = answer(app, message, context)
        if reply.has_error():
            return b"", b"", reply.error.reason or f"error code {reply.error.code}", []
        light, used = outgoing(reply.content, job.places)
        content = dumps(light)
        state = pickle.dumps(context.state) if job.state or len(context.state) else b""
        model = sum(
            a.numpy().nbytes for r in records_in(message.content, ArrayRecord).values() for a in r.values()
        )
        if max(len(content), len(state)) > largest_reply(model):
            size = f"{max(len(content), len(state))} bytes, of which it may take"
            return b"", b"", too_large(size, largest_reply(model)), []
        return content, state, "", used
    except Exception:  # noqa: BLE001 - a reply that cannot be sent is its hospital's fault
        return b"", b"", last_line(traceback.format_exc()), []

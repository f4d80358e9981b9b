"""A worker process of the pool: answers messages, one hospital at a time, until its pipe closes."""

from __future__ import annotations

import contextlib
import gc
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedrobust.engines.shared_arrays import WorkerMemory, dumps, loads, outgoing
from fedrobust.engines.slots import Place
from fedrobust.flower.compat import identify_process

__all__ = ["COLLECT_BYTES", "Done", "Job", "serve"]

#: Bytes of shared memory that may wait for Python's collector; reference cycles of Flower's records hold
#: them.
COLLECT_BYTES = 1 << 26


class Job(NamedTuple):
    """What a worker gets for one hospital; `content` and `state` are pickled already."""

    node: int
    node_config: Any
    message_type: str
    content: bytes
    state: bytes
    places: list[Place]


class Done(NamedTuple):
    """What a worker sends back."""

    content: bytes
    state: bytes
    error: str
    used: list[Place]
    kept: set[Place]
    seconds: float


def serve(pipe: Connection, make_app: Callable[[], ClientApp], path: list[str]) -> None:
    """Answer messages until the pipe closes."""
    # Ctrl-C reaches the process group; the server ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    identify_process()
    app = make_app()
    memory = WorkerMemory()
    # What is loaded by now stays: the collector need not examine it again and again.
    gc.freeze()
    # The end of the pipe means that the server has ended.
    with contextlib.suppress(EOFError, OSError):
        # Ready: from now on the hospitals' time limits count.
        pipe.send_bytes(b"")
        while True:
            job: Job = pickle.loads(pipe.recv_bytes())
            began = time.perf_counter()
            content, state, error, used = _answer(app, job, memory)
            kept = memory.kept()
            if sum(place.size for place in kept) > COLLECT_BYTES:
                gc.collect()
                kept = memory.kept()
            pipe.send_bytes(
                pickle.dumps(Done(content, state, error, used, kept, time.perf_counter() - began))
            )


def _answer(app: ClientApp, job: Job, memory: WorkerMemory) -> tuple[bytes, bytes, str, list[Place]]:
    """Return the reply's content, the node's state, what was raised, and the slots that hold the arrays."""
    try:
        message = Message(loads(job.content, memory.view), job.node, job.message_type)
        before = pickle.loads(job.state) if job.state else RecordDict()
        context = Context(
            run_id=1, node_id=job.node, node_config=job.node_config, state=before, run_config={}
        )
        reply = app(message, context)
        if reply.has_error():
            return b"", b"", reply.error.reason or f"error code {reply.error.code}", []
        light, used = outgoing(reply.content, job.places)
        state = pickle.dumps(context.state) if job.state or len(context.state) else b""
        return dumps(light), state, "", used
    except (Exception, SystemExit):  # noqa: BLE001 - whatever a hospital does, only its own round fails
        return b"", b"", traceback.format_exc(), []

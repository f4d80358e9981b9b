"""Who reads a source's files: threads of this process, or many files' own processes, each with a thread here.

Processes decode a little faster than threads, as they keep an image's memory for the next one. And a decoder
that a damaged or hostile file crashes takes one file with it, and not the run.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fedrobust.data.ingest import decoder_process
from fedrobust.data.ingest.pixels import How
from fedrobust.data.ingest.reading import Found, Item, read
from fedrobust.plugins.folders import search_path

__all__ = ["Readers", "readers"]

#: Files for which processes are started: fewer are decoded before these would have imported what they need.
MANY = 1000

#: Threads beyond the number of cores, which decode while others wait for Python's lock or for the disk.
_SPARE = 2

#: How glibc gives a decoder memory: an image's is kept for the next one instead of being asked of the system
#: again, which takes up to a tenth of the time. Workers do it by a call (`engines.launch`), which is above
#: this package. NumPy needs no threads there.
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "OPENBLAS_NUM_THREADS": "1",
}

#: A file to read, and the hash of its bytes that is known.
Wanted = tuple[Item, str]


@dataclass(frozen=True)
class Readers:
    """Reads files for several threads at once.

    Attributes
    ----------
    threads : int
        How many may call it at a time.
    read : callable
        Returns what each of some files holds.
    """

    threads: int
    read: Callable[[Sequence[Wanted]], list[Found]]


@contextlib.contextmanager
def readers(wanted: Sequence[Item], how: How) -> Iterator[Readers]:
    """Provide what reads these files, in processes where they are many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(wanted) < MANY or any(item.content for item in wanted):
        yield Readers(cores + _SPARE, lambda files: [read(item, known, how) for item, known in files])
        return
    idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
    decoders = [_Decoder(how) for _ in range(cores)]
    for one in decoders:
        idle.put(one)

    def by_an_idle_one(files: Sequence[Wanted]) -> list[Found]:
        decoder = idle.get()
        try:
            return decoder.read(files)
        finally:
            idle.put(decoder)

    try:
        yield Readers(cores, by_an_idle_one)
    finally:
        for one in decoders:
            one.end()


class _Decoder:
    """A process that decodes, and another one after it has crashed."""

    def __init__(self, how: How) -> None:
        """Start it."""
        self._how = how
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def _start(self) -> None:
        self._is_started = False
        command = [sys.executable, "-P", "-m", decoder_process.__name__]
        with contextlib.suppress(OSError):
            # In a group of its own: Ctrl-C is for this process, which then ends it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_MEMORY, "PYTHONPATH": search_path()},
                process_group=0,
            )

    def read(self, files: Sequence[Wanted]) -> list[Found]:
        """Return what files hold; one at which the decoder crashes has that as its fault."""
        if self._process is None:
            return [read(item, known, self._how) for item, known in files]
        try:
            return self._asked(self._process, files)
        except (EOFError, BrokenPipeError):
            code = self.end()
        if not self._is_started:  # this Python cannot start another one
            return self.read(files)
        self._start()
        if len(files) > 1:
            return [found for one in files for found in self.read([one])]
        return [Found("", fault=("damaged file", f"its decoder crashed ({abs(code)})"))]

    def _asked(self, process: subprocess.Popen[bytes], files: Sequence[Wanted]) -> list[Found]:
        assert process.stdin is not None and process.stdout is not None
        if not self._is_started:
            if not decoder_process.started(process.stdout):
                raise EOFError
            self._is_started = True
        batch = [(item.name, item.size, known) for item, known in files]
        decoder_process.ask(process.stdin, batch, self._how)
        return decoder_process.answer_of(process.stdout, self._how.side)

    def end(self) -> int:
        """End the process, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        with contextlib.suppress(BrokenPipeError), process:
            pass
        return process.returncode

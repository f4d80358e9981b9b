"""A process that decodes files for another one: ``python -m fedrobust.data.ingest.decoder_process``.

Its standard input has a line of JSON for each batch of files: how to decode, and of each file path, size and
the hash of the bytes that are known. It answers each by a line of JSON, with the bytes of all images behind
it. It ends with its input, so that it does not outlive who started it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import warnings
from typing import IO, Any

import numpy as np

from fedrobust.data.ingest.pixels import How
from fedrobust.data.ingest.reading import Found, Item, read

__all__ = ["Batch", "answer_of", "ask", "started"]

#: Of each file its path, its size in bytes and the hash that is known of it.
Batch = list[tuple[str, int, str]]

#: The line that a process writes when it has imported what it needs.
_READY = b"ready\n"


def ask(stream: IO[bytes], files: Batch, how: How) -> None:
    """Ask for the files of a batch."""
    stream.write(json.dumps([dataclasses.asdict(how), files]).encode() + b"\n")
    stream.flush()


def started(stream: IO[bytes]) -> bool:
    """Wait for a process; tell whether it can answer."""
    return stream.readline() == _READY


def answer_of(stream: IO[bytes], side: int) -> list[Found]:
    """Read what the files of a batch hold; `EOFError` if the process has died."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = []
    for content, frames, fault, lasts, unchanged, channels in json.loads(line):
        images = tuple(_image(stream, count, side) for count in channels)
        about = (str(fault[0]), str(fault[1])) if fault else None
        answer.append(Found(str(content), tuple(frames), about, bool(lasts), images, bool(unchanged)))
    return answer


def _image(stream: IO[bytes], channels: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = stream.read(channels * side * side)
    if len(data) < channels * side * side:
        raise EOFError
    return np.frombuffer(data, np.uint8).reshape(channels, side, side)


def _answer(stream: IO[bytes], found: list[Found]) -> None:
    about = [
        (one.content, one.frames, one.fault, one.lasts, one.unchanged, [len(image) for image in one.images])
        for one in found
    ]
    stream.write(json.dumps(about).encode() + b"\n")
    for one in found:
        for image in one.images:
            stream.write(np.ascontiguousarray(image).data)
    stream.flush()


def _how(said: dict[str, Any]) -> How:
    lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    return How(**{**said, **lists})


def main() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    # Whatever a decoder prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(_READY)
    answers.flush()
    for line in sys.stdin.buffer:
        said, files = json.loads(line)
        how = _how(said)
        _answer(answers, [read(Item(name, (), size), known, how) for name, size, known in files])


if __name__ == "__main__":
    main()

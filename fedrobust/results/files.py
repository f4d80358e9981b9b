"""The files of runs and suites: each is replaced in one step, each is read in one place.

A reader never sees half of a file, and a file that is damaged or cannot be read is one sentence with its
name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from fedrobust.disk.files import append_bytes, write_bytes
from fedrobust.errors import UserError
from fedrobust.results.checksums import read_checked

__all__ = [
    "append_line",
    "json_text",
    "line_of",
    "plain",
    "read_lines",
    "read_record",
    "read_tensors",
    "read_text",
    "write_json",
    "write_tensors",
    "write_text",
]

Model = TypeVar("Model", bound=BaseModel)

_HALVES = re.compile("[\ud800-\udfff]")

#: The key of a safetensors file's description in its metadata.
_DESCRIPTION = "fedrobust"


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises
    ------
    OSError
        If it cannot be written; what stood there before still does.
    """
    # A lone surrogate, from the name of a file, is written as its escape.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, indented; records and NumPy values are written as `plain` gives them."""
    write_text(path, json_text(content))


def json_text(content: object) -> str:
    """Return the text of a JSON file."""
    return json.dumps(plain(content), indent=2) + "\n"


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], about: object) -> None:
    """Write a safetensors file with a JSON description, the same bytes for the same content."""
    # Its own writer of files leaves one of a random name where it is killed.
    from safetensors.numpy import save

    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    # One metadata key only: safetensors writes several in an order that differs between processes.
    write_bytes(path, save(ordered, {_DESCRIPTION: json.dumps(plain(about), sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """Return the arrays of a safetensors file, and its JSON description as text.

    Raises
    ------
    UserError
        If it cannot be read, is damaged or not such a file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = read_checked(path)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        described = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get(_DESCRIPTION, "null")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    return tensors, described


def line_of(content: object) -> bytes:
    """Return a record as one line of a ``.jsonl`` file."""
    return (json.dumps(plain(content)) + "\n").encode()


def append_line(path: Path, content: object) -> None:
    """Add one line to a ``.jsonl`` file."""
    append_bytes(path, line_of(content))


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises
    ------
    UserError
        If there is no such file, it cannot be read, or it is damaged.
    """
    try:
        return read_checked(path).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read (it is not UTF-8 text)") from None


def read_record(path: Path, model: type[Model]) -> Model:
    """Return a JSON file as a record.

    Raises
    ------
    UserError
        If the file cannot be read, is not JSON, or a key of it is missing or has another type.
    """
    return _parsed(path, read_text(path), model)


def read_lines(path: Path, model: type[Model]) -> tuple[Model, ...]:
    """Return the lines of a ``.jsonl`` file as records; none if there is no such file."""
    return tuple(_lines(path, model)) if path.is_file() else ()


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NumPy numbers as Python's, NaN and infinities as None.

    Half of a surrogate pair, which Python's texts may have and no reader of JSON takes, becomes an escape.
    """
    if isinstance(value, str):
        return value if value.isascii() else _HALVES.sub(lambda half: ascii(half[0])[1:-1], value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _lines(path: Path, model: type[Model]) -> Iterator[Model]:
    for number, text in enumerate(read_text(path).splitlines(), 1):
        if text.strip():
            yield _parsed(path, text, model, f"line {number}, ")


def _parsed(path: Path, text: str, model: type[Model], place: str = "") -> Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
    if found["type"] == "json_invalid":
        raise UserError(f"{path}: {place}not JSON ({found['ctx']['error']})")
    key = _key(found["loc"])
    message = found["msg"][:1].lower() + found["msg"][1:]
    raise UserError(f"{path}: {place}{key}: {message}" if key else f"{path}: {place}{message}")


def _key(location: Sequence[int | str]) -> str:
    """Return where in a file something is wrong, such as ``data.hospitals.3``."""
    return ".".join(str(part) for part in location if part != "[key]")

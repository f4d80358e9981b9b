"""What a participant keeps from one of its rounds to the next, and its form as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError

__all__ = ["Memory", "largest_memory", "memories_of", "pack_memories"]

#: Names to arrays of numbers, and to what JSON can hold: texts, numbers, lists and mappings of them.
Memory = dict[str, Any]

#: A participant may keep so many times the model's bytes, and never less than the second number: momentum,
#: a control variate, earlier models and an update take a few models' room, a small generator some MiB.
_MODELS, _LEAST = 8, 1 << 26

#: The name of the JSON text among the arrays; a NUL keeps it apart from any of theirs.
_JSON = "\0json"


def largest_memory(model_bytes: int) -> int:
    """Return how many bytes a participant may keep, given those of the model."""
    return max(_LEAST, _MODELS * model_bytes)


def pack_memories(memories: Mapping[str, Memory], limit: int) -> bytes:
    """Return memories by the name of who keeps them as bytes, the same for the same content.

    Raises
    ------
    UserError
        If a value is neither an array of numbers nor what JSON can hold, or if they are longer than `limit`
        bytes.
    """
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    plain: dict[str, dict[str, object]] = {}
    for owner, memory in memories.items():
        plain[owner] = {}
        for name, value in memory.items():
            if not isinstance(name, str) or "\0" in name:
                raise UserError(f"memory has the key {name!r}; a key is a text")
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                arrays[f"{owner}\0{name}"] = np.asarray(value, order="C")
            else:
                plain[owner][name] = value.item() if isinstance(value, np.generic) else value
    try:
        text = json.dumps(plain, sort_keys=True)
    except (TypeError, ValueError):
        raise UserError(
            f"memory holds {_unfit(plain)}; it takes NumPy arrays and what JSON can hold"
        ) from None
    arrays[_JSON] = np.frombuffer(text.encode(), np.uint8)
    size = sum(array.nbytes for array in arrays.values())
    if size > limit:
        raise UserError(f"memory takes {size:,} bytes; at most {limit:,} are kept between rounds")
    return save({name: arrays[name] for name in sorted(arrays)})


def memories_of(content: bytes) -> dict[str, Memory]:
    """Return the memories that were packed, as arrays of the caller's own; none of no bytes."""
    if not content:
        return {}
    from safetensors.numpy import load

    arrays = load(content)
    found: dict[str, Memory] = json.loads(arrays.pop(_JSON).tobytes())
    for place, array in arrays.items():
        owner, _, name = place.partition("\0")
        found[owner][name] = np.array(array)
    return found


def _unfit(plain: Mapping[str, Mapping[str, object]]) -> str:
    """Return the first value that JSON cannot hold, in words."""
    for owner, memory in plain.items():
        for name, value in memory.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                return f"a {type(value).__name__} as '{name}' ({owner})"
    return "something else"

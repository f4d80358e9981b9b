"""A plug-in's state between rounds as JSON and back: the same values, whatever their keys and types."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from fedrobust.errors import UserError

__all__ = ["state_from_json", "state_to_json"]

#: Under this key a JSON object names the kind of value that it encodes.
_KIND = "__kind__"

#: Python writes integers of more bits than some 14,000 in no decimal form.
_BITS = 10_000


def state_to_json(state: object, owner: str) -> str:
    """Return a state as JSON text.

    Parameters
    ----------
    state : object
        Made of mappings with any keys, lists, tuples, sets, texts, bytes, numbers, None, and NumPy's arrays
        and numbers.
    owner : str
        The plug-in's name, for the message.

    Raises
    ------
    UserError
        If there is anything else in it.
    """
    return json.dumps(_simple(state, owner))


def state_from_json(text: str) -> Any:
    """Return the state that a text encodes."""
    return _restored(json.loads(text))


def _simple(value: object, owner: str) -> Any:
    # By exact type first: a subclass, such as NumPy's float64, would not come back as it is.
    if type(value) is int and value.bit_length() > _BITS:
        return {_KIND: "integer", "hex": hex(value)}
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        # In the order in which its axes lie in memory: sums over another order have other bits.
        row = np.asarray(value)
        axes = sorted(range(row.ndim), key=lambda axis: -abs(row.strides[axis]))
        laid = row.transpose(axes)
        text = base64.b64encode(laid.tobytes()).decode()
        kind = "array" if isinstance(value, np.ndarray) else "number"
        order = {"axes": axes} if axes != sorted(axes) else {}
        return {_KIND: kind, "type": value.dtype.str, "shape": list(laid.shape), **order, "bytes": text}
    if isinstance(value, bytes):
        return {_KIND: "bytes", "bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if _KIND not in value and all(type(key) is str for key in value):
            return {key: _simple(item, owner) for key, item in value.items()}
        return {_KIND: "items", "items": [[_simple(k, owner), _simple(v, owner)] for k, v in value.items()]}
    if isinstance(value, list):
        return [_simple(item, owner) for item in value]
    if isinstance(value, tuple | set | frozenset):
        kind = next(name for name, known in _GROUPS.items() if isinstance(value, known))
        items = sorted(value, key=repr) if kind != "tuple" else value
        return {_KIND: kind, "items": [_simple(item, owner) for item in items]}
    raise UserError(
        f"{owner}: state() holds a {type(value).__name__}, which cannot be written to a checkpoint; return "
        f"numbers, texts, NumPy arrays, and lists and mappings of those"
    )


_GROUPS = {"tuple": tuple, "set": set, "frozenset": frozenset}


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind is None:
        return {key: _restored(item) for key, item in value.items()}
    if kind == "integer":
        return int(value["hex"], 16)
    if kind == "items":
        return {_restored(key): _restored(item) for key, item in value["items"]}
    if kind in _GROUPS:
        return _GROUPS[kind](_restored(item) for item in value["items"])
    held = base64.b64decode(value["bytes"])
    if kind == "bytes":
        return held
    laid = np.frombuffer(held, np.dtype(value["type"])).reshape(value["shape"]).copy()
    array = laid.transpose(np.argsort(value["axes"])) if "axes" in value else laid
    return array if kind == "array" else array[()]

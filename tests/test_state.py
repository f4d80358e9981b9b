"""What a plug-in keeps: the same values come back, and what cannot be kept is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fedrobust.errors import UserError
from fedrobust.results.state import state_from_json, state_to_json

STATES: list[Any] = [
    {},
    {"count": {0: 2, 3: 1}, "names": {"0": "a"}},
    {(1, "b"): [1, 2.5, None, True], None: {"__kind__": "mine"}},
    {"tuple": (1, (2, 3)), "set": {3, 1}, "frozen": frozenset("ab"), "bytes": b"\x00\xff"},
    {"extreme": [float("inf"), -float("inf"), 1e-320, 2**70]},
]


@pytest.mark.parametrize("state", STATES)
def test_state_values_are_restored(state: Any) -> None:
    text = state_to_json(state, "Mine")
    json.loads(text)
    back = state_from_json(text)
    assert back == state
    assert repr(back) == repr(state) or "set" in str(state)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", ">f4", "int8", "uint64", "bool", "complex64", "float16"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_state_arrays_keep_their_type_and_are_writable(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    back = state_from_json(state_to_json({"a": array.T, "n": array.dtype.type(1)}, "Mine"))
    np.testing.assert_array_equal(back["a"], array.T)
    assert back["a"].dtype == array.dtype and back["a"].shape == array.T.shape
    assert type(back["n"]) is array.dtype.type and back["n"] == 1
    back["a"][...] = 0


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_state_arrays_lie_in_memory_as_they_did(axes: tuple[int, int, int]) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(axes)
    back = state_from_json(state_to_json(array, "Mine"))
    np.testing.assert_array_equal(back, array)
    assert back.strides == array.strides


def test_state_integer_of_any_length_is_kept() -> None:
    assert state_from_json(state_to_json([-(10**5000)], "Mine")) == [-(10**5000)]


def test_state_nan_is_kept() -> None:
    back = state_from_json(state_to_json({"a": float("nan"), "b": np.array([np.nan, 1.0])}, "Mine"))
    assert np.isnan(back["a"])
    np.testing.assert_array_equal(back["b"], [np.nan, 1.0])


@pytest.mark.parametrize("value", [object(), lambda: None, np.array([None]), {"deep": [{1: object()}]}])
def test_state_unsupported_value_is_refused(value: Any) -> None:
    with pytest.raises(
        UserError, match=r"Mine: state\(\) holds a \w+, which cannot be written to a checkpoint"
    ):
        state_to_json({"a": value}, "Mine")

"""Lazy arrays behave as Flower's own, on the wire too."""

from __future__ import annotations

import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedrobust import run
from fedrobust.flower import codec
from fedrobust.flower.arrays import LazyArray, record_of, records_in
from fedrobust.runtime import server


@pytest.mark.parametrize(
    "values", [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(0), np.array(3, np.int64)]
)
def test_a_lazy_array_is_an_array(values: np.ndarray) -> None:
    lazy, plain = LazyArray(values), Array(values)
    assert isinstance(lazy, Array)
    assert (lazy.dtype, lazy.shape, lazy.stype, lazy.data) == (
        plain.dtype,
        plain.shape,
        plain.stype,
        plain.data,
    )
    assert lazy.numpy() is values
    assert lazy.deflate() == plain.deflate()
    assert lazy.object_id == plain.object_id
    assert list(lazy.children) == list(plain.children)


@pytest.mark.parametrize(
    "name", ["FedAvg", "FedAdam", "FedYogi", "FedAvgM", "FedAdagrad", "FedMedian", "Krum"]
)
def test_flower_strategies_give_the_same_bits_with_plain_arrays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's arrays are copies; a strategy that wrote into a lazy one would change what others see."""
    settings = {"clients": 5, "rounds": 3, "strategy": f"flwr.serverapp.strategy:{name}"}
    lazy = run(tiny(tmp_path / "lazy", **settings))
    monkeypatch.setattr(codec, "pack", lambda s: ArrayRecord({"parameters": Array(np.array(s.parameters))}))
    monkeypatch.setattr(server, "pack", codec.pack)
    plain = run(tiny(tmp_path / "plain", **settings))
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (lazy.folder / file).read_bytes() == (plain.folder / file).read_bytes()


def test_lazy_array_is_pickled_as_a_plain_one() -> None:
    back = pickle.loads(pickle.dumps(record_of({"a": LazyArray(np.ones(3))})))
    assert isinstance(back, ArrayRecord)
    assert type(back["a"]) is Array
    np.testing.assert_array_equal(back["a"].numpy(), np.ones(3))


def test_records_in_ties_no_cycle() -> None:
    content = RecordDict({"a": record_of({"w": LazyArray(np.ones(3))}), "c": ConfigRecord({"lr": 1.0})})
    found = records_in(content, ArrayRecord)
    assert list(found) == ["a"]
    assert records_in(content, ConfigRecord) == {"c": ConfigRecord({"lr": 1.0})}
    array = weakref.ref(found["a"]["w"])
    del content, found
    assert array() is None

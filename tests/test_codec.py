"""Named arrays to two flat vectors and back."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord

from fedrobust.federation import ClientMetrics
from fedrobust.flower.codec import flat, report_of, to_arrays

RNG = np.random.default_rng(0)
MODEL = {
    "b.weight": RNG.standard_normal((2, 3)).astype(np.float32),
    "n.running_mean": RNG.standard_normal(3).astype(np.float32),
    "n.num_batches_tracked": np.array(7),
    "a.scale": np.array(0.1, np.float64),
    "n.running_var": RNG.standard_normal(3).astype(np.float64),
    "a.half": RNG.standard_normal(4).astype(np.float16),
    "mask": np.array([True, False]),
}


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})


def test_vectors_hold_the_floats_of_each_kind_in_the_model_s_order() -> None:
    parameters, buffers = (flat(record(MODEL), buffers=kind) for kind in (False, True))
    assert parameters.dtype == buffers.dtype == np.float32
    expected = np.concatenate([MODEL[name].reshape(-1) for name in ("b.weight", "a.scale", "a.half")])
    np.testing.assert_array_equal(parameters, expected.astype(np.float32))
    expected = np.concatenate([MODEL["n.running_mean"], MODEL["n.running_var"]])
    np.testing.assert_array_equal(buffers, expected.astype(np.float32))


def test_there_and_back_keeps_names_order_shapes_types_and_counters() -> None:
    like = record(MODEL)
    back = to_arrays(flat(like, buffers=False), flat(like, buffers=True), like)
    assert list(back) == list(MODEL)
    for name, value in MODEL.items():
        there = back[name].numpy()
        assert there.dtype == value.dtype and there.shape == value.shape
        np.testing.assert_allclose(there.astype(float), value.astype(float), rtol=1e-7)


def test_another_s_order_and_types_decide_where_they_are_given() -> None:
    turned = record({name: MODEL[name].astype(np.float64) for name in reversed(MODEL)})
    for kind in (False, True):
        mine = flat(turned, buffers=kind, like=record(MODEL))
        np.testing.assert_array_equal(mine, flat(record(MODEL), buffers=kind))


def test_nothing_to_flatten() -> None:
    assert flat({}, buffers=False).shape == (0,)


@pytest.mark.parametrize(("said", "kept"), [(5, 5), (5.0, 5), (0.25, 0.25)])
def test_a_report(said: float, kept: float) -> None:
    report = report_of(MetricRecord({"n": said, "loss": 2, "by-class": [1, 2]}), "n")
    assert report == ClientMetrics(kept, {"loss": 2.0, "by-class": (1.0, 2.0)})  # type: ignore[arg-type]
    assert type(report.num_examples) is type(kept)

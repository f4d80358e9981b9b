"""Named arrays to two flat vectors and back."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord

from fedrobust.federation import ClientMetrics
from fedrobust.flower.vectors import SentModel, flat, to_arrays

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


def test_vectors_hold_the_floats_of_each_kind_in_model_order() -> None:
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


def test_order_and_types_of_another_model_decide_where_given() -> None:
    turned = record({name: MODEL[name].astype(np.float64) for name in reversed(MODEL)})
    for kind in (False, True):
        mine = flat(turned, buffers=kind, like=record(MODEL))
        np.testing.assert_array_equal(mine, flat(record(MODEL), buffers=kind))


def test_nothing_to_flatten() -> None:
    assert flat({}, buffers=False).shape == (0,)


def test_a_sent_model_reads_replies_in_its_own_order_as_read_only_vectors() -> None:
    model = SentModel(record(MODEL))
    reversed_arrays = record({name: MODEL[name] for name in reversed(MODEL)})
    parameters, buffers = model.vectors(reversed_arrays)
    np.testing.assert_array_equal(parameters, model.parameters)
    np.testing.assert_array_equal(buffers, model.buffers)
    update = model.update(3, parameters, buffers, ClientMetrics(5), 2)
    assert (update.node, update.round, update.global_parameters is model.parameters) == (3, 2, True)
    for vector in (parameters, buffers, model.parameters, model.buffers):
        assert not vector.flags.writeable

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from helpers import make_updates
from torch import nn

from fedrobust.federation import Layer, Layout, Updates
from fedrobust.federation.mixed import Mixed
from fedrobust.flower.vectors import SentModel
from fedrobust.learners.flat import FlatModule
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.plugins import PluginSpec


@pytest.fixture(scope="module")
def learner() -> MutualLearner:
    spec = LearnerSpec(backbone=PluginSpec.parse("cnn(width=4)"))
    return MutualLearner(spec, classes=4, channels=1, size=(16, 16))


def test_layers_of_a_learner_are_the_tensors_of_its_model_file(learner: MutualLearner) -> None:
    state, layout = learner.initial(), learner.layout
    named = learner.named_tensors(state)
    assert layout.parameters[-1].part.stop == len(state.parameters)
    for layer in layout.parameters:
        assert np.array_equal(layer.of(state.parameters), named[layer.name])
        assert np.shares_memory(layer.of(state.parameters), state.parameters)


def test_running_statistics_of_a_module_are_layers_of_its_buffers() -> None:
    flat = FlatModule(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), torch.device("cpu"))
    layout = Layout.of(*flat.shapes("networks."))
    assert [layer.kind for layer in layout.parameters] == ["weight", "bias", "norm", "norm"]
    mean, variance = (layer.of(flat.save()[1]) for layer in layout.buffers)
    assert (mean.tolist(), variance.tolist()) == ([0, 0], [1, 1])


def test_kinds_follow_from_names_and_shapes() -> None:
    layout = Layout.of(
        {
            "conv.weight": (4, 1, 3, 3),
            "bn.weight": (4,),
            "bn.bias": (4,),
            "fc.weight": (2, 4),
            "fc.bias": (2,),
        },
        {"bn.running_mean": (4,), "bn.running_var": (4,), "other": (1,)},
    )
    assert [layer.kind for layer in layout.parameters] == ["weight", "norm", "norm", "weight", "bias"]
    assert [layer.kind for layer in layout.buffers] == ["mean", "variance", "statistic"]
    assert layout.parameters[3] == Layer("fc.weight", (2, 4), "weight", 44)


def test_blocks_of_layers_are_those_of_the_flat_vectors() -> None:
    layout = Layout.of({"a.weight": (5, 4), "a.bias": (20,)}, {})
    plain = make_updates(3, d=40)
    updates = Updates([replace(update, layout=layout) for update in plain])
    assert updates.layers == layout.parameters
    first, second = (updates.block(layer.part) for layer in updates.layers)
    assert np.array_equal(np.hstack([first, second]), updates.block(slice(0, 40)))
    assert Mixed(updates, np.eye(3)).layers == layout.parameters


def test_a_model_without_known_layers_is_one_layer() -> None:
    updates = make_updates(2, d=7, buffers=3)
    assert [(layer.name, layer.shape, layer.kind) for layer in updates.layers] == [
        ("parameters", (7,), "weight")
    ]
    assert [layer.part for layer in updates.layout.buffers] == [slice(0, 3)]


def test_arrays_of_another_app_are_layers() -> None:
    record = ArrayRecord(
        {
            "fc.weight": Array(np.ones((2, 3), np.float32)),
            "bn.num_batches_tracked": Array(np.array(4)),
            "bn.running_mean": Array(np.ones(2, np.float32)),
            "fc.bias": Array(np.ones(2, np.float32)),
        }
    )
    layout = SentModel(record).layout
    assert [(layer.name, layer.part) for layer in layout.parameters] == [
        ("fc.weight", slice(0, 6)),
        ("fc.bias", slice(6, 8)),
    ]
    assert [layer.name for layer in layout.buffers] == ["bn.running_mean"]

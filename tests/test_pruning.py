"""Pruning in a federation: what is zero, and that nobody puts it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import learner_of, tiny
from safetensors.numpy import load_file
from torch import nn

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.learners.base import State
from fedrobust.learners.choices import Pruning
from fedrobust.learners.pruning import Pruner
from fedrobust.scenario import Scenario


def networks() -> nn.ModuleList:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 6), nn.Linear(6, 2))
    return nn.ModuleList([conv])


def flat_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_the_smallest_weights_go_but_no_bias_and_nothing_of_the_last_layer() -> None:
    model = networks()
    flat, pruner = flat_of(model), Pruner(model, Pruning(0.25, 1))
    kept = pruner.kept(flat)
    candidates = torch.zeros(len(flat), dtype=torch.bool)
    candidates[:36] = candidates[40:136] = True
    assert int((kept == 0).sum()) == round(0.25 * 132)
    assert not ((kept == 0) & ~candidates).any()
    assert flat[kept == 0].abs().max() < flat[candidates & (kept == 1)].abs().min()


def test_filters_go_as_wholes() -> None:
    model = networks()
    flat = flat_of(model)
    kept = Pruner(model, Pruning(0.5, 1, filters=True)).kept(flat)
    rows, lengths = kept[:36].view(4, 9), flat[:36].view(4, 9).norm(dim=1)
    assert set(rows.sum(1).tolist()) == {0.0, 9.0} and kept[36:].all()
    assert lengths[rows[:, 0] == 0].max() < lengths[rows[:, 0] == 1].min()


def test_a_weight_that_an_update_puts_back_is_pruned_again() -> None:
    model = networks()
    pruner = Pruner(model, Pruning(0.25, 1))
    sent = pruner.pruned(flat_of(model))
    forged = sent + 100.0 * (sent == 0)
    # Without the model that was sent, the large ones would have taken others' places.
    assert ((pruner.pruned(forged) == 0) != (sent == 0)).any()
    assert torch.equal(pruner.pruned(forged, sent) == 0, sent == 0)


@pytest.mark.parametrize("prune", ["weights(0.5, start=2)", "filters(0.5, start=2)"])
def test_hospitals_and_server_prune_from_the_round_on_alone(tmp_path: Path, prune: str) -> None:
    settings = tiny(tmp_path, prune=prune, data="phantom(images=120, size=16)")
    learner, data = learner_of(settings), prepare(Scenario.of(settings).data)
    start = learner.initial()

    def zeros(state: State) -> int:
        return int((state.parameters == 0).sum())

    def fitted(state: State, round: int) -> State:
        return learner.fit(state, data.of_hospital(0), round=round, client=0, lr=1e-3).state

    first = fitted(start, 1)
    assert zeros(learner.settled(first, start, 0)) == zeros(first) < 500
    sent = learner.settled(first, start, 1)
    assert zeros(sent) > 5000
    second = fitted(sent, 2)
    # A hospital's update leaves pruned weights alone, and moves the others.
    np.testing.assert_array_equal((second.parameters == 0) & (sent.parameters == 0), sent.parameters == 0)
    assert not np.array_equal(second.parameters, sent.parameters)


def test_the_model_of_an_attacked_run_is_pruned(tmp_path: Path) -> None:
    quick = {"rounds": 3, "data": "phantom(images=120, size=16)", "malicious": 1, "strategy": "fedavg"}
    done = run(tiny(tmp_path, prune=0.5, attack="gaussian", **quick))
    tensors = load_file(done.folder / "model.safetensors")
    weights = np.concatenate(
        [t.ravel() for n, t in tensors.items() if n.endswith("weight") and t.ndim == 4 and "project" not in n]
    )
    assert int((weights == 0).sum()) == round(0.5 * len(weights))

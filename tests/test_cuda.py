"""What must hold on a CUDA device; all of it is skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import tiny
from test_mutual import EASY, KINDS, fit, learner, same

from fedrobust.commands.list_plugins import catalogue
from fedrobust.learners.choices import Perturbation, Pruning
from fedrobust.runtime.runner import existing, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CUDA = "cuda:0"
#: Steps that need a rule after them, and rules that must be told something.
STEPS = ("nnm", "bucketing", "clipping", "arc")
#: What an attack cannot do without, beyond its name.
OPTIONS = {"neurotoxin": "label-flip + neurotoxin", "constrain": "label-flip + constrain"}


@pytest.mark.parametrize(("head", "networks"), KINDS)
def test_training_is_the_processors_to_rounding(head: str, networks: int) -> None:
    there = fit(learner(device=CUDA, head=head, networks=networks))
    here = fit(learner(head=head, networks=networks))
    moved = here.state.parameters - learner(head=head, networks=networks).initial().parameters
    apart = np.linalg.norm(there.state.parameters - here.state.parameters)
    assert apart < 0.02 * np.linalg.norm(moved)
    np.testing.assert_allclose(there.state.buffers, here.state.buffers, rtol=0.02, atol=0.02)
    assert there.report.num_examples == here.report.num_examples
    assert there.report.values["loss"] == pytest.approx(here.report.values["loss"], rel=0.02)


def test_the_initial_weights_are_the_processors() -> None:
    there, here = learner(device=CUDA).initial(), learner().initial()
    assert np.array_equal(there.parameters, here.parameters)


@pytest.mark.parametrize("backbone", ["cnn(width=4)", "resnet18"])
def test_training_twice_gives_the_same_bits(backbone: str) -> None:
    assert same(fit(learner(device=CUDA, backbone=backbone)), fit(learner(device=CUDA, backbone=backbone)))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"augment": True, "attention": "cbam", "pruning": Pruning(0.5, 1), "adversary": Perturbation(4.0, 2)},
    ],
    ids=["bf16", "others"],
)
def test_options_of_training_give_the_same_bits_twice_and_learn(options: dict[str, Any]) -> None:
    first, second = (fit(learner(device=CUDA, **options)) for _ in range(2))
    assert same(first, second)
    assert np.isfinite(first.state.parameters).all() and first.report.values["loss"] < np.log(4)


def test_predictions_are_the_processors_to_rounding() -> None:
    state = fit(learner()).state
    there = learner(device=CUDA).predict(state, EASY.images, EASY.labels)
    here = learner().predict(state, EASY.images, EASY.labels)
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-4)
    np.testing.assert_allclose(there.losses, here.losses, atol=1e-4)
    again = learner(device=CUDA).predict(state, EASY.images, EASY.labels)
    assert np.array_equal(there.probabilities, again.probabilities)


def figures(folder: Path | None) -> list[dict[str, Any]]:
    """Return a run's rounds."""
    assert folder is not None
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_a_run_gives_the_same_bits_twice_and_on_two_workers(tmp_path: Path) -> None:
    runs = []
    for name, workers in (("one", 1), ("again", 1), ("two", 2)):
        settings = tiny(tmp_path / name, device=CUDA, malicious=1, workers=workers, networks=2)
        run(settings)
        runs.append(figures(existing(settings)))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("attack", sorted(catalogue()["attack"]))
def test_every_attack_runs(tmp_path: Path, attack: str) -> None:
    settings = tiny(tmp_path, device=CUDA, malicious=2, attack=OPTIONS.get(attack, attack), clients=6)
    run(settings)
    assert len(figures(existing(settings))) == 2


@pytest.mark.parametrize("strategy", sorted(catalogue()["strategy"]))
def test_every_defence_runs(tmp_path: Path, strategy: str) -> None:
    spec = {"oracle": "oracle(malicious=[4])"}.get(
        strategy, f"{strategy} | fedavg" if strategy in STEPS else strategy
    )
    settings = tiny(tmp_path, device=CUDA, malicious=1, strategy=spec, clients=7)
    run(settings)
    assert len(figures(existing(settings))) == 2

"""Ensembles by feature fusion: finished runs as members, one classifier fitted on their features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import tiny
from sklearn.linear_model import LogisticRegression

from fedrobust import UserError, run
from fedrobust.commands.program import main
from fedrobust.learners.fusion import Fusion
from fedrobust.scenario import Scenario
from fedrobust.tasks.fusion import Member, _fit, fused


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    out = tmp_path_factory.mktemp("members")
    rows = (
        {"networks": 2, "adversarial_training": "noise(std=0.1)"},
        {"head": "linear", "attention": "se", "prune": 0.5},
    )
    settings = [tiny(out, rounds=4, strategy="fedavg", **row) for row in rows]
    return [Member(run(one, report=False).folder, Scenario.of(one)) for one in settings]


def test_the_classifier_is_scikit_learns_on_all_members_features(members: list[Member]) -> None:
    ensemble = fused(members)
    assert len(ensemble.module.networks) == 3
    validation, test = ensemble.data.part("val"), ensemble.data.part("test")
    # As they are, and with the first member's noise.
    assert ensemble.fitted_on == 2 * len(validation)
    probabilities = ensemble.probabilities(test.images)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == test.labels).mean() > 1.5 / len(test.classes)
    np.testing.assert_array_equal(probabilities, fused(members).probabilities(test.images))


def test_a_member_joins_without_a_change_of_the_others(members: list[Member]) -> None:
    alone, both = fused(members[:1]), fused(members)
    images = torch.rand(4, *both.data.records.images.shape[1:])
    old, new = alone.module.features(images), both.module.features(images)
    torch.testing.assert_close(new[:, : old.shape[1]], old)
    # A linear head's features are those before its last layer.
    assert new.shape[1] - old.shape[1] == 16 * 64


def test_attacks_see_the_ensembles_gradient(members: list[Member]) -> None:
    module = fused(members).module
    images = torch.rand(2, 1, 16, 16, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(module(images)[:, 0].sum(), images)
    step = torch.zeros_like(images)
    step[0, 0, 8, 8] = 1e-3
    moved = (module(images + step) - module(images - step))[0, 0] / 2e-3
    assert abs(float(moved.detach() - gradient[0, 0, 8, 8])) < 0.05 * float(gradient.abs().max())


def test_two_classes_are_as_scikit_learn_has_them() -> None:
    class Same(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

    images = np.random.default_rng(0).random((40, 1, 2, 2)).astype(np.float32)
    labels = (images[:, 0, 0, 0] > images[:, 0, 1, 1]).astype(np.int64)
    module = Fusion([Same()])
    _fit(module, images, labels, 2)
    features = module.features(torch.tensor(images)).numpy().astype(np.float64)
    model = LogisticRegression(C=10.0, max_iter=5000, class_weight="balanced").fit(features, labels)
    found = module(torch.tensor(images)).exp().numpy()
    np.testing.assert_allclose(found, model.predict_proba(features), atol=1e-5)


def test_members_of_other_data_are_refused(members: list[Member], tmp_path: Path) -> None:
    other = Member(tmp_path, Scenario.of(tiny(tmp_path, seed=1)))
    with pytest.raises(UserError, match="its seed is 1, but that of .* is 0; an ensemble's members need"):
        fused([members[0], other])


def test_command_prints_the_ensembles_metrics_in_the_words_of_a_summary(
    members: list[Member], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(member.folder) for member in members]
    file = tmp_path / "ensemble.json"
    with pytest.raises(SystemExit) as ended:
        main(["ensemble", *runs, "--evaluate", "noise(std=0.1)", "--out", str(file), "--json"])
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(file.read_text())
    ensemble = fused(members)
    test = ensemble.data.part("test")
    right = ensemble.probabilities(test.images).argmax(1) == test.labels
    assert printed["clean"]["accuracy"] == pytest.approx(right.mean())
    (noise,) = printed["robustness"]["evaluations"]
    assert 0 <= noise["defence_rate"] <= 1 and printed["networks"] == 3
    with pytest.raises(SystemExit) as refused:
        main(["ensemble", *runs, "--fit-on", "test"])
    assert refused.value.code == 2
    assert "--fit-on 'test': must be val or train" in capsys.readouterr().err

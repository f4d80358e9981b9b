"""Evaluations of a model on changed images: metrics, attacks against ART's own, checks of gradients."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import easy_records, make_records
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from fedrobust import Settings, run
from fedrobust.commands.program import main
from fedrobust.data.records import Records
from fedrobust.errors import RunInterrupted, UserError
from fedrobust.evaluation.metrics import metric_of
from fedrobust.learners.classifier import MOST_VIEWS, view_of
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.plugins import EvaluationSpecs
from fedrobust.reports.run.evaluations import pictures as pictures_of
from fedrobust.reports.run.page import run_page
from fedrobust.results.compare import compare_runs
from fedrobust.results.finished_run import read_run
from fedrobust.results.load import load
from fedrobust.robustness.gradients import check_gradients, masking
from fedrobust.robustness.measure import Measured, Step, measure
from fedrobust.robustness.plan import evaluation_class, named_evaluations, stratified_sample
from fedrobust.robustness.study import study
from fedrobust.robustness.target import Target
from fedrobust.runtime.observers import Observer
from fedrobust.seeding import globally_seeded, torch_seeded
from fedrobust.suites.metrics import metric_values

NAMES = ("blur", "contrast", "brightness", "motion", "jpeg", "pixelate", "gamma", "ghosting", "bias-field")
RECORDS = easy_records(64, size=12)


@pytest.fixture(scope="module")
def learner() -> MutualLearner:
    return MutualLearner(LearnerSpec(networks=2, local_epochs=6), 4, 1, (12, 12))


@pytest.fixture(scope="module")
def module(learner: MutualLearner) -> nn.Module:
    fitted = learner.fit(learner.initial(), RECORDS, round=1, client=0, lr=3e-3)
    return learner.classifier(fitted.state)


def target_of(module: nn.Module) -> Target:
    return Target(module, (1, 12, 12), 4)


def measured(module: nn.Module, text: str, seed: int = 0) -> tuple[Measured, ...]:
    specs = EvaluationSpecs.parse(text)
    return measure(named_evaluations(specs), target_of(module), RECORDS.images, RECORDS.labels, seed)


def pictures(module: nn.Module, text: str) -> np.ndarray:
    (one,) = measured(module, text)
    return next(iter(one.pictures.values()))


def pixels_of(records: Records) -> np.ndarray:
    return records.images.astype(np.float32) / np.float32(255)


def pixels() -> np.ndarray:
    return pixels_of(RECORDS)


def test_classifier_has_the_probabilities_that_the_learner_predicts(learner: MutualLearner) -> None:
    state = learner.initial()
    for views in (1, 3):
        predicted = learner.predict(state, RECORDS.images, RECORDS.labels, views).probabilities
        found = np.exp(target_of(learner.classifier(state, views)).log_probabilities(pixels()))
        np.testing.assert_allclose(found, predicted, atol=1e-6)


def art_classifier(module: nn.Module) -> object:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        module, nn.CrossEntropyLoss(), (1, 12, 12), 4, clip_values=(0.0, 1.0), device_type="cpu"
    )


@pytest.mark.parametrize(("norm", "art_norm"), [("inf", np.inf), ("2", 2)])
def test_pgd_is_what_art_gives_on_the_same_network(module: nn.Module, norm: str, art_norm: float) -> None:
    from art.attacks.evasion import ProjectedGradientDescent

    eps = 12 if norm == "inf" else 200
    found = pictures(module, f"pgd(eps={eps}, steps=5, norm='{norm}')")
    right = target_of(module).predict(pixels()) == RECORDS.labels
    attack = ProjectedGradientDescent(
        art_classifier(module),
        norm=art_norm,
        eps=eps / 255,
        eps_step=eps / 2 / 255,
        max_iter=5,
        num_random_init=1,
        batch_size=64,
        verbose=False,
    )
    with globally_seeded(0, "evaluation", "pgd", 0), torch_seeded(0, "evaluation", "pgd", 0):
        direct = attack.generate(pixels()[right], np.eye(4, dtype=np.float32)[RECORDS.labels[right]])
    assert right.sum() > 30
    np.testing.assert_allclose(found[right], direct, atol=1e-6)
    np.testing.assert_array_equal(found[~right], pixels()[~right])


def test_deepfool_is_what_art_gives_on_the_same_network(module: nn.Module) -> None:
    from art.attacks.evasion import DeepFool

    found = pictures(module, "deepfool(eps=None, steps=5)")
    right = target_of(module).predict(pixels()) == RECORDS.labels
    attack = DeepFool(art_classifier(module), max_iter=5, epsilon=0.02, batch_size=32, verbose=False)
    np.testing.assert_allclose(found[right], attack.generate(pixels()[right]), atol=1e-6)
    (bounded,) = measured(module, "deepfool(eps=100, steps=5)")
    assert bounded.moved[""][0] == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("name", ["fgsm(eps=0)", "pgd(eps=0, steps=2)", "noise(std=0)", "clean"])
def test_attack_without_budget_leaves_every_image_and_metric(module: nn.Module, name: str) -> None:
    (one,) = measured(module, name)
    clean = np.mean(target_of(module).predict(pixels()) == RECORDS.labels)
    assert one.mean == {**one.mean, "accuracy": clean, "defence_rate": 1.0, "drop": 0.0}
    assert all(distances == (0.0, 0.0) for distances in one.moved.values())


@pytest.mark.parametrize("name", ["fgsm(eps={})", "pgd(eps={}, steps=5)", "noise(std={})"])
def test_accuracy_does_not_rise_with_the_budget(module: nn.Module, name: str) -> None:
    levels = (0, 0.1, 0.5) if "noise" in name else (0, 8, 24, 64)
    found = [one.mean["accuracy"] for level in levels for one in measured(module, name.format(level))]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_metrics_are_shares_of_the_images_that_were_right(module: nn.Module) -> None:
    (one,) = measured(module, "pgd(eps=24, steps=5)")
    before = target_of(module).predict(pixels()) == RECORDS.labels
    after = target_of(module).predict(next(iter(one.pictures.values()))) == RECORDS.labels
    assert one.mean["defence_rate"] == (before & after).sum() / before.sum()
    assert one.mean["accuracy"] == after.mean()


def test_transfer_attack_on_a_model_without_a_substitute_is_refused_at_once(module: nn.Module) -> None:
    evaluations = named_evaluations(EvaluationSpecs.parse("noise, transfer"))
    told: list[Step] = []
    with pytest.raises(UserError, match="'transfer' needs a model that imitates this one"):
        study(evaluations, target_of(module), RECORDS, 64, 0, told.append)
    assert not told


def test_results_do_not_depend_on_the_other_evaluations(module: nn.Module) -> None:
    alone = measured(module, "pgd(eps=8, steps=3)")
    among = measured(module, "noise(std=0.1), fgsm, pgd(eps=8, steps=3)")
    assert alone[0].mean == among[2].mean
    np.testing.assert_array_equal(alone[0].pictures[""], among[2].pictures[""])
    other = measured(module, "noise(std=0.1)", seed=1)[0].pictures["0.1"]
    assert not np.array_equal(other, among[0].pictures["0.1"])


class Masked(nn.Module):
    """Rounds its images to 16 levels, through which no gradient comes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(torch.round(images * 16) / 16 + 0 * images)


class Shattered(Masked):
    """Adds a ripple to its answers, whose gradient says nothing of the image."""

    def forward(self, images: Tensor) -> Tensor:
        found = self.module(images) * (1 + 0.3 * torch.sin(1e7 * images.mean((1, 2, 3))))[:, None]
        return torch.log_softmax(found, dim=1)


def test_gradients_of_the_networks_are_real(module: nn.Module) -> None:
    check = check_gradients(target_of(module), pixels(), RECORDS.labels)
    assert (check.images, check.zero, check.wrong) == (32, 0.0, 0.0)
    assert masking(check, measured(module, "pgd(eps=8, steps=3)")) == ()


def test_network_without_gradients_is_reported_as_masked(module: nn.Module) -> None:
    check = check_gradients(target_of(Masked(module)), pixels(), RECORDS.labels)
    assert check.zero == 1.0
    (sentence,) = masking(check, ())
    assert "gradient is zero for 100 %" in sentence


def test_white_box_attack_that_finds_less_than_a_black_box_one_is_reported(module: nn.Module) -> None:
    found = measured(Masked(module), "fgsm(eps=120), pgd(eps=120, steps=3), square(eps=120, steps=40)")
    sentences = masking(check_gradients(target_of(module), pixels(), RECORDS.labels), found)
    assert len(sentences) == 1
    assert sentences[0].startswith("gradient masking, or too few steps: ")
    assert "square(eps=120, steps=40) without them" in sentences[0]


def test_network_whose_gradients_mislead_is_reported_as_masked(module: nn.Module) -> None:
    check = check_gradients(target_of(Shattered(module)), pixels(), RECORDS.labels)
    assert check.zero == 0.0
    (sentence,) = masking(check, ())
    assert "does not change as its gradient says" in sentence


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*NAMES, "noise"])
def test_corruption_is_stronger_at_a_higher_severity(name: str, channels: int) -> None:
    rough = np.random.default_rng(0).standard_normal((6, channels, 24, 28))
    images = np.clip(0.5 + gaussian_filter(rough, (0, 0, 2, 2)), 0, 1).astype(np.float32)
    levels: dict[str, object] = {"std": [0.01, 0.1, 0.3]} if name == "noise" else {"severity": [1, 3, 5]}
    made: Any = evaluation_class(name)(**levels)
    found = [
        made.changed(level, None, images.copy(), None, np.random.default_rng(1)) for level in made.conditions
    ]
    assert all(one.shape == images.shape and one.dtype == np.float32 for one in found)
    strengths = [float(np.abs(one - images).mean()) for one in found]
    assert strengths == sorted(strengths)
    assert 0 < strengths[0] < strengths[-1]
    again = made.changed(made.conditions[-1], None, images.copy(), None, np.random.default_rng(1))
    np.testing.assert_array_equal(again, found[-1])


def test_corruptions_average_all_nine(module: nn.Module) -> None:
    together, blur, gamma = measured(module, "corruptions(severity=5), blur(severity=5), gamma(5)")
    assert list(together.conditions) == [f"{name} 5" for name in NAMES]
    assert together.conditions["blur 5"]["accuracy"] == blur.mean["accuracy"]
    accuracies = [metrics["accuracy"] for metrics in together.conditions.values()]
    assert together.mean["accuracy"] == pytest.approx(np.mean(accuracies))
    assert gamma.conditions["5"]["accuracy"] is not None


@pytest.mark.parametrize("classes", [2, 3])
def test_every_attack_takes_colour_and_few_classes(classes: int) -> None:
    records = make_records(24, classes=classes, channels=3, size=(12, 12))
    module = MutualLearner(LearnerSpec(networks=1), classes, 3, (12, 12)).classifier
    state = MutualLearner(LearnerSpec(networks=1), classes, 3, (12, 12)).initial()
    target = Target(module(state), (3, 12, 12), classes, lambda: module(state))
    text = "fgsm, pgd(steps=2), deepfool(steps=2), square(steps=3), transfer(steps=2), "
    text += "autoattack(steps=2, squares=2), autoattack(norm='2', eps=90, steps=2, squares=2)"
    specs = named_evaluations(EvaluationSpecs.parse(text))
    for one in measure(specs, target, records.images, records.labels, 0):
        assert (one.mean["accuracy"] or 0) <= (target.predict(pixels_of(records)) == records.labels).mean()


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [([50, 30, 20], 10, [5, 3, 2]), ([98, 1, 1], 10, [8, 1, 1]), ([3, 2, 1], 99, [3, 2, 1])],
)
def test_sample_keeps_the_shares_of_the_classes(n: list[int], size: int, expected: list[int]) -> None:
    labels = np.repeat(np.arange(3), n)
    places = stratified_sample(labels, size, 0)
    assert np.bincount(labels[places]).tolist() == expected
    assert (np.diff(places) > 0).all()
    np.testing.assert_array_equal(places, stratified_sample(labels, size, 0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pdg", ["unknown evaluation 'pdg'", "pgd"]),
        ("pgd(epsilon=8)", ["pgd: there is no option 'epsilon'", "eps"]),
        ("pgd(eps=-1)", ["pgd: eps is -1"]),
        ("pgd(norm='1')", ["pgd: norm is '1'", "'inf' or '2'"]),
        ("noise(std=-1)", ["noise: std is -1"]),
        ("blur(severity=6)", ["blur: severity is 6", "1, 2, 3, 4 or 5"]),
        ("corruptions(severity=[])", ["severity is []"]),
        ("noise,,fgsm", ["something is missing beside ','"]),
        ("fgsm, fgsm", ["evaluation 'fgsm' is given twice"]),
    ],
)
def test_bad_evaluation_is_one_sentence(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        named_evaluations(EvaluationSpecs.parse(text))
    assert all(word in str(refused.value) for word in words)
    assert "\n" not in str(refused.value)


SMALL: dict[str, Any] = {
    "clients": 3,
    "rounds": 1,
    "networks": 1,
    "data": "phantom(images=240, size=16)",
    "workers": 1,
}
EVALUATE = "noise(std=0.2), pgd(eps=8, steps=2), square(eps=8, steps=3)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return run(Settings(**SMALL, out=str(out), evaluate=EVALUATE, evaluate_images=20, tte=2)).folder


def test_run_writes_its_evaluations_in_every_file(folder: Path) -> None:
    finished = read_run(folder)
    found = finished.summary.robustness
    assert found is not None and finished.evaluation is not None
    assert finished.evaluation.robustness == found
    assert ", ".join(one.text for one in found.evaluations) == EVALUATE
    assert (found.images, found.test_images) == (20, 24)
    assert found.gradients is not None and found.gradients.zero == 0
    names = [one.plugin for one in finished.manifest.plugins]
    assert "evaluations.pgd:Pgd" in names
    values = metric_values(finished, None)
    assert values["defence@pgd(eps=8, steps=2)"] == found.evaluations[1].defence_rate
    assert metric_of("drop@noise(std=0.2)").name == "combined drop, noise(std=0.2)"


def test_command_evaluates_a_finished_run_as_the_run_did(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(folder), EVALUATE, "--evaluate-images", "20", "--out", str(file), "--quiet"])
    assert ended.value.code in (0, None)
    found = json.loads(file.read_text())
    assert found == json.loads((folder / "evaluation.json").read_text())["robustness"]
    assert "Evaluations on 20 of 24 test images" in capsys.readouterr().out


def test_evaluations_stand_in_data_frames_and_comparisons(folder: Path) -> None:
    table = load(folder).evaluations
    assert list(table.index) == [
        ("noise(std=0.2)", "0.2"),
        ("pgd(eps=8, steps=2)", ""),
        ("square(eps=8, steps=3)", ""),
    ]
    pairs = {pair.metric.key: pair for pair in compare_runs(folder, folder).metrics}
    assert pairs["defence@square(eps=8, steps=3)"].difference == 0


def test_page_of_a_run_shows_its_evaluations(folder: Path) -> None:
    page = run_page(folder)
    assert "Evaluations on changed images" in page
    assert "pgd(eps=8, steps=2)" in page
    assert page.count("magnified") == len(pictures_of(folder)) > 2
    broken = dict(json.loads((folder / "evaluation.json").read_text())["robustness"], masking=["<b>sign"])
    assert "&lt;b&gt;sign" in page_with(folder, broken)


def page_with(folder: Path, robustness: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as name:
        copied = Path(shutil.copytree(folder, Path(name) / "run"))
        (copied / "SHA256SUMS").unlink()
        content = json.loads((copied / "evaluation.json").read_text())
        (copied / "evaluation.json").write_text(json.dumps({**content, "robustness": robustness}))
        return run_page(copied)


def test_resumed_run_and_other_engines_have_the_same_evaluations(folder: Path, tmp_path: Path) -> None:
    class Stop(Observer):
        def evaluating(self, step: Step) -> None:
            if step.text:
                raise KeyboardInterrupt

    settings = Settings(
        **{**SMALL, "workers": 2}, out=str(tmp_path), evaluate=EVALUATE, evaluate_images=20, tte=2
    )
    with pytest.raises(RunInterrupted):
        run(settings, [Stop()])
    resumed = run(settings, resume=True).folder
    for name in ("evaluation.json", "robustness.safetensors"):
        assert (resumed / name).read_bytes() == (folder / name).read_bytes()


def test_views_are_shifts_by_a_pixel_and_mirror_images() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert torch.equal(view_of(image, 0), image)
    assert torch.equal(view_of(image, 1)[..., 1:], image[..., :-1])
    assert torch.equal(view_of(image, 1)[..., 0], image[..., 0])
    assert torch.equal(view_of(image, 4)[:, :, :-1], image[:, :, 1:])
    assert torch.equal(view_of(image, 5), image.flip(3))
    assert len({view_of(image, number).numpy().tobytes() for number in range(MOST_VIEWS)}) == MOST_VIEWS


def test_evaluations_of_settings_are_a_text_or_a_list() -> None:
    assert Settings(evaluate=["clean", "pgd(eps=2, steps=3)"]).evaluate == "clean, pgd(eps=2, steps=3)"  # type: ignore[arg-type]
    assert Settings().digest() == Settings(evaluate_images=9).digest() != Settings(tte=2).digest()
    with_noise = [Settings(evaluate="noise", evaluate_images=images).digest() for images in (8, 9)]
    assert len({Settings().digest(), *with_noise}) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluate": "pgd(eps"}, "'pgd(eps'"),
        ({"evaluate": "nois"}, "unknown evaluation 'nois'; did you mean 'noise'"),
        ({"tte": 11}, "tte"),
        ({"evaluate": "noise", "evaluate_images": 0}, "evaluate_images"),
    ],
)
def test_bad_settings_are_refused_before_a_run(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        run(Settings(**SMALL, out=str(tmp_path), **settings))
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []

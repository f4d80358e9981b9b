"""The task synthesis: its runs, their files and pages, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from federations import Cut, Unplugged, tiny
from run_folders import make_run

from fedrobust import UserError, run
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.data.triggers import Mark
from fedrobust.evaluation import judges, utility
from fedrobust.evaluation.judges import Judge, TriggerDetector
from fedrobust.learners.base import State
from fedrobust.learners.factory import build_learner
from fedrobust.reports.run.page import run_page
from fedrobust.reports.run.synthesis import synthesis_notes, synthetic_images
from fedrobust.results.compare import compare_runs
from fedrobust.results.finished_run import read_run
from fedrobust.results.records import RoundLine, SynthesisSummary
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings
from fedrobust.suites.caveats import caveats_of, usual
from fedrobust.tasks import synthesis as tasks_synthesis
from fedrobust.tasks.synthesis import Synthesis

FILES = (
    *("rounds.jsonl", "verdicts.jsonl", "model.safetensors", "evaluation.json", "synthetic.safetensors"),
    *("synthetic-00001.safetensors", "synthetic-00002.safetensors"),
)


@pytest.fixture
def quick_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let classifiers of real images see few images."""
    monkeypatch.setattr(judges, "_SEEN", 300)
    monkeypatch.setattr(utility, "_SEEN", 100)
    monkeypatch.setattr(tasks_synthesis, "_ADDED", 5)


def synthesis(out: Path, **changes: Any) -> Settings:
    quick = {
        "task": "synthesis(latent=4, width=4)",
        "networks": 2,
        "clients": 2,
        "data": "phantom(images=60, size=16)",
        "strategy": "feddetect(warm_up=0)",
        "attack": "backdoor",
        "malicious": 1,
    }
    return tiny(out, **{**quick, **changes})


@pytest.mark.usefixtures("quick_judges")
def test_a_run_has_metrics_files_and_a_page_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    complete = run(synthesis(tmp_path / "complete"))
    with pytest.raises(Unplugged):
        run(synthesis(tmp_path / "cut"), [Cut(1)])
    resumed = run(synthesis(tmp_path / "cut"), resume=True)
    for name in FILES:
        assert (complete.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name
    found = read_run(complete.folder)
    assert found.manifest.task == "synthesis"
    line, summary = found.rounds[-1], found.summary.synthesis
    assert summary is not None and line.synthesis is not None and line.memory_bytes
    assert line.value("fid") == summary.fid and summary.fid is not None and summary.fid > 0
    assert line.val.loss is not None and line.clean.accuracy is None
    assert 0 <= summary.conditional_accuracy <= 1 and summary.trigger_false_alarms is not None
    assert len(summary.judge_sha256) == 64
    assert summary.judge_sha256 in (complete.folder / "judge.safetensors").read_bytes().decode("latin1")
    rows = synthetic_images(complete.folder)
    assert [row.name for row in rows] == list(found.classes)
    page = run_page(complete.folder)
    assert "FID" in page and "Synthetic images by class" in page and "on-confusion" not in page
    assert rows[0].made in page
    assert [number for number, _ in rows[0].rounds] == [1, 2] and rows[0].rounds[0][1] in page
    # The last round's images are those that are shown as the last.
    assert rows[0].rounds[1][1] == rows[0].made != rows[0].rounds[0][1]
    assert [use.real for use in summary.utility] == [10, 25] and "What they are good for" in page
    assert 1 <= summary.class_score <= len(found.classes) and summary.real_class_score is not None
    reported = json.loads((complete.folder / "client_metrics.jsonl").read_text().splitlines()[0])
    assert all(isinstance(loss, float) for loss in (*reported["loss"], *reported["discriminator_loss"]))
    assert "discriminator loss" in page


def test_a_generator_that_is_not_finite_or_has_collapsed_is_said() -> None:
    assert "no finite numbers" in synthesis_notes(SynthesisSummary(finite=False))[0]
    assert "collapsed" in synthesis_notes(SynthesisSummary(collapsed=True, recall=0.0))[0]
    assert len(synthesis_notes(SynthesisSummary(recall=0.5))) == 1


def test_two_generators_are_compared(tmp_path: Path) -> None:
    folders = []
    for name, fid in (("one", 2.0), ("other", 0.5)):
        use = [{"real": 10, "without": 0.6, "supplemented": 0.7}]
        (tmp_path / name).mkdir()
        folders.append(make_run(tmp_path / name, examples=False, synthesis={"fid": fid, "utility": use}))
    pairs = {pair.metric.key: pair for pair in compare_runs(*folders).metrics}
    assert pairs["fid"].difference == -1.5 and pairs["utility:10"].first == 0.7
    assert "kid" not in pairs


def test_a_suite_says_which_seeds_collapsed(tmp_path: Path) -> None:
    settings = synthesis(tmp_path)
    cell = SimpleNamespace(settings=settings, seed=3, baseline=None)
    found = read_run(make_run(tmp_path, examples=False, synthesis={"collapsed": True}))
    runs: Any = {settings.digest(): SimpleNamespace(settings=settings, run=found)}
    planned: Any = [cell]
    texts = [each.text for each in caveats_of(planned, planned, runs, usual(list(runs.values())))]
    assert "the generator collapsed (seed 3)" in texts


def test_a_generator_that_is_not_finite_has_no_loss_so_the_last_one_is_kept(tmp_path: Path) -> None:
    scenario = Scenario.of(synthesis(tmp_path))
    task = Synthesis(scenario, prepare(scenario.data), [])
    state = task.learner.initial()
    broken = State(np.full_like(state.parameters, np.nan), state.buffers)
    line = RoundLine.of(task.evaluate(broken), round=1)
    assert task.validation_loss(line) is None and line.synthesis is not None
    assert not line.synthesis.finite and line.value("fid") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet18"}, "--backbone is for classification; leave it out with --task synthesis"),
        ({"tte": 3, "evaluate": "noise"}, "--evaluate, --tte are for classification"),
        ({"task": "synthesiss"}, "there is no 'synthesiss'"),
        ({"task": "synthesis(loss='wgan')"}, "--task synthesis: loss is 'wgan'"),
        ({"data": "phantom(images=60, size=80)"}, "--task synthesis makes 16 to 64 pixels"),
        ({"strategy": "fltrust"}, "FLTrust needs labelled images"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        run(synthesis(tmp_path, **changes))
    assert words in str(caught.value)


def test_a_generator_classifies_nothing(tmp_path: Path) -> None:
    scenario = Scenario.of(synthesis(tmp_path))
    with pytest.raises(UserError, match="classifies nothing"):
        build_learner(scenario.learner, scenario.data)


def test_the_task_enters_a_runs_name_only_where_given() -> None:
    assert "task" not in Settings().identity()
    assert Settings(task="synthesis").identity()["task"] == "synthesis"


def some(part: str) -> Records:
    scenario = Scenario.of(Settings(data="phantom(images=240, size=16)", clients=2))
    return prepare(scenario.data).part(part)


def test_a_detector_finds_the_mark_and_its_error_is_measured() -> None:
    rng = np.random.default_rng(0)
    mark = Mark("checkerboard", 0.1, "bottom-right", 1.0)
    train, test = some("train"), some("test")
    stamped = [Records(mark.stamped(r.images, rng), r.labels, r.classes) for r in (train, test)]
    detector = TriggerDetector(train, stamped[0], test, stamped[1], 0, "mark")
    assert detector.false_alarms <= 0.1 and detector.misses <= 0.1
    # A generator makes the mark fainter than it was planted.
    half = np.rint((test.images + stamped[1].images.astype(float)) / 2).astype(np.uint8)
    assert detector.rate(half) == pytest.approx(1 - detector.misses)
    assert detector.rate(stamped[1].images) >= 0.9


def test_a_judge_is_the_same_for_the_same_seed_and_purpose() -> None:
    few = some("val").take(slice(0, 12))
    one, same, other = Judge(few, 0, "a"), Judge(few, 0, "a"), Judge(few, 0, "b")
    assert one.sha256 == same.sha256 != other.sha256
    assert np.array_equal(one.features(few.images), same.features(few.images))
    assert one.features(few.images).shape[0] == 12

"""What the terminal shows at the end of a run, read from the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run

from fedrobust.commands.run_summary import print_run
from fedrobust.results.finished_run import read_run

METRICS = {"accuracy": 0.5, "macro_f1": 0.25, "macro_precision": 0.0, "macro_recall": 0.3}
DETECTION = {"flagged": [1, 3], "weights": {"0": 0.1, "1": 0.3, "2": 0.6, "3": 0.0}}


def printed(folder: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    made: dict[str, Any] = {"clients": 4, "attacks": {0: "label-flip", 3: "boost"}, "examples": False}
    summary = {
        "clean": METRICS,
        "noisy": METRICS,
        "drop": {"accuracy": 12.5, "macro_f1": -1.0, "macro_precision": None, "combined": None},
        "detection": DETECTION,
        "commonest_class_share": 0.3,
        "synthetic": True,
    }
    print_run(read_run(make_run(folder, **{**made, **summary, **changes})))
    return capsys.readouterr().out


def test_detected_and_falsely_flagged_hospitals_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(tmp_path, capsys)
    assert "Malicious hospitals: 0, 3. Detected: 3." in text
    assert "Falsely flagged hospitals: 1." in text
    assert "Final weight of the malicious: 0.100 (uniform weights: 0.500)." in text
    assert "synthetic" in text
    assert "12.50 %" in text and "-1.00 %" in text and "undefined" in text
    assert max(map(len, text.splitlines()[:11])) <= 80
    assert text.startswith("Test set")


def test_run_without_malicious_hospitals_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(tmp_path, capsys, attacks={})
    assert "No hospital was malicious. Falsely flagged hospitals: 1, 3." in text


def test_atypical_hospitals_that_are_flagged_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(tmp_path, capsys, atypical={1: "other-scanner", 2: "single-class"})
    assert "Atypical (benign) hospitals: 1, 2. Falsely flagged: 1." in text


def test_a_collapsed_generator_and_the_use_of_its_images_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utility = [{"real": 25, "without": 0.7, "supplemented": 0.76}]
    text = printed(tmp_path, capsys, synthesis={"collapsed": True, "utility": utility})
    assert text.startswith("The generator has collapsed or learnt nothing")
    (line,) = [line for line in text.splitlines() if "25 real images a class" in line]
    assert "0.760" in line and "0.700" in line


def test_strategy_without_verdicts_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gives no verdict" in printed(tmp_path, capsys, detection={"flagged": [], "weights": {}})


def test_failures_early_stop_and_backdoor_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(tmp_path, capsys, faults=3, rounds=1, attack_success_rate=0.75)
    assert "Discarded updates of failed hospitals: 3" in text and "success rate: 0.750" in text


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.5, "half of the"), (1.0, "all of the"), (0.07, "7 % of the"), (0.125, "12.5 % of the")],
)
def test_server_images_of_the_defence_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float, words: str
) -> None:
    text = printed(tmp_path, capsys, server_images=302, server_share=share)
    assert f"The defence used 302 labelled server images ({words} validation part)." in text
    assert "server images" not in printed(tmp_path / "other", capsys, server_images=0)


def test_report_is_named_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Report:" not in printed(tmp_path, capsys)
    (tmp_path / "report.html").write_text("", encoding="utf-8")
    assert f"Report: {tmp_path / 'report.html'}" in printed(tmp_path, capsys)


def test_loss_to_the_attack_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = {"run": "clean", "clean": {**METRICS, "accuracy": 0.62}}
    text = printed(tmp_path, capsys, lost_to_attack={"accuracy": 0.12}, baseline=baseline)
    assert text.startswith("Lost to the attack: 12.0 points of accuracy (0.500; 0.620 without it).")
    assert "clean without attack" in text and f"Clean baseline: {tmp_path.with_name('clean')}" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"no_better_than_commonest_class": True},
            "no better than always predicting the commonest class (0.300",
        ),
        ({"diverged": True}, "Training diverged"),
        ({"failed_attacks": ["boost"]}, "Attack 'boost' never ran"),
        (
            {"failed": True, "failure": "all hospitals failed; hospital 0: no"},
            "All hospitals failed; hospital 0: no.",
        ),
    ],
)
def test_what_spoils_the_metrics_comes_first(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in printed(tmp_path, capsys, **changes).splitlines()[0]


def test_text_of_a_run_folder_is_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(tmp_path / "run [/red]", capsys)
    assert "run [/red]" in text

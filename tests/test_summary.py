"""The summary: what a run was made with, whether it failed, and whether its model learnt anything."""

from __future__ import annotations

import json
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
from federations import Cut, Unplugged, tiny

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.runtime.result import Result
from fedrobust.scenario import Scenario

SMALL = {"clients": 3, "rounds": 2, "data": "phantom(images=120, size=16)"}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an attack that raises in every round."""
    (tmp_path / "clients").mkdir()
    body = """
        from fedrobust.federation import Attack

        class NeverRuns(Attack):
            def poison_update(self, update):
                raise RuntimeError("out of order")
    """
    (tmp_path / "clients" / "never_runs.py").write_text(textwrap.dedent(body))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "never-runs"


def quiet(settings: Any, **options: Any) -> tuple[Result, list[str]]:
    """Return a run's result and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = run(settings, report=False, **options)
    return result, [str(one.message) for one in caught if one.category is UserWarning]


def test_summary_names_what_the_run_was_made_with(tmp_path: Path) -> None:
    result, _ = quiet(tiny(tmp_path, **SMALL, threat=("sign-flip:1", "other-scanner:1"), strategy="median"))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert (summary["strategy"], summary["data"]) == ("median", SMALL["data"])
    assert (summary["partition"], summary["attack"]) == ("iid", "sign-flip")
    assert [(threat["attack"], threat["malicious"]) for threat in summary["threats"]] == [
        ("sign-flip", True),
        ("other-scanner", False),
    ]
    assert summary["threats"][0]["hospitals"] == list(result.malicious)
    assert (summary["failed"], summary["failure"], summary["failed_attacks"]) == (False, None, [])
    assert summary["baseline"] is summary["lost_to_attack"] is None


def test_summary_of_an_attack_that_never_ran_is_named(tmp_path: Path, broken: str) -> None:
    settings = tiny(tmp_path / "out", **SMALL, malicious=1, attack=broken, strategy="median")
    result, warned = quiet(settings)
    assert result.summary["failed_attacks"] == [broken] and not result.summary["failed"]
    assert result.summary["no_effect_attacks"] == []
    (sentence,) = (one for one in warned if "never ran" in one)
    assert f"attack '{broken}' never ran" in sentence and "out of order" in sentence
    detection = result.summary["detection"]
    assert detection["failed"] == list(result.malicious)
    assert (detection["malicious_weight"], detection["malicious_share"]) == (0.0, pytest.approx(1 / 3))


@pytest.mark.parametrize("strategy", ["median", "flwr.serverapp.strategy:FedAvg"])
def test_run_in_which_all_hospitals_fail_is_a_failed_run(tmp_path: Path, broken: str, strategy: str) -> None:
    settings = tiny(tmp_path / "out", **SMALL, malicious=3, attack=broken, strategy=strategy)
    result, warned = quiet(settings)
    assert result.failed and result.summary["failed"] and result.summary["no_effect_steps"] == []
    assert warned == [result.summary["failure"]]
    assert warned[0].startswith("all hospitals failed in every round, so the model is untrained; hospital ")
    assert "out of order" in warned[0]


def test_resumed_run_remembers_who_replied_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clients").mkdir()
    body = """
        from fedrobust.federation import Attack

        class FailsLate(Attack):
            def poison_update(self, update):
                if update.round > 1:
                    raise RuntimeError("out of order")
                return update
    """
    (tmp_path / "clients" / "fails_late.py").write_text(textwrap.dedent(body))
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = tiny(tmp_path / "out", **SMALL, malicious=3, attack="fails-late", strategy="median")
    with pytest.raises(Unplugged):
        run(settings, [Cut(1)], report=False)
    result, _ = quiet(settings, resume=True)
    assert result.summary["faults"] == 3
    assert not result.failed and result.summary["failed_attacks"] == []


def test_summary_compares_the_model_with_the_commonest_class(tmp_path: Path) -> None:
    # A learning rate that moves nothing: the initial network is no classifier.
    settings = tiny(tmp_path, **SMALL, lr=1e-12)
    result, _ = quiet(settings)
    counts = prepare(Scenario.of(settings).data).part("test").counts()
    assert result.summary["commonest_class_share"] == counts.max() / counts.sum()
    better = result.summary["clean"]["accuracy"] > counts.max() / counts.sum()
    assert result.summary["no_better_than_commonest_class"] is not better
    assert result.summary["diverged"] is False


def test_diverged_run_ends_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedrobust.evaluation.server_evaluation import ServerEvaluation

    measured = ServerEvaluation.of

    def diverged(self: ServerEvaluation, state: Any) -> dict[str, Any]:
        line = measured(self, state)
        return {**line, "val": {**line["val"], "loss": float("nan")}}

    monkeypatch.setattr(ServerEvaluation, "of", diverged)
    result, warned = quiet(tiny(tmp_path, **{**SMALL, "rounds": 5}, patience=2))
    assert result.summary["diverged"] and any("training diverged" in one for one in warned)
    # A loss that is no number is no better one: the patience runs out.
    assert result.summary["rounds"] == 2

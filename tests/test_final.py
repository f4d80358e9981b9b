"""What is written of a run at its end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import learner_of, threats_of, tiny
from flwr.app import Context, Message
from safetensors import safe_open

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.final import final_evaluation
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.evaluation.temperature import fit_scale, scaled
from fedrobust.flower import client_app
from fedrobust.flower.codec import HospitalRecord, unpack
from fedrobust.learners.base import State
from fedrobust.runtime.observers import Observer, RoundOutcome
from fedrobust.scenario import Scenario
from strategies.isolation_forest import IsolationForestWeighting


class LastModel(Observer):
    """Keeps the last model."""

    state: State

    def round_done(self, outcome: RoundOutcome) -> None:
        assert outcome.arrays is not None
        self.state = unpack(outcome.arrays)


def test_final_evaluation_agrees_with_the_last_round(tmp_path: Path) -> None:
    threat = ("label-flip:1", "other-scanner:1")
    settings = tiny(tmp_path, clients=5, threat=threat)
    result = run(settings)
    final = json.loads((result.folder / "evaluation.json").read_text())
    last = result.rounds[-1]
    data = prepare(Scenario.of(settings).data)
    assert final["classes"] == list(data.records.classes)
    for part in ("clean", "noisy"):
        confusion = np.array(final[part]["confusion"])
        np.testing.assert_array_equal(confusion.sum(1), data.part("test").counts())
        assert confusion.trace() / confusion.sum() == last[part]["accuracy"]
        assert final[part]["sensitivity"] == last[part]["sensitivity"]
        bins = final[part]["calibration"]
        gaps = [b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["count"]]
        assert np.isclose(sum(gaps) / confusion.sum(), result.summary[part]["ece"])
    roles = {hospital["number"]: (hospital["role"], hospital["attack"]) for hospital in final["hospitals"]}
    assert list(roles) == list(range(5))
    chains = {number: chain for chain, hospitals in threats_of(settings) for number in hospitals}
    words = {"label-flip": "malicious", "other-scanner": "atypical", None: "honest"}
    assert roles == {n: (words[chains.get(n)], chains.get(n)) for n in range(5)}
    for hospital, part, accuracy in zip(
        final["hospitals"], data.hospitals, last["hospital_accuracy"], strict=True
    ):
        assert hospital["images"] == sum(hospital["counts"]) == len(part)
        assert hospital["accuracy"] == accuracy


@pytest.mark.parametrize("head", ["linear", "etf-rect"])
def test_last_models_confidence_is_fitted_on_validation_images_alone(tmp_path: Path, head: str) -> None:
    settings = tiny(tmp_path, head=head, rounds=3)
    kept = LastModel()
    result = run(settings, [kept])
    summary, last = result.summary, result.rounds[-1]
    learner, data = learner_of(settings), prepare(Scenario.of(settings).data)
    val, test = data.part("val"), data.part("test")
    predicted = learner.predict(kept.state, val.images, val.labels).probabilities
    # Not on what the default defence sees, and takes its steps on.
    share = IsolationForestWeighting().server_share
    seen = ServerShare(learner, val, share, settings.seed, settings.lr).places
    unseen = np.setdiff1d(np.arange(len(val)), seen)
    scale = summary["calibration"]["scale"]
    assert len(seen) and len(unseen)
    assert scale == fit_scale(predicted[unseen], val.labels[unseen]) and scale != 1
    exact = scaled(learner.predict(kept.state, test.images, test.labels).probabilities, scale)
    wanted = classification_metrics(exact, test.labels)
    for key, value in wanted.items():
        assert summary["clean"][key] == pytest.approx(value), key
    # Both errors are recorded; no prediction changes.
    assert summary["calibration"]["raw_ece"] == last["clean"]["ece"] != summary["clean"]["ece"]
    assert summary["calibration"]["raw_noisy_ece"] == last["noisy"]["ece"]
    for key in ("accuracy", "macro_f1", "sensitivity", "loss"):
        assert summary["clean"][key] == last["clean"][key] and summary["noisy"][key] == last["noisy"][key]
    with safe_open(result.folder / "model.safetensors", "np") as file:
        about = json.loads(file.metadata()["fedrobust"])
    assert about["scale"] == scale
    assert about["temperature"] == (1.0 if head == "linear" else 0.2)


def test_final_evaluation_counts_missing_facts(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    data = prepare(Scenario.of(settings).data)
    labels = data.part("test").labels
    every = {"clean": np.eye(6)[labels], "noisy": np.eye(6)[labels]}
    final = final_evaluation(Scenario.of(settings), data, labels, every, [1.0] * 4, unknown={2})
    for name in ("train", "val", "test"):
        facts = data.records.take(getattr(data.split, name)).facts
        assert final["splits"][name]["missing"] == {
            fact: (facts[fact] == "").mean() for fact in ("sex", "view")
        }
        assert sum(final["splits"][name]["counts"]) == len(getattr(data.split, name))
    assert 0 < final["splits"]["train"]["missing"]["sex"] < 1
    assert final["hospitals"][2]["images"] is final["hospitals"][2]["counts"] is None
    assert final["hospitals"][1]["images"] == len(data.hospitals[1])
    known = replace(data.records, facts={"view": data.records.facts["view"]})
    final = final_evaluation(Scenario.of(settings), replace(data, records=known), labels, every, [1.0] * 4)
    assert set(final["splits"]["val"]["missing"]) == {"view"}


def test_final_evaluation_of_unknown_data_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = client_app._identity

    def owning(message: Message, context: Context) -> HospitalRecord:
        record = identity(message, context)
        return replace(record, own_data=True) if record.number == 1 else record

    monkeypatch.setattr(client_app, "_identity", owning)
    result = run(tiny(tmp_path))
    assert [line["hospital_accuracy"][1] for line in result.rounds] == [None, None]
    hospital = json.loads((result.folder / "evaluation.json").read_text())["hospitals"][1]
    assert hospital["counts"] is hospital["accuracy"] is hospital["missing"] is None
    assert result.rounds[-1]["worst_hospital"] is not None

"""The attackers who know the default defence's rule: tests/adaptive/clients, found as plug-ins are."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from benchmarks.generalisation import ADAPTIVE_PLUGINS
from fedrobust import run
from fedrobust.data.phantom import phantom
from fedrobust.federation import Attack, ClientMetrics, Update
from fedrobust.plugins.specs import AttackChain

FILES = sorted((ADAPTIVE_PLUGINS / "clients").glob("*.py"))
RECEIVED = np.zeros(20, np.float32)
TOLD = {
    "received-loss": 2.0,
    "loss": 1.0,
    "last-loss": 1.0,
    "class-counts": (4.0, 0.0, 6.0),
    "class-losses": (1.0, float("nan"), 3.0),
    "class-epoch-losses": (0.5, float("nan"), 1.5),
}


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ADAPTIVE_PLUGINS))


def made(name: str, seed: int = 1, **options: float) -> Attack:
    """Return an attack in its first round; `honest` is what an honest training gives."""
    module = importlib.import_module(f"clients.{name}")
    found = getattr(module, name.title().replace("_", ""))(**options)
    found.bind(rng=np.random.default_rng(seed), honest=update(seed=99))
    return found  # type: ignore[no-any-return]


def update(node: int = 0, seed: int = 0) -> Update:
    delta = np.random.default_rng(seed).standard_normal(len(RECEIVED)).astype(np.float32)
    return Update(node, delta, ClientMetrics(10, dict(TOLD)), RECEIVED)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_plug_in_is_short_and_found_by_its_name(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 25
    assert AttackChain.parse(file.stem.replace("_", "-")).parts


def test_drift_is_the_same_for_all_and_in_all_rounds() -> None:
    added = [made("drift").poison_update(update(seed=s)).delta - update(seed=s).delta for s in (0, 1)]
    assert cosine(*added) == pytest.approx(1)
    assert np.linalg.norm(added[0]) == pytest.approx(3 * np.linalg.norm(update(seed=0).delta), rel=1e-5)


def test_layer_flip_changes_the_end_alone() -> None:
    before, after = update().delta, made("layer_flip").poison_update(update()).delta
    assert np.array_equal(after[:18], before[:18])
    assert after[18:] == pytest.approx(-5 * before[18:])


@pytest.mark.parametrize(("name", "length"), [("odd_claims", 3), ("one_class_liar", 2)])
def test_update_is_turned_from_an_honest_one(name: str, length: float) -> None:
    honest, sent = update(seed=99).delta, made(name).poison_update(update()).delta
    assert cosine(honest, sent) == pytest.approx(-0.2, abs=1e-5)
    assert np.linalg.norm(sent) == pytest.approx(length * np.linalg.norm(honest), rel=1e-5)


def test_claims_are_those_that_excuse() -> None:
    claimed = made("odd_claims").forge_report(update().report).values
    assert (claimed["received-loss"], claimed["class-losses"][2], claimed["loss"]) == (6.0, 9.0, 1.0)  # type: ignore[index]
    claimed = made("play_odd").forge_report(update().report).values
    assert (claimed["received-loss"], claimed["class-losses"][2], claimed["loss"]) == (6.0, 9.0, 0.5)  # type: ignore[index]
    claimed = made("one_class_liar", target=1).forge_report(update().report).values
    assert claimed["class-counts"] == (0.0, 10.0, 0.0)
    # It holds no image of class 1: its loss over all classes stands for it.
    assert np.array_equal(claimed["class-losses"], [np.nan, 2.0, np.nan], equal_nan=True)
    assert np.array_equal(claimed["class-epoch-losses"], [np.nan, 1.0, np.nan], equal_nan=True)


def test_one_class_liar_labels_everything_alike() -> None:
    records = made("one_class_liar", target=2).poison_records(phantom(images=30, size=16))
    assert set(records.labels.tolist()) == {2}


def test_framing_resembles_its_victims_alone() -> None:
    honest = [update(node, seed=node) for node in range(2, 8)]
    sent = made("framing").collude([update(0), update(1)], honest)
    mean = np.mean([one.delta for one in honest], axis=0)
    likeness = [cosine(sent[0].delta - mean, one.delta - mean) for one in honest]
    assert min(likeness[:2]) > max(0.3, *likeness[2:])
    assert np.array_equal(sent[0].delta, sent[1].delta)


def test_helpful_backdoor_rides_on_the_honest_mean() -> None:
    honest, colluders = [update(seed=3)], [update(seed=4)]
    sent = made("helpful_backdoor", ride=1.0, kappa=0.0).collude(colluders, honest)
    assert sent[0].delta == pytest.approx(honest[0].delta)
    sent = made("helpful_backdoor", ride=1.0, kappa=1.0).collude(colluders, honest)
    assert sent[0].delta == pytest.approx(colluders[0].delta, abs=1e-6)


def test_diluting_noise_is_each_colluders_own() -> None:
    added = [made("diluted_backdoor", seed=s).poison_update(update()).delta - update().delta for s in (1, 2)]
    assert abs(cosine(*added)) < 0.6
    assert np.linalg.norm(added[0]) == pytest.approx(np.linalg.norm(update().delta), rel=1e-5)


def test_all_run_in_one_federation(tmp_path: Path) -> None:
    threats = ("label-flip + one-class-liar:1", "backdoor + helpful-backdoor:1", "label-flip + framing:1")
    settings = tiny(tmp_path, clients=6, rounds=1, strategy="fedavg", threat=threats)
    result = run(settings.model_copy(update={"data": "phantom(images=120, size=16)"}))
    assert not result.rounds[-1].get("faults") and not result.rounds[-1].get("no_effect_attacks")

"""Plug-ins given as objects instead of names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny
from flwr.serverapp.strategy import FedAdam, FedAvg

import __main__
from clients.backdoor import Backdoor
from clients.sign_flip import SignFlip
from fedrobust import UserError, run
from fedrobust.federation import Attack, Defence, Update, Updates
from fedrobust.plugins import spec_of
from strategies.krum import Krum
from strategies.nnm import NNM

SMALL = {"clients": 3, "rounds": 1, "data": "phantom(images=120, size=16)"}


class MyMean(Defence):
    """The mean, of those hospitals whose number is at least `least`."""

    def __init__(self, least: int = 0, *, spare: tuple[int, ...] = ()) -> None:
        self.lowest = least

    def weigh(self, updates: Updates) -> Any:
        return np.array([float(node >= self.lowest) for node in updates.nodes])


class Double(Attack):
    """Sends twice the update."""

    def poison_update(self, update: Update) -> Update:
        return update.with_delta(2 * update.delta)


class Child(MyMean):
    """Gives its parent another option."""

    def __init__(self, most: int) -> None:
        super().__init__(least=most - 1)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (Krum(), "krum"),
        (Krum(f=2), "krum(f=2)"),
        (NNM(1), "nnm(f=1)"),
        (SignFlip(scale=3.0), "sign-flip(scale=3.0)"),
        (Backdoor(place="center"), "backdoor(place='center')"),
        (FedAvg(), "flwr.serverapp.strategy.fedavg:FedAvg"),
        (FedAdam(eta=0.5), "flwr.serverapp.strategy.fedadam:FedAdam(eta=0.5)"),
        (MyMean(), "test_objects:MyMean"),
        (MyMean(2, spare=(1, 2)), "test_objects:MyMean(least=2, spare=(1, 2))"),
        (Child(3), "test_objects:Child(most=3)"),
        (Double(), "test_objects:Double"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_object_is_written_as_its_class_and_its_options(thing: object, text: str) -> None:
    assert spec_of(thing).text == text


def test_object_that_cannot_be_written_down_is_refused_in_one_sentence() -> None:
    class Local(Defence):
        pass

    with pytest.raises(UserError, match="Local is not found by its name; define it at the top of a module"):
        spec_of(Local())
    with pytest.raises(UserError, match="MyMean: the option least=array.* cannot be written down"):
        spec_of(MyMean(np.ones(2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leest"):
        MyMean(least=1, leest=2)  # type: ignore[call-arg]


def test_run_with_a_strategy_object_is_the_run_of_its_name(tmp_path: Path) -> None:
    by_object = run(tiny(tmp_path / "object", **SMALL), strategy=MyMean(least=1), report=False)
    assert by_object.settings.strategy == "test_objects:MyMean(least=1)"
    assert by_object.summary["detection"]["weights"]["0"] == 0
    by_name = run(tiny(tmp_path / "name", **SMALL, strategy="test_objects:MyMean(least=1)"), report=False)
    for name in ("rounds.jsonl", "model.safetensors"):
        assert (by_object.folder / name).read_bytes() == (by_name.folder / name).read_bytes()
    assert by_object.folder.name == by_name.folder.name
    manifest = json.loads((by_object.folder / "manifest.json").read_text())
    assert manifest["settings"]["strategy"] == by_object.settings.strategy


def test_run_takes_pipelines_and_attack_chains_of_objects_and_names(tmp_path: Path) -> None:
    settings = tiny(tmp_path, **{**SMALL, "clients": 5}, malicious=1)
    result = run(settings, strategy=[NNM(f=1), "krum(f=1)"], attack=[Double(), "forge-loss"], report=False)
    assert result.settings.strategy == "nnm(f=1) | krum(f=1)"
    assert result.summary["attack"] == "test_objects:Double + forge-loss"


def test_attack_object_without_malicious_hospitals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody is malicious"):
        run(tiny(tmp_path, **SMALL), attack=Double())
    with pytest.raises(UserError, match="threat"):
        run(tiny(tmp_path, **SMALL, threat=("label-flip:1",)), attack=Double())


def test_attack_object_of_a_script_stays_in_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Double, "__module__", "__main__")
    monkeypatch.setattr(__main__, "Double", Double, raising=False)
    result = run(tiny(tmp_path, **SMALL, malicious=1).model_copy(update={"workers": "auto"}), attack=Double())
    assert result.summary["faults"] == 0 and result.summary["attack"] == "__main__:Double"
    with pytest.raises(UserError, match="worker processes cannot import Double"):
        run(tiny(tmp_path, **SMALL, malicious=1).model_copy(update={"workers": 2}), attack=Double())

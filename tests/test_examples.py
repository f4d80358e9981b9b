"""Examples of poisoned images: those that were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from federations import threats_of, tiny
from safetensors import safe_open

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.evaluation.examples import poisoned_examples
from fedrobust.flower.client_app import _hospital
from fedrobust.scenario import Scenario


@pytest.mark.parametrize(
    "attack",
    [
        "label-flip(share=0.3)",
        "backdoor(size=0.1, place=random)",
        "image-noise",
        "label-flip + backdoor(size=0.1)",
    ],
)
def test_examples_are_the_images_that_the_hospital_trains_on(tmp_path: Path, attack: str) -> None:
    settings = tiny(tmp_path, malicious=2, attack=attack)
    data = prepare(Scenario.of(settings).data)
    examples = poisoned_examples(Scenario.of(settings), data)
    assert len(examples) == 4
    number = examples[0].hospital
    own, trained = data.of_hospital(number), _hospital(Scenario.of(settings), number, None).records  # type: ignore[attr-defined]
    pairs = {
        (before.tobytes(), after.tobytes(), own.classes[old], own.classes[new])
        for before, after, old, new in zip(
            own.images, trained.images, own.labels, trained.labels, strict=True
        )
    }
    for example in examples:
        assert (example.hospital, example.attack) == (number, attack)
        found = example.original.tobytes(), example.poisoned.tobytes(), example.before, example.after
        assert found in pairs
        assert not np.array_equal(example.original, example.poisoned) or example.before != example.after
    assert len({example.before for example in examples}) > 1


def test_examples_are_given_per_threat_and_not_for_atypical_hospitals(tmp_path: Path) -> None:
    threat = ("label-flip:1", "sign-flip:1", "other-scanner:1", "sleeper + single-class + label-flip:1")
    settings = tiny(tmp_path, clients=5, threat=threat)
    examples = poisoned_examples(Scenario.of(settings), prepare(Scenario.of(settings).data))
    chains = dict(threats_of(settings))
    assert {e.attack: (e.hospital,) for e in examples} == {
        name: chains[name] for name in ("label-flip", "sleeper + single-class + label-flip")
    }
    # Of those who keep one class, the images are still found again among their own.
    kept = [e for e in examples if "single-class" in e.attack]
    assert len({e.before for e in kept}) == 1
    assert all(np.array_equal(e.original, e.poisoned) and e.before != e.after for e in kept)


def test_examples_skip_a_hospital_without_changes(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=4, malicious=3, attack="label-flip(mode=pairwise, source=5, target=0)")
    data = prepare(Scenario.of(settings).data)
    ((_, hospitals),) = threats_of(settings)
    first = poisoned_examples(Scenario.of(settings), data)[0].hospital
    assert first in hospitals
    again = {e.hospital for e in poisoned_examples(Scenario.of(settings), data, avoided={first})}
    assert first not in again and again < set(hospitals)
    assert poisoned_examples(Scenario.of(settings), data, avoided=hospitals) == []


def test_examples_are_written_into_the_run_folder(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, malicious=1))
    with safe_open(result.folder / "examples.safetensors", framework="numpy") as file:
        about = json.loads(file.metadata()["fedrobust"])
        assert len(about) == 4
        assert set(file.keys()) == {f"{kind}/{n}" for kind in ("original", "poisoned") for n in range(4)}
        picture = file.get_tensor("original/3")
    assert picture.shape == (1, 16, 16) and picture.dtype == np.uint8
    assert set(about[0]) == {"hospital", "attack", "before", "after"}
    assert about[0]["hospital"] == result.malicious[0] and about[0]["attack"] == "label-flip"


@pytest.mark.parametrize("attack", ["sign-flip", "label-flip"])
def test_examples_file_is_absent_without_poisoned_images(tmp_path: Path, attack: str) -> None:
    result = run(tiny(tmp_path, attack=attack, malicious=int(attack == "sign-flip")))
    assert not (result.folder / "examples.safetensors").exists()


FAILS = """
from fedrobust.federation import Attack

class {name}(Attack):
    made = 0

    def poison_records(self, records):
        {name}.made += 1
        if {name}.made > 1:
            {does}
        return records.take(slice(0, 9))
"""


@pytest.mark.parametrize("does", ["raise ValueError('not twice')", "raise SystemExit(3)"])
def test_examples_of_a_failing_plugin_are_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    name = f"once_{len(does)}"
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / f"{name}.py").write_text(FAILS.format(name=f"Once{len(does)}", does=does))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match="no examples of images poisoned by 'once-"):
        result = run(tiny(tmp_path, malicious=1, attack=name.replace("_", "-")))
    assert (result.folder / "evaluation.json").exists()
    assert not (result.folder / "examples.safetensors").exists()


def test_examples_of_a_hospital_that_kills_its_worker_are_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "bomb.py").write_text(
        "import os, signal\nfrom fedrobust.federation import Attack\n\nclass Bomb(Attack):\n"
        "    def poison_records(self, records):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, malicious=1, attack="bomb", workers=2))
    assert result.summary["faults"] == 2
    assert not (result.folder / "examples.safetensors").exists()

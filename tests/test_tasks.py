"""The seam of a task: a second one runs through the same rounds, files and resumption."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from federations import Cut, Unplugged, fake_app, tiny

from fedrobust.data.sources import FederationData
from fedrobust.engines.local import LocalGrid
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.federation import Behaviour
from fedrobust.learners.base import State
from fedrobust.results.folder import RunFolder
from fedrobust.results.records import RoundLine
from fedrobust.runtime.server import Server
from fedrobust.scenario import Scenario
from fedrobust.tasks import task_class
from fedrobust.tasks.classification import Classification


class MeanLearner:
    """Learns the mean brightness of all images."""

    def initial(self) -> State:
        return State(np.zeros(1, np.float32), np.zeros(0, np.float32))

    def named_tensors(self, state: State) -> Mapping[str, np.ndarray]:
        return {"mean": state.parameters}


class MeanBrightness:
    """A task without classes: the model is one number."""

    name: ClassVar[str] = "mean-brightness"
    report_sections: ClassVar[tuple[str, ...]] = ()

    def __init__(self, scenario: Scenario, data: FederationData, attacks: Sequence[Behaviour]) -> None:
        self.learner: Any = MeanLearner()
        self.truth = float(data.part("val").images.mean()) / 255
        self.unknown: frozenset[int] = frozenset()

    def evaluate(self, state: State) -> Mapping[str, Any]:
        return {"val": {"loss": abs(float(state.parameters[0]) - self.truth)}}

    def validation_loss(self, line: RoundLine) -> float | None:
        return line.val.loss

    def server_data(self, share: float) -> ServerShare:
        raise NotImplementedError

    def set_unknown(self, hospitals: frozenset[int]) -> None:
        self.unknown = hospitals

    def write_round(self, folder: RunFolder, state: State, round: int) -> None:
        """Write nothing."""

    def summary(self, line: RoundLine) -> Mapping[str, object]:
        return {"error": line.val.loss}

    def write_final(self, folder: RunFolder, state: State, silent: Collection[int], tell: Any) -> None:
        folder.write_model(self.learner.named_tensors(state), {"task": self.name})
        folder.write_json("brightness.json", {"mean": float(state.parameters[0]), "silent": sorted(silent)})


def trained(arrays: dict[str, np.ndarray], number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Move half of the way to each hospital's own mean."""
    own = 0.1 * (number + 1)
    moved = {name: (value + (own - value) / 2).astype(np.float32) for name, value in arrays.items()}
    return moved, {"loss": own}


def server(out: Path, resume: bool = False, observers: Sequence[Any] = ()) -> tuple[Server, LocalGrid]:
    settings = tiny(out, clients=3, rounds=4, strategy="fedavg", data="phantom(images=120, size=16)")
    made = Server(Scenario.of(settings), observers, resume=resume, make_task=MeanBrightness)
    return made, LocalGrid(fake_app(trained), 3)


def test_second_task_runs_through_the_same_rounds(tmp_path: Path) -> None:
    made, grid = server(tmp_path)
    result = made.run(grid)
    # The mean of the hospitals is 0.2: each round goes half of the way to it.
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["task"] == "mean-brightness"
    assert [line["round"] for line in result.rounds] == [1, 2, 3, 4]
    final = json.loads((result.folder / "brightness.json").read_text())
    assert final["mean"] == pytest.approx(0.2 * (1 - 0.5**4)) and final["silent"] == []
    assert result.summary["error"] == result.rounds[-1]["val"]["loss"]
    assert not (result.folder / "evaluation.json").exists()


def test_second_task_resumes_to_the_same_bits(tmp_path: Path) -> None:
    made, grid = server(tmp_path / "complete")
    complete = made.run(grid)
    made, grid = server(tmp_path / "cut", observers=[Cut(2)])
    with pytest.raises(Unplugged):
        made.run(grid)
    made, grid = server(tmp_path / "cut", resume=True)
    resumed = made.run(grid)
    for name in ("rounds.jsonl", "verdicts.jsonl", "model.safetensors", "brightness.json"):
        assert (complete.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name


def test_classification_is_the_task_of_a_run_and_names_its_report_sections() -> None:
    assert task_class() is task_class("classification") is Classification
    template = Path(__file__).parents[1] / "fedrobust" / "reports" / "templates" / "run.html.j2"
    for section in Classification.report_sections:
        assert f'{{% if "{section}" in task_sections %}}' in template.read_text()

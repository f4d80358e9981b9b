"""Data of a hospital's own: what it trains on, and what happens when they do not fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import learner_of, tiny
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from helpers import make_records

from fedrobust.data.own import own_data_spec, own_records
from fedrobust.data.sources import prepare
from fedrobust.engines.local import LocalGrid
from fedrobust.errors import UserError
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.codec import pack, unpack
from fedrobust.flower.data_spec import DataSpecGrid
from fedrobust.runtime.server import Server
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings


def write(
    root: Path,
    name: str,
    size: int = 12,
    classes: int = 3,
    parts: tuple[str, ...] = ("train",),
    seed: int = 0,
) -> str:
    """Write a file of 40 images a part, and return its name as a source."""
    arrays = {}
    for place, part in enumerate(parts):
        records = make_records(40, classes, size=(size, size), seed=seed + place)
        arrays |= {f"{part}_images": records.images[:, 0], f"{part}_labels": records.labels[:, None]}
    root.mkdir(exist_ok=True)
    np.savez(root / f"{name}.npz", **arrays)
    return f"medmnist:{name}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a federation on a file of the server's."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    data = write(tmp_path / "server", "shared", parts=("train", "val", "test"), seed=7)
    return tiny(tmp_path, data=data, data_root=str(tmp_path / "server"))


def answer(settings: Settings, kind: str, number: int = 1, **node_config: str) -> RecordDict:
    """Return what a hospital with this node config replies."""
    context = Context(1, 5, {"partition-id": number, **node_config}, RecordDict(), {})
    start = pack(learner_of(settings).initial())
    content = RecordDict({"arrays": start, "config": ConfigRecord({"lr": 0.001, "server-round": 1})})
    return make_client_app(Scenario.of(settings))(Message(content, 5, kind), context).content


def test_file_of_training_images_alone_is_used_completely(settings: Settings, tmp_path: Path) -> None:
    federation = Scenario.of(settings).data
    own = own_data_spec(federation, write(tmp_path / "a", "mine"), str(tmp_path / "a"))
    assert len(own_records(federation, own)) == 40


def test_of_other_files_the_training_part_is_used(settings: Settings, tmp_path: Path) -> None:
    federation = Scenario.of(settings).data
    own = own_data_spec(
        federation, write(tmp_path / "a", "mine", parts=("train", "test")), str(tmp_path / "a")
    )
    assert len(own_records(federation, own)) == 56
    official = replace(federation, split="official")
    own = own_data_spec(official, own.source.text, own.root)
    assert len(own_records(official, own)) == len(prepare(own).split.train) < 40


def test_source_of_the_federation_gives_no_test_image_to_a_hospital(tmp_path: Path) -> None:
    settings = tiny(tmp_path, data=write(tmp_path / "server", "shared"), data_root=str(tmp_path / "server"))
    federation = Scenario.of(settings).data
    own = own_records(federation, own_data_spec(federation, settings.data))
    held = {image.tobytes() for image in own.images}
    assert len(own) == 28
    for part in ("val", "test"):
        assert held.isdisjoint(image.tobytes() for image in prepare(federation).part(part).images)


def test_a_hospital_trains_on_its_own_data(settings: Settings, tmp_path: Path) -> None:
    data, root = write(tmp_path / "a", "mine"), str(tmp_path / "a")
    mine = answer(settings, MessageType.TRAIN, data=data, **{"data-root": root})
    shared = answer(settings, MessageType.TRAIN)
    assert mine["metrics"]["num-examples"] == 40
    assert shared["metrics"]["num-examples"] == len(prepare(Scenario.of(settings).data).of_hospital(1)) != 40
    assert not np.array_equal(unpack(mine["arrays"]).parameters, unpack(shared["arrays"]).parameters)
    measured = answer(settings, MessageType.EVALUATE, data=data, **{"data-root": root})
    assert measured["metrics"]["num-examples"] == 40


def test_a_hospital_says_that_its_data_are_its_own(settings: Settings) -> None:
    assert answer(settings, MessageType.QUERY, data="phantom")["hospital"]["own-data"] is True
    assert "own-data" not in answer(settings, MessageType.QUERY)["hospital"]


def test_an_attacker_stays_one_on_its_own_data(settings: Settings, tmp_path: Path) -> None:
    data, root = write(tmp_path / "a", "mine"), str(tmp_path / "a")
    poisoned = settings.model_copy(update={"malicious": 1, "attack": "label-flip"})
    (number,) = Scenario.of(poisoned).malicious
    honest, attacked = (
        unpack(answer(chosen, MessageType.TRAIN, number, data=data, **{"data-root": root})["arrays"])
        for chosen in (settings, poisoned)
    )
    assert not np.array_equal(honest.parameters, attacked.parameters)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 4}, r"its classes .*'class 3'\] differ from the federation's .*'class 2'\]"),
        ({"size": 16}, r"its image shape \[1, 16, 16\] differs from the federation's \[1, 12, 12\]"),
    ],
)
def test_data_that_do_not_fit(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    data = write(tmp_path / "a", "mine", **changes)
    with pytest.raises(UserError, match=words):
        answer(settings, MessageType.TRAIN, data=data, **{"data-root": str(tmp_path / "a")})


class Nowhere(Grid):
    """A grid that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        self.sent = list(messages)
        return []

    push_messages = pull_messages = create_message = get_node_ids = set_run = run = None  # type: ignore[assignment]


def test_hospital_without_the_server_file_checks_the_data_spec_of_the_message(
    settings: Settings, tmp_path: Path
) -> None:
    for name, changes in {"mine": {}, "other": {"classes": 4}, "large": {"size": 16}}.items():
        write(tmp_path / "a", name, **changes)
    start = pack(learner_of(settings).initial())
    content = RecordDict({"arrays": start, "config": ConfigRecord({"lr": 0.001, "server-round": 1})})
    DataSpecGrid(grid := Nowhere(), Scenario.of(settings).data).send_and_receive(
        [Message(content, 5, MessageType.TRAIN)]
    )
    assert set(content) == {"arrays", "config"}
    (sent,) = grid.sent
    app = make_client_app(Scenario.of(settings.model_copy(update={"data_root": str(tmp_path / "nowhere")})))

    def train(name: str) -> Message:
        own = {"data": f"medmnist:{name}", "data-root": str(tmp_path / "a")}
        return app(sent, Context(1, 5, {"partition-id": 1, **own}, RecordDict(), {}))

    assert train("mine").content["metrics"]["num-examples"] == 40
    with pytest.raises(UserError, match=r"classes .*'class 3'\] differ"):
        train("other")
    with pytest.raises(UserError, match=r"image shape \[1, 16, 16\] differs"):
        train("large")


def test_unfit_own_data_cost_that_hospital_its_round_only(settings: Settings, tmp_path: Path) -> None:
    data = write(tmp_path / "a", "mine", size=16)
    grid = LocalGrid(make_client_app(Scenario.of(settings)), settings.clients)
    grid._contexts[grid.get_node_ids()[2]].node_config |= {"data": data, "data-root": str(tmp_path / "a")}
    result = Server(Scenario.of(settings)).run(grid)
    assert result.summary["rounds"] == 2
    for line in result.rounds:
        (fault,) = line["faults"]
        assert fault["hospital"] == 2 and "image shape [1, 16, 16]" in fault["reason"]

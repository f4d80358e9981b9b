"""The server's own images as a defence sees them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from federations import Cut, Unplugged, learner_of, tiny
from helpers import make_records

from fedrobust import run
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.evaluation.server_data import ServerShare, _part
from fedrobust.federation import DifferentiableServerData
from fedrobust.learners.base import State
from fedrobust.scenario import Scenario

#: Of four classes 40, 10, 3 and 1.
UNEVEN = make_records(labels=np.repeat([2, 0, 3, 1], [40, 10, 3, 1]).tolist())


class Recorder:
    """A learner that remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def predict(self, state, images, labels):  # type: ignore[no-untyped-def]
        self.seen.append(images)
        return type("Prediction", (), {"losses": labels * 1.0})


def share(validation: Records, part: float, seed: int = 0) -> tuple[ServerShare, np.ndarray]:
    """Return the share and the images that it lends."""
    learner = Recorder()
    server = ServerShare(learner, validation, part, seed, 0.001)  # type: ignore[arg-type]
    server.losses(np.zeros(1, np.float32), np.zeros(0, np.float32))
    return server, learner.seen[0]  # type: ignore[return-value]


def places(images: np.ndarray, validation: Records) -> list[int]:
    """Return where each image stands in the validation part."""
    return [
        int(np.flatnonzero([np.array_equal(image, one) for one in validation.images])[0]) for image in images
    ]


@pytest.mark.parametrize(
    ("part", "counts"), [(1.0, [10, 1, 40, 3]), (0.5, [5, 1, 20, 2]), (0.01, [1, 1, 1, 1])]
)
def test_server_share_has_each_class_with_at_least_one_image(part: float, counts: list[int]) -> None:
    server, images = share(UNEVEN, part)
    assert np.bincount(server.labels).tolist() == counts
    drawn = places(images, UNEVEN)
    assert len(set(drawn)) == len(drawn) == sum(counts)
    assert drawn == server.places.tolist()
    np.testing.assert_array_equal(UNEVEN.labels[drawn], server.labels)


def test_server_share_rounds_the_decimal_share_up() -> None:
    assert [_part(100, share) for share in (0.07, 0.29, 0.55, 0.56)] == [7, 29, 55, 56]
    for hundredths in range(1, 101):
        for count in (0, 1, 7, 50, 99, 100, 300, 10**6):
            assert _part(count, hundredths / 100) == -(-count * hundredths // 100)
    assert _part(3, 1e-9) == 1 and _part(10, 1) == 10
    # The default of the rules that use images, as floats gave it before.
    assert all(_part(count, 0.5) == -int(-count * 0.5 // 1) for count in range(5001))


def test_server_share_of_an_empty_class_is_empty() -> None:
    server, _ = share(make_records(labels=[0, 0, 2, 2]), 0.5)
    assert server.labels.tolist() == [0, 2]


def test_server_share_depends_on_the_seed() -> None:
    first, again, other = (share(UNEVEN, 0.5, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_server_share_gradients_are_those_of_its_classes(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    learner, validation = learner_of(settings), prepare(Scenario.of(settings).data).part("val")
    start = learner.initial()
    server = ServerShare(learner, validation, 1.0, settings.seed, 0.01)
    assert isinstance(server, DifferentiableServerData)
    classes = np.unique(validation.labels)
    found = list(server.gradients(start.parameters, start.buffers))
    assert len(found) == len(classes)
    for k, gradient in zip(classes, found, strict=True):
        of = validation.take(np.flatnonzero(validation.labels == k))
        np.testing.assert_array_equal(gradient, learner.gradients(start, [(of.images, of.labels)])[0])
    # Of some images only, those of their classes.
    places = np.flatnonzero(validation.labels == classes[-1])[::2]
    (gradient,) = server.gradients(start.parameters, start.buffers, places)
    of = validation.take(places)
    np.testing.assert_array_equal(gradient, learner.gradients(start, [(of.images, of.labels)])[0])
    # A class without images has none.
    some = ServerShare(learner, validation.take(np.flatnonzero(validation.labels != 0)), 0.5, 0, 0.01)
    assert len(list(some.gradients(start.parameters, start.buffers))) == len(classes) - 1


def test_server_share_losses_and_training_equal_the_learner(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    learner, validation = learner_of(settings), prepare(Scenario.of(settings).data).part("val")
    start = learner.initial()
    server = ServerShare(learner, validation, 1.0, settings.seed, 0.01)
    losses = server.losses(start.parameters, start.buffers)
    np.testing.assert_array_equal(losses, learner.predict(start, validation.images, validation.labels).losses)
    some = np.array([0, 3, 4])
    np.testing.assert_allclose(server.losses(start.parameters, start.buffers, some), losses[some], rtol=1e-5)

    update = server.trained(start.parameters, start.buffers, 3)
    wanted = learner.fit(start, validation, round=3, client=-1, lr=0.01)
    np.testing.assert_array_equal(update.parameters, wanted.state.parameters)
    np.testing.assert_array_equal(update.buffers, wanted.state.buffers)
    np.testing.assert_array_equal(update.global_parameters, start.parameters)
    twice = server.trained(start.parameters, start.buffers, 3, epochs=2)
    wanted = learner.fit(start, validation, round=3, client=-1, lr=0.01, epochs=2)
    np.testing.assert_array_equal(twice.parameters, wanted.state.parameters)
    assert update.report.num_examples == len(validation) and np.any(update.delta)
    server.lr = 0.001
    assert not np.array_equal(
        server.trained(start.parameters, start.buffers, 3).parameters, update.parameters
    )
    hospital = learner.fit(State(start.parameters, start.buffers), validation, round=3, client=0, lr=0.01)
    assert not np.array_equal(hospital.state.parameters, update.parameters)


@pytest.mark.parametrize("spec", ["fltrust(share=0.3)", "nnm | zeno(b=1, images=6, share=0.3)"])
def test_run_records_the_server_images_of_its_defence(tmp_path: Path, spec: str) -> None:
    settings = tiny(tmp_path, strategy=spec, malicious=1, attack="sign-flip(scale=4)")
    result = run(settings)
    labels = prepare(Scenario.of(settings).data).part("val").labels
    images = int(np.ceil(0.3 * np.bincount(labels)).sum())
    recorded = json.loads((result.folder / "manifest.json").read_text())["defence_server_data"]
    assert recorded == {"share_of_validation": 0.3, "images": images}
    assert (result.summary["server_images"], result.summary["server_share"]) == (images, 0.3)
    lines = [json.loads(line) for line in (result.folder / "verdicts.jsonl").read_text().splitlines()]
    assert all(result.malicious[0] in line["flagged"] for line in lines)


def test_run_of_a_defence_without_server_images_records_none(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, strategy="median"))
    assert json.loads((result.folder / "manifest.json").read_text())["defence_server_data"] is None
    assert (result.summary["server_images"], result.summary["server_share"]) == (0, 0.0)


def test_resumed_run_has_the_same_server_images(tmp_path: Path) -> None:
    complete = run(tiny(tmp_path / "complete", rounds=4, strategy="fltrust"))
    settings = tiny(tmp_path / "cut", rounds=4, strategy="fltrust")
    with pytest.raises(Unplugged):
        run(settings, [Cut(2)])
    resumed = run(settings, resume=True)
    for name in ("rounds.jsonl", "verdicts.jsonl", "model.safetensors"):
        assert (complete.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name

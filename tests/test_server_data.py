"""The server's own images as a defence sees them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from federations import Cut, Unplugged, learner_of, tiny
from helpers import make_records

from fedrobust import run
from fedrobust.data.corruption import other_scanner
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.evaluation.server_data import SCANNERS, ServerShare, _part
from fedrobust.learners.base import State
from fedrobust.scenario import Scenario

#: Of four classes 40, 10, 3 and 1.
UNEVEN = make_records(labels=np.repeat([2, 0, 3, 1], [40, 10, 3, 1]).tolist())


class Looked:
    """A learner that remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def predict(self, state, images, labels):  # type: ignore[no-untyped-def]
        self.seen.append(images)
        return type("Prediction", (), {"losses": labels * 1.0})


def share(validation: Records, part: float, seed: int = 0) -> tuple[ServerShare, np.ndarray]:
    """Return the share and the images that it lends."""
    looked = Looked()
    lent = ServerShare(looked, validation, part, seed, 0.001)  # type: ignore[arg-type]
    lent.losses(np.zeros(1, np.float32), np.zeros(0, np.float32))
    return lent, looked.seen[0]  # type: ignore[return-value]


def places(images: np.ndarray, validation: Records) -> list[int]:
    """Return where each image stands in the validation part."""
    return [
        int(np.flatnonzero([np.array_equal(image, one) for one in validation.images])[0]) for image in images
    ]


@pytest.mark.parametrize(
    ("part", "counts"), [(1.0, [10, 1, 40, 3]), (0.5, [5, 1, 20, 2]), (0.01, [1, 1, 1, 1])]
)
def test_each_class_gives_its_share_and_at_least_one_image(part: float, counts: list[int]) -> None:
    lent, images = share(UNEVEN, part)
    assert np.bincount(lent.labels).tolist() == counts
    drawn = places(images, UNEVEN)
    assert len(set(drawn)) == len(drawn) == sum(counts)
    np.testing.assert_array_equal(UNEVEN.labels[drawn], lent.labels)


def test_the_number_of_images_is_that_of_the_share_as_written() -> None:
    assert [_part(100, share) for share in (0.07, 0.29, 0.55, 0.56)] == [7, 29, 55, 56]
    for hundredths in range(1, 101):
        for count in (0, 1, 7, 50, 99, 100, 300, 10**6):
            assert _part(count, hundredths / 100) == -(-count * hundredths // 100)
    assert _part(3, 1e-9) == 1 and _part(10, 1) == 10
    # The default of the rules that look at images: what floats gave before.
    assert all(_part(count, 0.5) == -int(-count * 0.5 // 1) for count in range(5001))


def test_a_class_without_images_gives_none() -> None:
    lent, _ = share(make_records(labels=[0, 0, 2, 2]), 0.5)
    assert lent.labels.tolist() == [0, 2]


def test_the_draw_follows_from_the_seed() -> None:
    first, again, other = (share(UNEVEN, 0.5, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_other_scanners_see_the_same_images() -> None:
    validation = make_records(labels=np.repeat([2, 0, 3, 1], [300, 60, 3, 1]).tolist())
    lent, images = share(validation, 1.0)
    nothing = np.zeros(1, np.float32), np.zeros(0, np.float32)
    views = lent.views()
    assert lent.views() is views and len(views) == len(SCANNERS) + 1
    seen = []
    for view in views:
        view.losses(*nothing)
        seen.append(lent._learner.seen[-1])  # type: ignore[attr-defined]
        np.testing.assert_array_equal(view.labels, views[0].labels)
    plain, *others = seen
    # Some of each class, and all of a class with few.
    assert np.bincount(views[0].labels).tolist() == [32, 1, 32, 3]
    drawn = places(plain, validation)
    assert len(set(drawn)) == len(drawn)
    np.testing.assert_array_equal(validation.labels[drawn], views[0].labels)
    for (gamma, blur), other in zip(SCANNERS, others, strict=True):
        np.testing.assert_array_equal(other, other_scanner(plain, gamma, blur=blur * min(images.shape[2:])))
        assert (other != plain).any((1, 2, 3)).all()
    lent.losses(*nothing)
    np.testing.assert_array_equal(lent._learner.seen[-1], images)  # type: ignore[attr-defined]


def test_losses_and_training_are_the_learner_s_own(tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    learner, validation = learner_of(settings), prepare(Scenario.of(settings).data).part("val")
    start = learner.initial()
    lent = ServerShare(learner, validation, 1.0, settings.seed, 0.01)
    losses = lent.losses(start.parameters, start.buffers)
    np.testing.assert_array_equal(losses, learner.predict(start, validation.images, validation.labels).losses)
    some = np.array([0, 3, 4])
    np.testing.assert_allclose(lent.losses(start.parameters, start.buffers, some), losses[some], rtol=1e-5)

    update = lent.trained(start.parameters, start.buffers, 3)
    wanted = learner.fit(start, validation, round=3, client=-1, lr=0.01)
    np.testing.assert_array_equal(update.parameters, wanted.state.parameters)
    np.testing.assert_array_equal(update.buffers, wanted.state.buffers)
    np.testing.assert_array_equal(update.global_parameters, start.parameters)
    assert update.report.num_examples == len(validation) and np.any(update.delta)
    lent.lr = 0.001
    assert not np.array_equal(lent.trained(start.parameters, start.buffers, 3).parameters, update.parameters)
    hospital = learner.fit(State(start.parameters, start.buffers), validation, round=3, client=0, lr=0.01)
    assert not np.array_equal(hospital.state.parameters, update.parameters)


@pytest.mark.parametrize("spec", ["fltrust(share=0.3)", "nnm | zeno(b=1, images=6, share=0.3)"])
def test_a_run_says_what_its_defence_looked_at(tmp_path: Path, spec: str) -> None:
    settings = tiny(tmp_path, strategy=spec, malicious=1, attack="sign-flip")
    result = run(settings)
    labels = prepare(Scenario.of(settings).data).part("val").labels
    images = int(np.ceil(0.3 * np.bincount(labels)).sum())
    told = json.loads((result.folder / "manifest.json").read_text())["defence_server_data"]
    assert told == {"share_of_validation": 0.3, "images": images}
    assert (result.summary["server_images"], result.summary["server_share"]) == (images, 0.3)
    said = [json.loads(line) for line in (result.folder / "verdicts.jsonl").read_text().splitlines()]
    assert all(result.malicious[0] in line["flagged"] for line in said)


def test_a_defence_that_looks_at_nothing_says_so(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, strategy="median"))
    assert json.loads((result.folder / "manifest.json").read_text())["defence_server_data"] is None
    assert (result.summary["server_images"], result.summary["server_share"]) == (0, 0.0)


def test_a_resumed_run_sees_the_same_images(tmp_path: Path) -> None:
    whole = run(tiny(tmp_path / "whole", rounds=4, strategy="fltrust"))
    settings = tiny(tmp_path / "cut", rounds=4, strategy="fltrust")
    with pytest.raises(Unplugged):
        run(settings, [Cut(2)])
    resumed = run(settings, resume=True)
    for name in ("rounds.jsonl", "verdicts.jsonl", "model.safetensors"):
        assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name

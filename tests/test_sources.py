"""Sources by name, and the federation's data made from one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust.data.sources import adopt, load_records, prepare
from fedrobust.errors import UserError
from fedrobust.scenario import Scenario


def write(root: Path, name: str, size: int = 12, n: int = 60, classes: int = 3) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (n, size, size), dtype=np.uint8)
    np.savez(root / f"{name}.npz", train_images=images, train_labels=(np.arange(n) % classes)[:, None])


def test_every_record_has_one_place(tmp_path: Path) -> None:
    data = prepare(Scenario.of(tiny(tmp_path)).data)
    held = np.concatenate([*data.hospitals, data.split.val, data.split.test])
    assert sorted(held.tolist()) == list(range(len(data.records)))
    assert sum(len(data.of_hospital(i)) for i in range(4)) == len(data.split.train)
    assert len(data.part("test")) == len(data.split.test)


def test_the_data_are_the_same_for_every_seed_and_the_split_is_not(tmp_path: Path) -> None:
    first, second = (
        prepare(Scenario.of(tiny(tmp_path)).data),
        prepare(Scenario.of(tiny(tmp_path, seed=1)).data),
    )
    assert first.digest == second.digest
    assert not np.array_equal(first.split.test, second.split.test)


def test_a_process_makes_the_data_once_and_can_be_given_them(tmp_path: Path) -> None:
    settings = tiny(tmp_path, seed=77)
    first = prepare(Scenario.of(settings).data)
    assert prepare(Scenario.of(settings.model_copy(update={"strategy": "fedavg", "rounds": 9})).data) is first
    adopt(Scenario.of(settings).data, other := prepare(Scenario.of(tiny(tmp_path, seed=78)).data))
    assert prepare(Scenario.of(settings).data) is other


def test_image_size(tmp_path: Path) -> None:
    write(tmp_path, "mine", size=12)
    root = {"data_root": str(tmp_path), "data": "medmnist:mine"}
    assert load_records(Scenario.of(tiny(tmp_path, **root)).data).images.shape[2:] == (12, 12)
    assert load_records(Scenario.of(tiny(tmp_path, **root, image_size=20)).data).images.shape[2:] == (20, 20)
    assert load_records(
        Scenario.of(tiny(tmp_path, data="phantom(images=12)", image_size=24)).data
    ).images.shape[2:] == (24, 24)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("medmnist:other", "other.npz"),
        ("medmnist:mine(x=1)", "takes no options"),
        ("fantom", "did you mean 'phantom'"),
        ("medmnist:one", "one class"),
        ("phantom:x", "unknown data source"),
        ("phantom(240)", r"name the option, such as phantom\(images=3000\)"),
        ("mednist:mine", "did you mean 'medmnist'"),
        ("mine", "did you mean 'medmnist:mine'"),
        ("brain_mri4_28", "brain_mri4_28.npz in --data-root is named medmnist:brain_mri4_28"),
        ("mine:x", "known: phantom, medmnist:NAME, folder:PATH"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, data: str, words: str) -> None:
    write(tmp_path, "mine")
    write(tmp_path, "one", classes=1)
    with pytest.raises(UserError, match=words):
        load_records(Scenario.of(tiny(tmp_path, data=data, data_root=str(tmp_path))).data)


def test_too_few_images_for_three_parts(tmp_path: Path) -> None:
    write(tmp_path, "few", n=3, classes=2)
    with pytest.raises(UserError, match="part"):
        prepare(Scenario.of(tiny(tmp_path, data="medmnist:few", data_root=str(tmp_path), clients=1)).data)


def test_a_hospitals_records_are_copied_only_where_they_are_scattered(tmp_path: Path) -> None:
    data = prepare(Scenario.of(tiny(tmp_path)).data)
    scattered = data.of_hospital(1)
    np.testing.assert_array_equal(scattered.images, data.records.images[data.hospitals[1]])
    assert not np.shares_memory(scattered.images, data.records.images)
    together = replace(data, hospitals=(np.arange(3, 40), np.arange(40, 41)))
    for number in (0, 1):
        part = together.of_hospital(number)
        np.testing.assert_array_equal(part.images, data.records.images[together.hospitals[number]])
        assert np.shares_memory(part.images, data.records.images)

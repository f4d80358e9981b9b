"""Images of large sources stay on disk: the same bits from files as from memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import tiny

from fedrobust.data import scratch
from fedrobust.data.corruption import gaussian_noise
from fedrobust.data.sources import adopt, prepare
from fedrobust.errors import UserError
from fedrobust.runtime.runner import run
from fedrobust.scenario import Scenario


def test_runs_from_mapped_images_and_from_memory_are_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(tmp_path / "memory", rounds=1, clients=2, seed=41)
    expected = run(settings, report=False)
    data = prepare(Scenario.of(settings).data)
    images = data.records.images
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    monkeypatch.setattr(scratch, "_LARGE", 1)
    adopt(Scenario.of(settings).data, replace(data, records=replace(data.records, images=mapped)))
    held = prepare(Scenario.of(settings).data).of_hospital(1).images
    assert isinstance(held, np.memmap) and np.array_equal(held, data.of_hospital(1).images)
    found = run(settings.model_copy(update={"out": str(tmp_path / "disk")}), report=False)
    for name in ("model.safetensors", "rounds.jsonl", "verdicts.jsonl"):
        assert (found.folder / name).read_bytes() == (expected.folder / name).read_bytes(), name
    adopt(Scenario.of(settings).data, data)


def test_noise_is_the_same_in_parts_on_disk_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (37, 1, 16, 16)).astype(np.uint8)
    expected = gaussian_noise(images, 0.1, 3)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setattr(scratch, "_LARGE", 1)
    monkeypatch.setattr("fedrobust.data.corruption._PIXELS", 1000)
    found = gaussian_noise(np.load(tmp_path / "images.npy", mmap_mode="r"), 0.1, 3)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gaussian_noise(images[:5], 0.1, 3), expected[:5])


def test_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match="0.001 GB of images .*No space left.*FEDROBUST_CACHE"):
        scratch.scratch_array((1000, 1000), np.uint8)

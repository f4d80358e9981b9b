"""Finished cells are used again only while the plug-ins' sources and the data are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrobust import Settings, UserError
from fedrobust.data.sources import load_records
from fedrobust.results.manifest import plugins_of
from fedrobust.results.records import FORMAT
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.suites.progress import run_again
from fedrobust.suites.store import CellStore

MEAN = """
from fedrobust.federation import Defence, Verdict

from helpers_of_mine import WEIGHT


class Mine(Defence):
    def weigh(self, updates):
        return Verdict([WEIGHT] * len(updates))
"""


def images(folder: Path, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(seed)
    parts = {
        f"{part}_{kind}": draw.integers(0, 256, (12, 8, 8), dtype=np.uint8)
        if kind == "images"
        else np.arange(12, dtype=np.uint8)[:, None] % 2
        for part in ("train", "val", "test")
        for kind in ("images", "labels")
    }
    np.savez(folder / "mine.npz", **parts)


def finished(settings: Settings) -> Settings:
    """Write what tells a finished run of these settings."""
    scenario = Scenario.of(settings)
    folder = RunIdentity.of(settings).folder
    folder.mkdir(parents=True)
    manifest = {
        "format": FORMAT,
        "settings": {},
        "settings_hash": settings.digest(),
        "data": {
            "source": settings.data,
            "sha256": load_records(scenario.data).digest(),
            "images": 36,
            "classes": ["0", "1"],
        },
        "plugins": [one.as_json() for one in plugins_of(scenario)],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "summary.json").write_text("{}")
    return settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    images(tmp_path / "data", 0)
    return Settings(
        data="medmnist:mine", data_root=str(tmp_path / "data"), out=str(tmp_path / "runs"), clients=2
    )


def test_cell_with_the_same_plugins_and_data_is_finished(settings: Settings) -> None:
    assert not CellStore().finished(settings)
    assert CellStore().finished(finished(settings))


def test_cells_that_differ_in_audit_or_evaluations_alone_are_each_finished(tmp_path: Path) -> None:
    images(tmp_path, seed=0)
    base: dict[str, Any] = {
        "data": "medmnist:mine",
        "data_root": str(tmp_path),
        "clients": 2,
        "out": str(tmp_path / "runs"),
    }
    cells = [
        finished(Settings(**base, **more))
        for more in ({}, {"sanitize": "noise-level"}, {"evaluate": "noise"}, {"evaluate": "clean"})
    ]
    store = CellStore()
    assert [store.finished(cell) for cell in cells] == [True] * 4


def test_cell_with_other_images_under_the_same_name_is_run_again(settings: Settings, tmp_path: Path) -> None:
    finished(settings)
    images(tmp_path / "data", 1)
    store = CellStore()
    assert not store.finished(settings)
    assert store.change(settings) == "the data of medmnist:mine have changed"
    assert run_again([store.change(settings)] * 2) == [
        "2 finished cells are run again: the data of medmnist:mine have changed"
    ]


def test_cell_with_another_data_root_of_other_images_is_run_again(settings: Settings, tmp_path: Path) -> None:
    finished(settings)
    images(tmp_path / "elsewhere", 1)
    other = settings.model_copy(update={"data_root": str(tmp_path / "elsewhere")})
    assert other.digest() == settings.digest()
    store = CellStore()
    assert store.finished(settings) and not store.finished(other)


def test_cell_without_its_data_file_is_refused_though_finished(settings: Settings, tmp_path: Path) -> None:
    finished(settings)
    missing = settings.model_copy(update={"data_root": str(tmp_path / "absent")})
    with pytest.raises(UserError, match="is not a folder"):
        CellStore().finished(missing)


def test_cell_whose_plugin_imports_a_changed_module_is_run_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text(MEAN)
    (tmp_path / "helpers_of_mine.py").write_text("WEIGHT = 1.0\n")
    own = finished(settings.model_copy(update={"strategy": "mine"}))
    assert CellStore().finished(own)
    (tmp_path / "helpers_of_mine.py").write_text("WEIGHT = 2.0\n")
    assert CellStore().change(own) == "the source of strategies.mine:Mine has changed"


def test_unfinished_run_that_no_longer_fits_is_not_resumed(settings: Settings, tmp_path: Path) -> None:
    folder = RunIdentity.of(finished(settings)).folder
    partial = folder.rename(folder.with_name(folder.name + ".partial"))
    CellStore().drop_unfit(settings)
    assert partial.is_dir()
    images(tmp_path / "data", 1)
    CellStore().drop_unfit(settings)
    assert not partial.exists()

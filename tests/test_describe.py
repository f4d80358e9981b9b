"""The description of a source: its numbers, and what the command writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedrobust.commands.describe import describe
from fedrobust.data.description import Description, divergence, effective_classes
from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.data.split import Split


def test_divergence_is_zero_for_equal_shares_and_one_for_disjoint_ones() -> None:
    assert divergence(np.array([[2.0, 4.0], [1.0, 2.0]])) == pytest.approx(0)
    assert divergence(np.array([[5.0, 0.0], [0.0, 3.0]])) == pytest.approx(1)
    # H(3/4, 1/4) - (0 + 1) / 2.
    assert divergence(np.array([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.8112781 - 0.5)
    assert divergence(np.array([[1.0, 2.0]])) is None


def test_effective_classes_counts_equally_common_classes() -> None:
    assert effective_classes(np.array([[3.0, 3.0, 3.0], [4.0, 0.0, 0.0]])) == pytest.approx((3 + 1) / 2)


def test_description_counts_labels_missing_values_and_levels() -> None:
    images = np.zeros((6, 1, 8, 8), np.uint8)
    images[3:] = 100
    images[5, :, 0] = 20
    facts = {
        "sex": np.array(["f", "m", "", "f", "", "f"]),
        "site": np.array(["x", "x", "x", "y", "y", "y"]),
        "patient": np.array(["1", "1", "2", "3", "3", "4"]),
    }
    records = Records(images, np.array([0, 1, 1, 0, 0, 1]), ("a", "b"), facts, source="test")
    split = Split(np.array([0, 3, 5]), np.array([1, 4]), np.array([2]))
    found = Description.of(FederationData(records, split, (np.array([0]), np.array([3, 5])), ""))
    by = {one.by: dict(zip(one.groups, one.images, strict=True)) for one in found.counts}
    assert by["part"] == {"train": (2, 1), "val": (1, 1), "test": (0, 1)}
    assert by["hospital"] == {"0 (x)": (1, 0), "1 (y)": (1, 1)}
    assert by["sex"] == {"(missing)": (1, 1), "f": (2, 1), "m": (0, 1)}
    assert found.patients == 4
    assert {one.fact: (one.images, one.by_class) for one in found.missing} == {
        "sex": (2, (1, 1)),
        "site": (0, (0, 0)),
        "patient": (0, (0, 0)),
    }
    assert [(one.hospital, one.mean) for one in found.intensities] == [("0 (x)", 0), ("1 (y)", 95)]
    assert found.duplicates_across_parts == 3


def test_command_prints_and_writes_the_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe("phantom(images=120, size=16)", clients=3, out=tmp_path, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "describe.json").read_text()) == printed
    assert printed["images"] == 120 and len(printed["intensities"]) >= 3
    page = (folder / "describe.html").read_text()
    assert "120 images in 6 classes" in page and page.count("<img ") >= 12
    describe("phantom(images=120, size=16)", clients=3, out=tmp_path)
    assert "Mean Jensen-Shannon divergence of two hospitals' labels" in capsys.readouterr().out

"""The catalogue names what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedrobust.commands.list_plugins import catalogue

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("kind", "folder", "apart"), [("attack", "clients", {"hospital"}), ("strategy", "strategies", set())]
)
def test_every_file_is_listed_with_a_line(kind: str, folder: str, apart: set[str]) -> None:
    files = {f.stem.replace("_", "-") for f in (TOP / folder).glob("*.py")}
    listed = catalogue()[kind]
    assert set(listed) == files - apart
    assert all(len(line) > 20 and "does not load" not in line for line in listed.values())


def test_data_partitions_and_backbones() -> None:
    listing = catalogue()
    assert set(listing["data"]) == {"phantom", "medmnist:NAME"}
    assert {"iid", "dirichlet", "site"} == set(listing["partition"])
    assert {"cnn", "resnet18", "resnet50"} <= set(listing["backbone"])

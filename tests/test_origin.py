"""Where a plug-in comes from: its source's hash, and whether it hides a built-in one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from federations import tiny
from flwr.serverapp.strategy import FedMedian

from fedrobust.federation import Attack, Defence
from fedrobust.plugins import find, origin_of, source_hash
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.setup import Setup
from fedrobust.scenario import Scenario

RULE = """
import numpy as np
from fedrobust.federation import Defence
from helping.maths import ones
from strategies._shared import POWER

class Median(Defence):
    def weigh(self, updates):
        return ones(updates) ** POWER
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a user's folder with a rule that hides the built-in median and imports from modules beside it."""
    for name, text in {
        "strategies/median.py": RULE,
        "strategies/_shared.py": "POWER = 1\n",
        "helping/__init__.py": "",
        "helping/maths.py": "from .deeper import ones\n",
        "helping/deeper.py": "def ones(updates):\n    return [1] * len(updates)\n",
        "helping/unused.py": "x = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("strategies", "helping")}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] in ("strategies", "helping")]:
        del sys.modules[name]


def test_origin_user_file_that_hides_a_built_in_plug_in_is_told(folder: Path) -> None:
    median = find("median", "strategies", (Defence,), "strategy")
    origin = origin_of(median)
    assert (origin.kind, origin.replaces_built_in) == ("own", True)
    assert origin.plugin == "strategies.median:Median" and origin.file == str(folder / "strategies/median.py")


def test_setup_user_file_that_hides_a_built_in_plug_in_is_noted(folder: Path, tmp_path: Path) -> None:
    scenario = Scenario.of(tiny(tmp_path, strategy="median"))
    with pytest.warns(UserWarning, match=f"{folder}/strategies/median.py replaces the built-in plug-in"):
        Setup(scenario, Profile())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Setup(Scenario.of(tiny(tmp_path, strategy="trimmed-mean(f=1)", clients=4)), Profile())


def test_origin_built_in_and_installed_classes() -> None:
    dba = origin_of(find("dba", "clients", (Attack,), "attack"))
    assert (dba.kind, dba.replaces_built_in) == ("built-in", False)
    assert origin_of(FedMedian).kind == "installed"


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("strategies/median.py", True),
        ("strategies/_shared.py", True),
        ("helping/__init__.py", True),
        ("helping/maths.py", True),
        ("helping/deeper.py", True),
        ("helping/unused.py", False),
    ],
)
def test_source_hash_follows_the_files_that_the_plug_in_imports(
    folder: Path, file: str, changes: bool
) -> None:
    median = find("median", "strategies", (Defence,), "strategy")
    before = source_hash(median)
    assert before == source_hash(median)
    with (folder / file).open("a") as stream:
        stream.write("# another line\n")
    assert (source_hash(median) != before) is changes


def test_source_hash_class_without_a_file_is_defined() -> None:
    made = type("Made", (Defence,), {"__module__": "nowhere_at_all"})
    assert len(source_hash(made)) == 64

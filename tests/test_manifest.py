"""The manifest: where a run's plug-ins and data come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import tiny

from fedrobust.results.manifest import plugins_of
from fedrobust.scenario import Scenario

_MEAN = (
    "import numpy as np\n"
    "from fedrobust.federation import Defence, Verdict\n\n\n"
    "class Mine(Defence):\n"
    '    """Take the plain mean."""\n\n'
    "    def judge(self, updates):\n"
    "        return Verdict(np.ones(len(updates)))\n"
)


def test_manifest_names_the_parts_of_a_strategy_and_its_attacks(tmp_path: Path) -> None:
    scenario = Scenario.of(
        tiny(tmp_path, strategy="nnm(f=1) | krum(f=1)", threat=("label-flip + boost:1", "label-flip:1"))
    )
    found = plugins_of(scenario)
    names = ["strategies.nnm", "strategies.krum", "clients.label_flip", "clients.boost"]
    assert [one.plugin.partition(":")[0] for one in found] == names
    assert {one.kind for one in found} == {"built-in"}
    assert all(len(one.source_hash) == 64 for one in found)


def test_manifest_names_a_plain_flower_strategy(tmp_path: Path) -> None:
    (found,) = plugins_of(Scenario.of(tiny(tmp_path, strategy="flwr.serverapp.strategy:FedMedian")))
    assert (found.kind, found.plugin.rpartition(":")[2]) == ("installed", "FedMedian")


def test_manifest_shows_an_own_plugin_and_that_its_source_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "own_mean.py"
    file.write_text(_MEAN)
    scenario = Scenario.of(tiny(tmp_path, strategy="own_mean:Mine"))
    (before,) = plugins_of(scenario)
    assert (before.kind, before.file, before.replaces_built_in) == ("own", "own_mean.py", False)
    file.write_text(_MEAN + "\n\nMORE = 1\n")
    (after,) = plugins_of(scenario)
    assert after.source_hash != before.source_hash

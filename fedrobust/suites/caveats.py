"""What a reader must know of a suite's rows before comparing them: oracles, other data, other versions, lost rounds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.suites.cells import Cell
from fedrobust.suites.plan import Planned

__all__ = ["caveats_of", "is_bound", "usual"]


def caveats_of(
    group: Sequence[Planned],
    done: Sequence[Planned],
    runs: Mapping[str, Cell | None],
    common: Mapping[str, Any],
) -> list[str]:
    """Return what a reader must know of a row before comparing it with others.

    Parameters
    ----------
    group, done : sequence of Planned
        The row's cells, and those of them that are finished.
    runs : mapping of str to Cell or None
        By the hash of the settings.
    common : mapping
        What `usual` returns.
    """
    caveats: dict[str, None] = {}
    for cell in done:
        run = runs[cell.settings.digest()]
        assert run is not None
        if run.manifest["oracle"]:
            caveats["oracle: is told who is malicious"] = None
        if _data_of(run) != common["data"].get(_data_key(run)):
            caveats["other data than most: the hash differs"] = None
        other = {k: v for k, v in _versions(run).items() if v != common["versions"].get(k)}
        if other:
            caveats["made with " + ", ".join(f"{name} {version}" for name, version in other.items())] = None
        no_effect = list(run.summary["no_effect_attacks"])
        if run.malicious:
            # Where nobody attacks a defence may well have nothing to do.
            no_effect += run.summary.get("no_effect_steps", ())
        caveats |= {f"{name} had no effect (seed {cell.seed})": None for name in no_effect}
        if run.summary["faults"]:
            caveats[f"{run.summary['faults']} lost rounds (seed {cell.seed})"] = None
        if cell.baseline is not None and runs.get(cell.baseline.digest()) is None:
            caveats[f"no clean baseline (seed {cell.seed})"] = None
        if run.summary["synthetic"] and not common["synthetic"]:
            caveats["synthetic images"] = None
    if done and len(done) < len(group):
        caveats[f"{len(done)} of {len(group)} seeds"] = None
    return list(caveats)


def usual(done: Sequence[Cell]) -> dict[str, Any]:
    """Return what most runs were made with: the data by their settings, and the versions."""
    hashes: dict[str, Counter[str]] = defaultdict(Counter)
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in done:
        hashes[_data_key(cell)][_data_of(cell)] += 1
        for name, version in _versions(cell).items():
            versions[name][version] += 1
    return {
        "data": {key: counts.most_common(1)[0][0] for key, counts in hashes.items()},
        "versions": {name: counts.most_common(1)[0][0] for name, counts in versions.items()},
        "synthetic": bool(done) and all(cell.summary["synthetic"] for cell in done),
    }


def _data_key(cell: Cell) -> str:
    return json.dumps([getattr(cell.settings, key) for key in ("data", "image_size", "split")])


def _data_of(cell: Cell) -> str:
    return str(cell.manifest["data"]["sha256"])


def _versions(cell: Cell) -> dict[str, str]:
    return {name: str(version) for name, version in cell.manifest["versions"].items()}


def is_bound(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is what could be reached by one who knew: no defence."""
    return any(caveat.startswith("oracle") for caveat in row["caveats"])

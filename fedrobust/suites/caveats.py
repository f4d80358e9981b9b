"""The caveats of a suite's rows, and which of them exclude a row from ranking."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedrobust.results.suite_records import Caveat
from fedrobust.suites.cells import Cell
from fedrobust.suites.plan import Planned

__all__ = ["ORACLE", "OTHER_DATA", "Usual", "caveats_of", "seeds_text", "usual"]

ORACLE = "oracle upper bound: knows who is malicious"
OTHER_DATA = "other data than most: the hash differs"


@dataclass(frozen=True)
class Usual:
    """What most runs of a suite were made with.

    Attributes
    ----------
    data : mapping of str to str
        The data's hash, by the settings that decide the data.
    versions : mapping of str to str
        Of each package.
    synthetic : bool
        Whether all images are synthetic.
    """

    data: Mapping[str, str]
    versions: Mapping[str, str]
    synthetic: bool


def caveats_of(
    group: Sequence[Planned], done: Sequence[Planned], runs: Mapping[str, Cell | None], common: Usual
) -> tuple[Caveat, ...]:
    """Return the caveats of a row; what several seeds share is one caveat that names them.

    Parameters
    ----------
    group, done : sequence of Planned
        The row's cells, and those of them that are finished.
    runs : mapping of str to Cell or None
        By the hash of the settings.
    common : Usual
    """
    fixed: dict[Caveat, None] = {}
    by_seed: dict[Caveat, list[int]] = defaultdict(list)
    discarded: dict[str, dict[int, int]] = {"honest": {}, "malicious": {}}
    for cell in done:
        run = runs[cell.settings.digest()]
        assert run is not None
        fixed |= dict.fromkeys(_of_run(run, common))
        for name in _without_effect(run):
            by_seed[Caveat(text=f"{name} had no effect")].append(cell.seed)
        if run.run.summary.synthesis is not None and run.run.summary.synthesis.collapsed:
            by_seed[Caveat(text="the generator collapsed")].append(cell.seed)
        for role, count in _discarded(run).items():
            discarded[role][cell.seed] = count
        if cell.baseline is not None and runs.get(cell.baseline.digest()) is None:
            by_seed[Caveat(text="no clean baseline")].append(cell.seed)
    for role, counts in discarded.items():
        if counts:
            # Fewer honest updates than other rows had; an attacker's that the server refused is part of the
            # attack.
            text = f"{sum(counts.values())} updates of {role} hospitals discarded"
            by_seed[Caveat(text=text, excludes=role == "honest")] = list(counts)
    found = [*fixed, *(_over(caveat, seeds) for caveat, seeds in by_seed.items())]
    if done and len(done) < len(group):
        found.append(Caveat(text=f"{len(done)} of {len(group)} seeds"))
    return tuple(found)


def usual(done: Sequence[Cell]) -> Usual:
    """Return what most runs were made with."""
    hashes: dict[str, Counter[str]] = defaultdict(Counter)
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in done:
        hashes[_data_key(cell)][_data_of(cell)] += 1
        for name, version in _versions(cell).items():
            versions[name][version] += 1
    return Usual(
        {key: counts.most_common(1)[0][0] for key, counts in hashes.items()},
        {name: counts.most_common(1)[0][0] for name, counts in versions.items()},
        bool(done) and all(cell.run.summary.synthetic for cell in done),
    )


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds in words: "seed 3", "seeds 0 to 2", "seeds 0, 2 and 5"."""
    ordered = sorted(set(seeds))
    if len(ordered) == 1:
        return f"seed {ordered[0]}"
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"seeds {ordered[0]} to {ordered[-1]}"
    return f"seeds {', '.join(map(str, ordered[:-1]))} and {ordered[-1]}"


def _over(caveat: Caveat, seeds: Sequence[int]) -> Caveat:
    return caveat.model_copy(update={"text": f"{caveat.text} ({seeds_text(seeds)})"})


def _of_run(cell: Cell, common: Usual) -> Iterator[Caveat]:
    if cell.run.manifest.oracle:
        yield Caveat(text=ORACLE, excludes=True)
    if _data_of(cell) != common.data.get(_data_key(cell)):
        yield Caveat(text=OTHER_DATA, excludes=True)
    if cell.run.summary.synthetic and not common.synthetic:
        yield Caveat(text="synthetic images", excludes=True)
    other = {name: found for name, found in _versions(cell).items() if found != common.versions.get(name)}
    if other:
        yield Caveat(text="made with " + ", ".join(f"{name} {found}" for name, found in other.items()))


def _without_effect(cell: Cell) -> tuple[str, ...]:
    """Return the attacks that had no effect, and the defence's steps that had none where somebody attacks."""
    summary = cell.run.summary
    return (*summary.no_effect_attacks, *(summary.no_effect_steps if cell.run.malicious else ()))


def _discarded(cell: Cell) -> dict[str, int]:
    """Return how many updates of honest and of malicious hospitals were discarded, where any were."""
    failed = Counter(fault.hospital for line in cell.run.rounds for fault in line.faults)
    counts = {"honest": 0, "malicious": 0}
    for hospital, times in failed.items():
        counts["malicious" if hospital in cell.run.malicious else "honest"] += times
    return {role: count for role, count in counts.items() if count}


def _data_key(cell: Cell) -> str:
    return json.dumps([getattr(cell.settings, key) for key in ("data", "image_size", "split")])


def _data_of(cell: Cell) -> str:
    return cell.run.manifest.data.sha256


def _versions(cell: Cell) -> dict[str, str]:
    return {name: str(version) for name, version in cell.run.manifest.versions.items()}

"""A suite's results from its finished cells: ``suite.json``, whose bytes follow from the runs, and costs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from fedrobust.evaluation.metrics import METRICS
from fedrobust.evaluation.statistics import bootstrap_interval
from fedrobust.results.suite_records import (
    AxisLabels,
    CellLink,
    CostRow,
    Estimate,
    Gap,
    SuiteCosts,
    SuiteResults,
    SuiteRow,
)
from fedrobust.settings import EXECUTION_SETTINGS, Settings
from fedrobust.suites.caveats import ORACLE, OTHER_DATA, Usual, caveats_of, usual
from fedrobust.suites.cells import Cell
from fedrobust.suites.compare import FEW, LEVEL, attack_budget_of, comparisons, ranking, reference_of
from fedrobust.suites.metrics import MetricValues, costs, mean_known, metric_info, metric_values
from fedrobust.suites.plan import Planned
from fedrobust.suites.suite import THREAT, Suite
from fedrobust.suites.text import several

__all__ = ["cost_table", "results"]

#: A cell's finished run by the hash of its settings; None where there is none.
Runs = Mapping[str, Cell | None]
#: The metrics of each finished cell, by its labels and seed.
Measured = dict[tuple[tuple[str, ...], int], MetricValues]

#: Settings that an axis of threats decides.
_OF_THREATS = frozenset({"attack", "malicious", "threat"})


def results(
    suite: Suite, cells: Sequence[Planned], runs: Runs, errors: Mapping[str, str], command: str, out: Path
) -> SuiteResults:
    """Return what ``suite.json`` holds.

    Parameters
    ----------
    suite : Suite
    cells : sequence of Planned
        All of the suite's.
    runs : mapping of str to Cell or None
        By the hash of the settings.
    errors : mapping of str to str
        Why a run has failed, by the hash.
    command : str
        What makes these results again.
    out : Path
        The suite's folder; runs are named relative to it.
    """
    measured: Measured = {
        (cell.key, cell.seed): metric_values(run.run, baseline.run if baseline else None)
        for cell in cells
        if (run := _run(runs, cell.settings)) is not None
        for baseline in (_run(runs, cell.baseline),)
    }
    common = usual([run for cell in cells if (run := _run(runs, cell.settings)) is not None])
    rows = [_row(group, measured, runs, errors, common, out) for group in _by_row(cells)]
    keys = [key for key in _metric_order(rows) if any(_mean(row, key) is not None for row in rows)]
    rows = [
        row.model_copy(update={"metrics": {key: row.metrics.get(key, _summed([])) for key in keys}})
        for row in rows
    ]
    reference = reference_of(suite, cells)
    found = SuiteResults(
        name=suite.name,
        title=suite.title or suite.name,
        about=suite.about,
        command=command,
        definition=suite.definition,
        versions=dict(common.versions),
        settings=_shared_settings(cells),
        seeds=suite.seeds,
        axes=tuple(AxisLabels(name=name, labels=tuple(axis)) for name, axis in suite.every_axis().items()),
        method_axis=suite.compared_axis,
        reference=reference,
        metric=suite.metric,
        metrics=tuple(metric_info(key) for key in keys),
        rows=tuple(rows),
        comparisons=tuple(comparisons(suite, measured, reference, rows, keys)),
        ranking=tuple(ranking(suite, rows)),
        attack_budget=attack_budget_of(suite, rows),
        missing=tuple(
            _gap(cell, cell.settings, errors) for cell in cells if _run(runs, cell.settings) is None
        ),
        missing_baselines=tuple(
            _gap(cell, cell.baseline, errors)
            for cell in cells
            if cell.baseline is not None and _run(runs, cell.baseline) is None
        ),
        notes=(),
    )
    return found.model_copy(update={"notes": tuple(_notes(found, common))})


def cost_table(cells: Sequence[Planned], runs: Runs) -> SuiteCosts:
    """Return what ``costs.json`` holds: means over the seeds of each row, memory the most of any."""
    rows = []
    for group in _by_row(cells):
        known = [costs(run.run) for cell in group if (run := _run(runs, cell.settings)) is not None]
        rows.append(
            CostRow(
                labels=dict(group[0].labels),
                seconds=mean_known(cost.seconds for cost in known),
                aggregation_s=mean_known(cost.aggregation_s for cost in known),
                defence_mib=max((c.defence_mib for c in known if c.defence_mib is not None), default=None),
            )
        )
    return SuiteCosts(rows=tuple(rows))


def _by_row(cells: Sequence[Planned]) -> list[list[Planned]]:
    """Return the cells of each combination of labels."""
    groups: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for cell in cells:
        groups[cell.key].append(cell)
    return list(groups.values())


def _run(runs: Runs, settings: Settings | None) -> Cell | None:
    return None if settings is None else runs.get(settings.digest())


def _gap(cell: Planned, settings: Settings, errors: Mapping[str, str]) -> Gap:
    """Return which run is missing, and why."""
    return Gap(labels=dict(cell.labels), seed=cell.seed, error=_short(errors.get(settings.digest())))


def _row(
    group: Sequence[Planned],
    measured: Measured,
    runs: Runs,
    errors: Mapping[str, str],
    common: Usual,
    out: Path,
) -> SuiteRow:
    done = [cell for cell in group if (cell.key, cell.seed) in measured]
    tables = [measured[cell.key, cell.seed] for cell in done]
    keys = dict.fromkeys(key for table in tables for key in table)
    return SuiteRow(
        labels=dict(group[0].labels),
        seeds=tuple(cell.seed for cell in done),
        metrics={key: _summed([table.get(key) for table in tables]) for key in keys},
        caveats=caveats_of(group, done, runs, common),
        cells=tuple(
            CellLink(
                seed=cell.seed,
                run=_relative(run, out) if (run := _run(runs, cell.settings)) else None,
                error=_short(errors.get(cell.settings.digest())),
            )
            for cell in group
        ),
    )


def _summed(values: Sequence[float | None]) -> Estimate:
    known = [value for value in values if value is not None]
    low, high = (len(known) >= FEW and bootstrap_interval(known)) or (None, None)
    return Estimate(mean=mean_known(known), low=low, high=high, values=tuple(values))


def _mean(row: SuiteRow, key: str) -> float | None:
    return row.metrics[key].mean if key in row.metrics else None


def _metric_order(rows: Sequence[SuiteRow]) -> list[str]:
    found = dict.fromkeys(key for row in rows for key in row.metrics)
    return [key for key in METRICS if key in found] + [key for key in found if key not in METRICS]


def _notes(found: SuiteResults, common: Usual) -> Iterator[str]:
    seeds = len(found.seeds)
    if seeds < FEW:
        yield f"{several(seeds, 'seed')}: no intervals and no tests; take three or more."
    elif found.comparisons:
        yield _what_tests_show(seeds)
    if common.synthetic:
        yield "Synthetic images: these metrics say nothing about patients."
    if found.missing:
        failed = sum(gap.error is not None for gap in found.missing)
        yield (
            f"{several(len(found.missing), 'cell')} missing, {failed} of them failed; "
            f"the same command runs them."
        )
    if found.missing_baselines:
        yield (
            f"{several(len(found.missing_baselines), 'cell')} without a clean baseline: "
            f"what the attack costs there is not known."
        )
    excluded = dict.fromkeys(caveat.text for row in found.rows for caveat in row.caveats if caveat.excludes)
    if ORACLE in excluded:
        yield "The oracle knows who is malicious: an upper bound, not a defence, without rank or test."
    if OTHER_DATA in excluded:
        yield "Some rows were run on other data and cannot be compared; they have a caveat and no rank."


def _what_tests_show(seeds: int) -> str:
    """Return what a paired test over so many seeds can show at most."""
    least = 2.0 ** (1 - seeds)
    sentence = (
        f"{seeds} seeds: a paired test over them cannot give a p below {least:.3g}, before Holm's correction"
    )
    if least <= LEVEL:
        return f"{sentence}."
    return (
        f"{sentence}, so none can be significant at {LEVEL}: read the intervals, or take six seeds or more."
    )


def _shared_settings(cells: Sequence[Planned]) -> dict[str, JsonValue]:
    """Return the settings that all cells share, without those that an axis or the machine decides."""
    first, *others = (cell.settings.model_dump(mode="json") for cell in cells)
    left_out = EXECUTION_SETTINGS | {"seed"}
    if THREAT in cells[0].labels:
        left_out |= _OF_THREATS
    elif not any(cell.baseline for cell in cells):
        left_out |= {"attack"}
    return {
        key: value
        for key, value in first.items()
        if key not in left_out and all(other[key] == value for other in others)
    }


def _relative(run: Cell, out: Path) -> str:
    return Path(os.path.relpath(run.folder, out)).as_posix()


def _short(error: str | None) -> str | None:
    return error.strip().splitlines()[-1] if error else None

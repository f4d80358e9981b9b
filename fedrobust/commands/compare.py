"""`fedrobust compare`: two finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrobust.commands.flags import user_path
from fedrobust.printing import PlainConsole

if TYPE_CHECKING:
    from rich.table import Table

    from fedrobust.evaluation.metrics import Metric
    from fedrobust.results.compare import RunComparison

__all__ = ["compare"]


def compare(
    first: Annotated[Path, typer.Argument(parser=user_path, help="a run folder", metavar="RUN")],
    second: Annotated[Path, typer.Argument(parser=user_path, help="another one", metavar="OTHER_RUN")],
) -> None:
    """Compare two finished runs: the settings that differ, and their metrics.

    Example: fedrobust compare runs/phantom-fedavg-* runs/phantom-krum-*
    """
    from fedrobust.results.compare import compare_runs
    from fedrobust.settings import EXECUTION_SETTINGS

    comparison = compare_runs(first, second, EXECUTION_SETTINGS)
    console = PlainConsole()
    for label, run in (("A", comparison.first), ("B", comparison.second)):
        console.print(f"{label}: {run.folder}", soft_wrap=True)
    if comparison.settings:
        console.print(_settings(comparison))
    else:
        console.print("The settings are the same.")
    console.print(_metrics(comparison))
    for sentence in comparison.notes:
        console.print(sentence, soft_wrap=True)


def _settings(comparison: RunComparison) -> Table:
    table = _table("Settings that differ")
    for pair in comparison.settings:
        values = ["none" if value is None else value for value in (pair.first, pair.second)]
        table.add_row(pair.key.replace("_", "-"), *values)
    return table


def _metrics(comparison: RunComparison) -> Table:
    table = _table("Metrics", "B - A", justify="right")
    for pair in comparison.metrics:
        difference = "" if pair.difference is None else _written(pair.metric, pair.difference, sign="+")
        table.add_row(
            pair.metric.name,
            _written(pair.metric, pair.first),
            _written(pair.metric, pair.second),
            difference,
        )
    return table


def _table(title: str, *more: str, justify: str = "left") -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("A", "B", *more):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _written(metric: Metric, value: float | None, sign: str = "") -> str:
    if value is None:
        return "undefined"
    unit = {"percent": " %", "points": " points"}.get(metric.unit, "")
    return f"{value:{sign}.{metric.decimals}f}{unit}"

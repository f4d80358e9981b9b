"""`python -m fedrobust.benchmark`: a declared suite of runs, its table and its page."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrobust.errors import UserError
from fedrobust.printing import PlainConsole, lines, one_line

if TYPE_CHECKING:
    from fedrobust.suites.command import Request

__all__ = ["benchmark"]


def benchmark(
    suite: Annotated[
        str | None,
        typer.Argument(help="a suite's name, or its .toml file; none: list the suites", metavar="SUITE"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="AXIS=LABEL: run these cells only; repeatable", metavar="TEXT"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would run and for about how long")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="keep finished runs, or run all again")
    ] = True,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="runs side by side; default: one for each core", min=1)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="such as 0,1,2: in place of the suite's own")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE in place of the suite's own setting; repeatable"),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="short for --set data=...")] = None,
    data_root: Annotated[
        str | None, typer.Option(help="folder that holds data files", envvar="FEDROBUST_DATA_ROOT")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="let medmnist fetch a missing file")] = False,
    budget_minutes: Annotated[
        float | None, typer.Option("--budget-minutes", help="begin no run after so many minutes", min=0)
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="host:port of a running Ray cluster that runs the cells, or 'auto'")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="folder for the runs and the suite's results")] = Path(
        "runs/suites"
    ),
    metric: Annotated[str, typer.Option("--metric", help="which metric the terminal shows first")] = "",
    csv: Annotated[Path | None, typer.Option("--csv", help="write the table there as well")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="write the table as Parquet")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="write the table as LaTeX")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print suite.json alone")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="show no progress")] = False,
) -> None:
    """Compare defence configurations: run a suite and compare its methods over its seeds.

    Finished runs are kept: the same command continues where it was stopped.

    Example: fedrobust benchmark quick
    """
    if suite is None:
        _list_suites()
        return
    from fedrobust.suites.command import Request, check_metric

    overrides = dict(_read(text) for text in settings or []) | ({"data": data} if data else {})
    request = Request(
        name=suite,
        out=out,
        execution_settings=({"data_root": data_root} if data_root else {})
        | ({"download": True} if download else {}),
        overrides=overrides,
        seeds=_seeds(seeds),
        only=tuple(only or ()),
        jobs=jobs,
        ray_address=ray_address or None,
        budget_minutes=budget_minutes or None,
        fresh=not resume,
        quiet=quiet or as_json,
    )
    if dry_run:
        _dry(request)
        return
    _check_targets(csv, parquet, latex)
    if metric:
        check_metric(metric, "--metric")
    sys.exit(_carried_out(request, metric, {"csv": csv, "parquet": parquet, "latex": latex}, as_json))


def _carried_out(request: Request, metric: str, targets: dict[str, Path | None], as_json: bool) -> int:
    """Run the suite and show it; return the exit code."""
    from fedrobust.engines.launch import warm_up
    from fedrobust.settings.execution import Execution
    from fedrobust.suites import command, export

    try:
        # The processes that run the cells import what they need meanwhile.
        if request.ray_address is None:
            warm_up(Execution(2, workers=2))
        outcome = command.benchmark(request)
    except KeyboardInterrupt:
        print("fedrobust: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    for kind, path in targets.items():
        if path is not None:
            getattr(export, f"write_{kind}")(outcome.results, path)
    if as_json:
        print(outcome.results.model_dump_json())
    else:
        from fedrobust.suites.tables import print_suite

        console = PlainConsole()
        print_suite(outcome.results, outcome.costs, console, metric or outcome.metric)
        console.print(f"page: {outcome.folder / 'report.html'}", soft_wrap=True)
        console.print(f"table: {outcome.folder / 'table.csv'}", soft_wrap=True)
    return 1 if outcome.failed else 0


def _dry(request: Request) -> None:
    from fedrobust.suites.cells import default_jobs
    from fedrobust.suites.command import describe, dry_run_text

    print(lines(dry_run_text(describe(request), request.jobs or default_jobs())))


def _list_suites() -> None:
    from fedrobust.suites.suite_files import suite_titles

    for name, title in suite_titles().items():
        print(one_line(f"{name:12} {title}"))


def _read(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set '{text}' must be of the form KEY=VALUE, such as rounds=10")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds '{text}' must be numbers with commas between them, such as 0,1,2") from None


def _check_targets(*paths: Path | None) -> None:
    """Refuse a place that cannot be written before hours of work rather than after."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"'{path}' cannot be written: give a file in a folder that exists")

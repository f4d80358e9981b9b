"""The program: `fedrobust <command>` and `python -m fedrobust.<command>`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import click
import typer

from fedrobust import __version__
from fedrobust.commands.messages import print_report, refuse, show_warning, usage_sentence
from fedrobust.data.ingest.faults import FaultyRecords
from fedrobust.errors import UserError
from fedrobust.plugins import add_working_folder

__all__ = ["main", "run_command"]


def run_command(function: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Run one command as a program: a mistake of the user's is one sentence and exit code 2."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command()(function)
    _run(app, arguments)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedrobust {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run `fedrobust <command>`."""
    from fedrobust.commands.audit import audit
    from fedrobust.commands.benchmark import benchmark
    from fedrobust.commands.cache import cache
    from fedrobust.commands.check import check
    from fedrobust.commands.compare import compare
    from fedrobust.commands.deploy_local import deploy_local
    from fedrobust.commands.describe import describe
    from fedrobust.commands.ensemble import ensemble
    from fedrobust.commands.evaluate import evaluate
    from fedrobust.commands.list_plugins import list_plugins
    from fedrobust.commands.report import report
    from fedrobust.commands.simulate import simulate

    app = typer.Typer(
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help="Simulate, defend and measure poisoned federations of hospitals.",
    )
    app.callback()(_program)
    app.command("simulate")(simulate)
    app.command("deploy-local")(deploy_local)
    app.command("benchmark")(benchmark)
    app.command("report")(report)
    app.command("describe")(describe)
    app.command("audit")(audit)
    app.command("compare")(compare)
    app.command("ensemble")(ensemble)
    app.command("evaluate")(evaluate)
    app.command("list")(list_plugins)
    app.command("cache")(cache)
    app.command("check")(check)
    _run(app, arguments)


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Simulate, defend and measure poisoned federations of hospitals."""


def _run(app: typer.Typer, arguments: list[str] | None) -> None:
    add_working_folder()
    warnings.showwarning = show_warning
    try:
        code = app(args=arguments, standalone_mode=False)
    except FaultyRecords as error:
        print_report(error.report)
        refuse(str(error))
    except UserError as error:
        refuse(str(error))
    except click.UsageError as error:
        refuse(usage_sentence(error))
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("fedrobust: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)

"""The command line: `fedrobust <command>` and `python -m fedrobust.<command>`.

Flags are made from `Settings`, so the command line, TOML files and Flower's run config always offer the same ones.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, get_args, get_origin

import click
import typer
from pydantic.fields import FieldInfo

from fedrobust.config import Settings, load_settings
from fedrobust.errors import UserError, nearest
from fedrobust.plugins import add_working_folder

__all__ = ["main", "run_command"]

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT"}

_Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings; flags override it")]
_Json = Annotated[bool, typer.Option("--json", help="print the summary alone, as JSON")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="show no progress")]


def settings_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting, collected as its keyword argument `flags`."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "flags"]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(name, field))
        for name, field in Settings.model_fields.items()
    ]

    def command(**given: Any) -> None:
        named = {p.name: given.pop(p.name) for p in own}
        # A repeatable flag that is not given is an empty list.
        function(flags={name: value for name, value in given.items() if value != []}, **named)

    parameters = [*flags, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    return command


def _flag(name: str, field: FieldInfo) -> Any:
    """Return the annotation of a setting's flag; values stay text, so that `Settings` says what is wrong with them."""
    shown = "" if field.default in (None, ()) else f" [default: {field.default}]"
    text = (field.description or "") + shown.replace("[", r"\[")
    if field.annotation is bool:
        return Annotated[bool | None, typer.Option(f"--{name}", help=field.description, show_default=False)]
    flag = "--" + name.replace("_", "-")
    option = typer.Option(flag, help=text, metavar=_metavar(field), show_default=False)
    if get_origin(field.annotation) is tuple:
        return Annotated[list[str] | None, option]
    return Annotated[str | None, option]


def _metavar(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "{" + ",".join(str(choice) for choice in get_args(kind)) + "}"
    inner = [k for k in get_args(kind) if k not in (type(None), Ellipsis)] or [kind]
    return "|".join(_metavar_of(k) for k in inner)


def _metavar_of(kind: Any) -> str:
    return (
        ",".join(str(c) for c in get_args(kind))
        if get_origin(kind) is Literal
        else _METAVARS.get(kind, "TEXT")
    )


@settings_flags
def simulate(
    flags: dict[str, Any],
    config: _Config = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="go on with an unfinished run (its .partial folder)")
    ] = None,
    show_profile: Annotated[
        bool, typer.Option("--profile", help="say at the end where the time went (on stderr)")
    ] = False,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    r"""Simulate a federation of hospitals, some of them poisoned, and measure what the defence saved.

    Example: fedrobust simulate --clients 10 --malicious 2 --attack "backdoor(size=0.05)"
    """
    settings = _settings_to_resume(resume, flags, config) if resume else load_settings(flags, config)
    from fedrobust.engines.launch import keep_freed_memory, warm_up

    # Before anything else is imported: the workers import meanwhile.
    warm_up(settings)
    keep_freed_memory()
    from fedrobust.profiling import Profile, process_began
    from fedrobust.runner import run
    from fedrobust.terminal import Terminal, print_profile

    profile = Profile(process_began())
    terminal = Terminal(settings, quiet=quiet or as_json)
    with terminal:
        result = run(settings, terminal, resume=resume is not None, profile=profile)
    if show_profile:
        print_profile(profile)
    if as_json:
        print(result.to_json())
    else:
        terminal.finish(result)


@settings_flags
def deploy_local(
    flags: dict[str, Any],
    config: _Config = None,
    node_data: Annotated[
        list[str] | None,
        typer.Option(
            "--node-data", help="NUMBER=SOURCE: this hospital trains on data of its own; repeatable"
        ),
    ] = None,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    r"""Run the federation on a real SuperLink and SuperNodes, started on this machine with TLS and keys, then stopped.

    Example: fedrobust deploy-local --clients 3 --node-data "0=phantom(images=300, seed=7)"
    """
    settings = load_settings(flags, config)
    from fedrobust.deploy.command import deploy, own_data
    from fedrobust.terminal import Terminal

    silent = quiet or as_json
    terminal = Terminal(settings, quiet=silent)
    with terminal:
        own = own_data(node_data or [], settings.clients)
        result = deploy(settings, terminal, own, (lambda _: None) if silent else _note)
    if as_json:
        print(result.to_json())
    else:
        terminal.finish(result)


def _settings_to_resume(run: Path, flags: dict[str, Any], config: Path | None) -> Settings:
    """Return the settings of an unfinished run; only what does not bear on the result may be given anew."""
    from fedrobust.results.checkpoint import settings_of

    file = settings_of(run)
    given = {key: value for key, value in flags.items() if value is not None}
    settings = load_settings({**given, "out": str(file.parent.parent)}, file)
    if config is not None or settings.digest() != load_settings({}, file).digest():
        raise UserError(
            f"--resume takes its settings from {file}; give no others but --engine, --workers and the like"
        )
    return settings


def list_plugins() -> None:
    """Name every attack, strategy, data source and backbone, your own included."""
    from fedrobust.catalogue import print_catalogue

    print_catalogue()


def run_command(function: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Run one command as a program: a mistake of the user's is one sentence and exit code 2."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command()(function)
    _run(app, arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run `fedrobust <command>`."""
    from fedrobust.benchmark import benchmark
    from fedrobust.report import report

    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help="Simulate, defend and measure poisoned federations of hospitals.",
    )
    app.callback()(_no_command_of_its_own)
    app.command("simulate")(simulate)
    app.command("deploy-local")(deploy_local)
    app.command("benchmark")(benchmark)
    app.command("report")(report)
    app.command("list")(list_plugins)
    _run(app, arguments)


def _no_command_of_its_own() -> None:
    """Simulate, defend and measure poisoned federations of hospitals."""


def _run(app: typer.Typer, arguments: list[str] | None) -> None:
    add_working_folder()
    warnings.showwarning = _warn
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _refuse(str(error))
    except click.UsageError as error:
        _refuse(_usage(error))
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("fedrobust: interrupted; go on with --resume and the run's .partial folder", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line; those of libraries about themselves are not for the user."""
    if category is UserWarning:
        _note(str(message))


def _note(sentence: str) -> None:
    print(f"fedrobust: note: {sentence}", file=sys.stderr)


def _usage(error: click.UsageError) -> str:
    known = [flag for p in (error.ctx.command.params if error.ctx else []) for flag in p.opts]
    if isinstance(error, click.NoSuchOption):
        return f"there is no flag '{error.option_name}'; {nearest(error.option_name, known)}"
    return error.format_message()


def _refuse(sentence: str) -> None:
    print(f"fedrobust: {sentence}", file=sys.stderr)
    sys.exit(2)

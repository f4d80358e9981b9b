"""Flags of a command, one for each setting, made from `Settings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from fedrobust.settings import Settings

__all__ = ["ConfigFile", "Flags", "JsonOnly", "Quiet", "settings_flags", "user_path"]

#: Environment variables that stand in for a flag that is not given; like flags, they override a file.
_ENVIRONMENT = {"data_root": "FEDROBUST_DATA_ROOT"}

#: The panels of ``--help``, each under the first setting in a row that it shows, in the order of `Settings`.
_PANELS = {
    "clients": "Hospitals, attacks and defence",
    "participation": "Who takes part in a round",
    "rounds": "Training",
    "server_optimizer": "Server's step",
    "seed": "Data and seed",
    "networks": "Model",
    "noise_std": "Evaluation",
    "engine": "Machine and folders",
}

#: The settings that were given as flags, by name; None for one that was not given.
Flags = Mapping[str, str | bool | list[str] | None]


def user_path(text: str | Path) -> Path:
    """Return a path that a user typed, a leading ``~`` expanded where the shell left it alone."""
    return Path(text).expanduser()


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        parser=user_path,
        metavar="PATH",
        help="TOML file of settings, or a run folder; flags override it",
    ),
]


JsonOnly = Annotated[bool, typer.Option("--json", help="print the summary alone, as JSON")]


Quiet = Annotated[bool, typer.Option("--quiet", help="show no progress")]


def settings_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting, collected as its keyword argument `flags`."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "flags"]
    flags, panel = [], ""
    for name, field in Settings.model_fields.items():
        panel = _PANELS.get(name, panel)
        kind = _flag(name, field, panel)
        flags.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))

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


def _flag(name: str, field: FieldInfo, panel: str) -> Any:
    """Return the annotation of a setting's flag; values stay text, which `Settings` checks."""
    shown = "" if field.default in (None, (), "") else f" [default: {field.default}]"
    text = (field.description or "") + shown.replace("[", r"\[")
    flag = "--" + name.replace("_", "-")
    if field.annotation is bool:
        switch = typer.Option(flag, help=field.description, show_default=False, rich_help_panel=panel)
        return Annotated[bool | None, switch]
    option = typer.Option(
        flag,
        help=text,
        metavar=_metavar(field),
        show_default=False,
        envvar=_ENVIRONMENT.get(name),
        rich_help_panel=panel,
    )
    if get_origin(field.annotation) is tuple:
        return Annotated[list[str] | None, option]
    return Annotated[str | None, option]


def _metavar(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "{" + ",".join(str(choice) for choice in get_args(kind)) + "}"
    inner = [k for k in get_args(kind) if k not in (type(None), Ellipsis)] or [kind]
    return "|".join(_metavar_of(k) for k in inner)


def _metavar_of(kind: object) -> str:
    if get_origin(kind) is Literal:
        return ",".join(str(choice) for choice in get_args(kind))
    return {int: "INT", float: "FLOAT"}.get(cast(type, kind), "TEXT")

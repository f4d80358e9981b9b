"""Suite files: found by name, read, and checked key by key, so that each mistake is one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedrobust.errors import UserError, nearest
from fedrobust.plugins import PluginFolders
from fedrobust.settings import Settings, read_toml, read_toml_text
from fedrobust.suites.suite import DEFENCE, THREAT, Suite, Table

__all__ = ["is_built_in", "load_suite", "suite_names", "suite_titles"]

#: Settings that a suite decides otherwise.
_NOT_HERE = {
    "seed": "seeds = [...]",
    "out": "--out",
    "workers": "--jobs",
    "engine": "one process for each run",
}
_FLAGS = {"seed": "--seeds", "out": "--out", "workers": "--jobs", "engine": "'simulate --engine' for one run"}
_DATA_ROOT = re.compile(r"^\s*\"?data[-_]root\"?\s*=.*\n?", re.MULTILINE)


def load_suite(name: str, overrides: Table | None = None, seeds: tuple[int, ...] | None = None) -> Suite:
    """Read a suite by its name, or from its file.

    Parameters
    ----------
    name : str
        ``defences`` is ``experiments/defences.toml``, of the project or of the folder where the command runs.
    overrides : mapping, optional
        Settings in place of the file's own, axes among them.
    seeds : tuple of int, optional
        In place of the file's own.

    Raises
    ------
    UserError
        If there is no such suite, or it is wrong.
    """
    file = Path(name) if name.endswith(".toml") else _named(name)
    values = {key.replace("_", "-"): value for key, value in read_toml(file).items()}
    _check_keys(file, values)
    if overrides:
        given = {key.replace("_", "-"): value for key, value in overrides.items()}
        _check_overrides(given, values.get("axes", {}))
        base = {key.replace("_", "-"): value for key, value in values.get("base", {}).items()}
        values["base"] = base | given
        values["axes"] = {key: axis for key, axis in values.get("axes", {}).items() if key not in given}
    if seeds:
        values["seeds"] = seeds
    try:
        suite = Suite(**{**values, "name": file.stem, "definition": _definition(file)})
    except ValidationError as error:
        raise UserError(f"{file}: {_sentence(error)}") from None
    _refuse_lost(suite, overrides or {})
    return suite


def _definition(file: Path) -> str:
    """Return the file's text without the folder of the data, which is private to the machine."""
    return _DATA_ROOT.sub("", read_toml_text(file))


def suite_names() -> dict[str, Path]:
    """Return the suites that can be named, the working folder's first; settings of single runs are none."""
    found: dict[str, Path] = {}
    for folder in PluginFolders("experiments"):
        for file in sorted(Path(folder).glob("*.toml")):
            if _is_suite(file):
                found.setdefault(file.stem, file)
    return found


def suite_titles() -> dict[str, str]:
    """Return the title of each suite that can be named; what is wrong with a file stands in its place."""
    found = {}
    for name, file in suite_names().items():
        try:
            found[name] = load_suite(str(file)).title
        except UserError as error:
            found[name] = f"cannot be read: {error}"
    return found


def is_built_in(name: str) -> bool:
    """Tell whether a name leads to a suite of the project itself."""
    home = Path(__file__).resolve().parents[2] / "experiments"
    return not name.endswith(".toml") and _named(name).resolve().parent == home


def _is_suite(file: Path) -> bool:
    """Tell whether a file may hold a suite: one that cannot be read may."""
    try:
        return not _of_one_run(read_toml(file))
    except UserError:
        return True


def _of_one_run(values: Table) -> bool:
    """Tell whether a file's values are settings of one run."""
    settings = {name.replace("_", "-") for name in Settings.model_fields} - {"seed"}
    keys = {key.replace("_", "-") for key in values}
    return not keys & {"base", "axes", "threats", "defences"} and bool(keys & settings)


def _named(name: str) -> Path:
    known = suite_names()
    if name not in known:
        raise UserError(f"there is no suite '{name}'; {nearest(name, known)}")
    return known[name]


def _check_keys(file: Path, values: Table) -> None:
    """Refuse what the file may not hold, by name."""
    known = [name.replace("_", "-") for name in Suite.model_fields if name not in ("name", "definition")]
    if _of_one_run(values):
        raise UserError(
            f"{file}: these are settings of one run, for 'simulate --config'; a suite holds them under [base]"
        )
    for key in values:
        if key not in known:
            raise UserError(f"{file}: a suite has no key '{key}'; {nearest(key, known)}")
    _check_types(file, values)
    settings = {name.replace("_", "-") for name in Settings.model_fields}
    text = repr(values)
    for place, table in _tables(values).items():
        if not isinstance(table, dict):
            raise UserError(f"{file}: {place} must be a table of settings")
        for key, value in table.items():
            _check_setting(file, place, key.replace("_", "-"), value, settings, text)


def _check_types(file: Path, values: Table) -> None:
    """Refuse a key of the wrong type, and an axis that is given twice."""
    for key in ("threats", "defences"):
        if not isinstance(values.get(key, []), dict | list):
            raise UserError(f"{file}: {key} must be a table of named configurations, or a list of texts")
    if not isinstance(values.get("seeds", []), list | tuple):
        raise UserError(f"{file}: seeds must be a list of numbers, such as [0, 1, 2]")
    if not isinstance(values.get("axes", {}), dict):
        raise UserError(f"{file}: [axes] must be a table of settings, each with a list")
    for key, axis in (("threats", THREAT), ("defences", DEFENCE)):
        also = [
            place
            for place in ("base", "axes")
            if isinstance(values.get(place), dict) and axis in values[place]
        ]
        if key in values and also and (also[0] == "axes" or isinstance(values["base"][axis], list)):
            raise UserError(
                f"{file}: [{also[0]}] gives '{axis}' several values and [{key}] does, too; keep one"
            )


def _tables(values: Table) -> Table:
    """Return the tables of a file that hold settings, by where they stand."""
    tables = {f"[{key}]": values.get(key, {}) for key in ("base", "axes")}
    for axis, labelled in (values.get("axes") or {}).items():
        if isinstance(labelled, dict):
            tables |= {f"[axes.{axis}] {label}": table for label, table in labelled.items()}
    for key in ("threats", "defences"):
        if isinstance(values.get(key), dict):
            # With a name it is a plug-in and its options, checked where it is built.
            named = values[key].items()
            tables |= {f"[{key}] {label}": t for label, t in named if isinstance(t, dict) and "name" not in t}
    return tables


def _check_overrides(given: Table, axes: Table) -> None:
    settings = [name.replace("_", "-") for name in Settings.model_fields if name not in _NOT_HERE]
    for key in given:
        if key.replace("-", "_") in _NOT_HERE:
            raise UserError(f"--set cannot set '{key}'; use {_FLAGS[key.replace('-', '_')]}")
        if key not in settings and key not in axes:
            raise UserError(f"--set {key}: there is no such setting; {nearest(key, [*settings, *axes])}")


def _refuse_lost(suite: Suite, overrides: Table) -> None:
    """Refuse an override that an axis of named configurations would override again."""
    for key in (name.replace("-", "_") for name in overrides):
        for axis, labels in suite.every_axis().items():
            if axis.replace("-", "_") != key and any(key in settings for settings in labels.values()):
                raise UserError(
                    f"--set {key.replace('_', '-')}: the axis '{axis}' of suite {suite.name} decides it; "
                    f"use --only to choose, or a suite file of your own"
                )


def _check_setting(file: Path, place: str, key: str, value: Any, settings: set[str], text: str) -> None:
    if key.replace("-", "_") in _NOT_HERE:
        raise UserError(
            f"{file}: {place} must not set '{key}'; a suite has {_NOT_HERE[key.replace('-', '_')]} for that"
        )
    named = place == "[axes]" and (isinstance(value, dict) or f"{{{key}}}" in text)
    if key not in settings and not named:
        hint = nearest(key, settings)
        raise UserError(f"{file}: {place} names '{key}', which is no setting; {hint}")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    place = ".".join(str(part) for part in first["loc"][:2])
    return f"{place}: {message[:1].lower()}{message[1:]}" if place else message

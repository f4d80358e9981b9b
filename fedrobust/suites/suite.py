"""A suite file: base settings, axes along which they vary, seeds, and what is compared with what.

seeds = [0, 1, 2]

[base]
data = "medmnist:pneumoniamnist"
partition = ["iid", "dirichlet(alpha=0.3)"]     # a list makes a setting an axis

[threats]
none = []
"flip and lie" = "label-flip + forge-loss:2"

[defences]
fedavg = "fedavg"
"krum, told f" = "krum(f=2)"

[axes.model]                                     # an axis of named configurations
one = {networks = 1}
two = {networks = 2}
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedrobust.errors import UserError, nearest
from fedrobust.settings import Settings, read_toml

__all__ = ["DEFENCE", "THREAT", "Axis", "Suite", "load_suite", "suite_names"]

#: What the axes of the tables [threats] and [defences] are called.
THREAT, DEFENCE = "threat", "defence"
#: Settings that a suite decides otherwise.
_NOT_HERE = {
    "seed": "seeds = [...]",
    "out": "--out",
    "workers": "--jobs",
    "engine": "one process for each run",
}
_FLAGS = {"seed": "--seeds", "out": "--out", "workers": "--jobs", "engine": "'simulate --engine' for one run"}
_DATA_ROOT = re.compile(r"^\s*\"?data[-_]root\"?\s*=.*\n?", re.MULTILINE)
_VARIABLE = re.compile(r"\{([A-Za-z][\w-]*)\}")

#: An axis: its labels, each with the settings that it stands for.
Axis = dict[str, dict[str, Any]]


class Suite(BaseModel):
    """What a suite file says; an unknown key is an error.

    Attributes
    ----------
    name : str
        The file's, without its ending.
    about : str
        One or two sentences for the report.
    definition : str
        The file's text, without the folder of the data.
    seeds : tuple of int
        One run of each cell for each.
    base : mapping
        Settings of every run; a list makes one an axis.
    axes : mapping
        Settings or variables to lists of values, or names to tables of named configurations. A variable is a
        name that is no setting; ``{name}`` in a text of the suite stands for its value.
    threats, defences : mapping
        Labels to threats (a text, several, or a table of settings) and strategies; a list is its own labels.
    method_axis : str
        The axis whose labels are compared with each other.
    reference : str
        The label of it that the others are compared with.
    metric : str
        By which methods are ranked.
    budget_axis : str
        The axis that is the attack budget, with numbers as values.
    drop : float
        Points of `metric` whose loss makes a budget count as enough.
    budget_minutes : float
        No run begins after so many minutes; the same command goes on.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )

    name: str
    definition: str = ""
    title: str = ""
    about: str = ""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(default_factory=dict)
    threats: dict[str, str | list[str] | dict[str, Any]] | list[str] | None = None
    defences: dict[str, str | dict[str, Any]] | list[str] | None = None
    method_axis: str = ""
    reference: str = ""
    metric: str = "accuracy"
    budget_axis: str = ""
    drop: float = Field(5.0, gt=0)
    budget_minutes: float | None = Field(None, gt=0)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are distinct numbers from 0 on")
        return seeds

    @model_validator(mode="after")
    def _axes_fit(self) -> Self:
        """Refuse what names no axis, and an axis without values."""
        axes = self.every_axis()
        for name, axis in axes.items():
            if not axis:
                raise ValueError(f"axis '{name}' is empty; give it values or leave it out")
        for key in ("method_axis", "budget_axis"):
            named = getattr(self, key)
            if named and named not in axes:
                raise ValueError(
                    f"{key.replace('_', '-')} = '{named}' is no axis of this suite; {nearest(named, axes)}"
                )
        compared = axes.get(self.compared_axis, {})
        if self.reference and self.reference not in compared:
            raise ValueError(
                f"reference = '{self.reference}' is no label of '{self.compared_axis}'; {nearest(self.reference, compared)}"
            )
        if self.budget_axis:
            for label in axes[self.budget_axis]:
                _number(self.budget_axis, label)
        return self

    @property
    def compared_axis(self) -> str:
        """Return the axis that is compared: the defences, unless the file names another, or its first one."""
        axes = self.every_axis()
        return self.method_axis or (DEFENCE if DEFENCE in axes else next(iter(axes), ""))

    def every_axis(self) -> dict[str, Axis]:
        """Return all axes in the order threats, the file's own, defences, each label with its settings."""
        found: dict[str, Axis] = {}
        if self.threats is not None:
            found[THREAT] = _labelled("threats", self.threats, "threat")
        for name, values in {**self.base, **self.axes}.items():
            if name in self.axes or isinstance(values, list):
                found[name] = _labelled(f"axes.{name}", values, name)
        if self.defences is not None:
            found[DEFENCE] = _labelled("defences", self.defences, "strategy")
        return found

    def fixed(self) -> dict[str, Any]:
        """Return the settings that are the same in every run, keys with underscores."""
        return {
            key.replace("-", "_"): value
            for key, value in self.base.items()
            if not isinstance(value, list) and key not in self.axes
        }

    def choices(self) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Yield each cell's labels by axis and its settings, the last axis running fastest."""
        axes = self.every_axis()
        variables = {name for name in axes if name.replace("-", "_") not in Settings.model_fields}

        def deal(
            names: list[str], labels: dict[str, str], settings: dict[str, Any]
        ) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
            if not names:
                values = {name: label for name, label in labels.items() if name in variables}
                yield labels, {key: _filled(value, values) for key, value in settings.items()}
                return
            name, *rest = names
            for label, changes in axes[name].items():
                yield from deal(rest, labels | {name: label}, settings | changes)

        yield from deal(list(axes), {}, self.fixed())


def load_suite(
    name: str, overrides: Mapping[str, Any] | None = None, seeds: tuple[int, ...] | None = None
) -> Suite:
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
        If there is no such suite, or it does not say what a suite says.
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
    """Return the file's text without the folder of the data, which is this machine's and no part of the results."""
    return _DATA_ROOT.sub("", file.read_text(encoding="utf-8"))


def suite_names() -> dict[str, Path]:
    """Return the suites that can be named, the working folder's first."""
    found: dict[str, Path] = {}
    for folder in importlib.import_module("experiments").__path__:
        for file in sorted(Path(folder).glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


def _named(name: str) -> Path:
    known = suite_names()
    if name not in known:
        raise UserError(f"there is no suite '{name}'; {nearest(name, known)}")
    return known[name]


def _check_keys(file: Path, values: Mapping[str, Any]) -> None:
    """Refuse what the file may not hold, by name."""
    known = [name.replace("_", "-") for name in Suite.model_fields if name not in ("name", "definition")]
    settings = {name.replace("_", "-") for name in Settings.model_fields}
    if not set(values) & {"base", "axes", "threats", "defences"} and set(values) & (settings - {"seed"}):
        raise UserError(
            f"{file}: these are settings of one run, for 'simulate --config'; a suite holds them under [base]"
        )
    for key in values:
        if key not in known:
            raise UserError(f"{file}: a suite has no key '{key}'; {nearest(key, known)}")
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
                f"{file}: [{also[0]}] gives '{axis}' several values and [{key}] does, too; keep one of the two"
            )
    tables = {f"[{key}]": values.get(key, {}) for key in ("base", "axes")}
    for axis, labelled in (values.get("axes") or {}).items():
        if isinstance(labelled, dict):
            tables |= {f"[axes.{axis}] {label}": table for label, table in labelled.items()}
    for key in ("threats", "defences"):
        if isinstance(values.get(key), dict):
            # With a name it is a plug-in and its options, checked where it is built.
            named = values[key].items()
            tables |= {f"[{key}] {label}": t for label, t in named if isinstance(t, dict) and "name" not in t}
    text = repr(values)
    for place, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{file}: {place} must be a table of settings")
        for key, value in table.items():
            _check_setting(file, place, key.replace("_", "-"), value, settings, text)


def _check_overrides(given: Mapping[str, Any], axes: Mapping[str, Any]) -> None:
    settings = [name.replace("_", "-") for name in Settings.model_fields if name not in _NOT_HERE]
    for key in given:
        if key.replace("-", "_") in _NOT_HERE:
            raise UserError(f"--set cannot set '{key}'; use {_FLAGS[key.replace('-', '_')]}")
        if key not in settings and key not in axes:
            raise UserError(f"--set {key}: there is no such setting; {nearest(key, [*settings, *axes])}")


def _refuse_lost(suite: Suite, overrides: Mapping[str, Any]) -> None:
    """Refuse an override that an axis of named configurations would override in turn."""
    for key in (name.replace("-", "_") for name in overrides):
        for axis, labels in suite.every_axis().items():
            if axis.replace("-", "_") != key and any(key in settings for settings in labels.values()):
                raise UserError(
                    f"--set {key.replace('_', '-')}: the axis '{axis}' of suite {suite.name} decides it; use --only to choose, "
                    f"or a suite file of your own"
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


def _labelled(place: str, values: Any, setting: str) -> Axis:
    """Return an axis' labels with the settings that each stands for."""
    key = setting.replace("-", "_")
    is_setting = key in Settings.model_fields
    if isinstance(values, dict):
        return {
            str(label): _underscored(value)
            if isinstance(value, dict) and "name" not in value
            else {key: value}
            for label, value in values.items()
        }
    labels = [_label(value) for value in values]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"{place} names {twice!r} twice")
    return {label: {key: value} if is_setting else {} for label, value in zip(labels, values, strict=True)}


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.get("name", value)) if isinstance(value, dict) else str(value)


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in table.items()}


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Put variables' values into texts."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), value)
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return value


def _number(axis: str, label: str) -> float:
    try:
        return float(label)
    except ValueError:
        raise ValueError(f"budget-axis '{axis}' has the value '{label}', which is no number") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    place = ".".join(str(part) for part in first["loc"][:2])
    return f"{place}: {message[:1].lower()}{message[1:]}" if place else message

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
"krum, given f" = "krum(f=2)"

[axes.model]                                     # an axis of named configurations
one = {networks = 1}
two = {networks = 2}
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedrobust.errors import nearest
from fedrobust.settings import Settings

__all__ = ["DEFENCE", "THREAT", "Axis", "Suite", "Table"]

#: What the axes of the tables [threats] and [defences] are called.
THREAT, DEFENCE = "threat", "defence"
_VARIABLE = re.compile(r"\{([A-Za-z][\w-]*)\}")

#: Cells of a suite; every attack against every defence over six seeds is less.
MOST_CELLS = 10_000

#: A TOML table, or settings by name: values of all types that TOML has.
Table = dict[str, Any]

#: An axis: its labels, each with the settings that it stands for.
Axis = dict[str, Table]


class Suite(BaseModel):
    """The content of a suite file; an unknown key is an error.

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
        The axis of the labels that are compared with each other.
    reference : str
        The label of it that the others are compared with.
    metric : str
        By which methods are ranked.
    budget_axis : str
        The axis that is the attack budget, with numbers as values.
    drop : float
        Loss of accuracy in points at which an attack budget counts as enough.
    budget_minutes : float
        No run begins after so many minutes; the same command continues.
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
    base: Table = Field(default_factory=dict)
    axes: dict[str, list[Any] | dict[str, Table]] = Field(default_factory=dict)
    threats: dict[str, str | list[str] | Table] | list[str] | None = None
    defences: dict[str, str | Table] | list[str] | None = None
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
        cells = len(self.seeds) * math.prod(map(len, axes.values()))
        if cells > MOST_CELLS:
            raise ValueError(
                f"the axes make {cells:,} cells, more than the {MOST_CELLS:,} of the largest suite"
            )
        for key in ("method_axis", "budget_axis"):
            named = getattr(self, key)
            if named and named not in axes:
                raise ValueError(
                    f"{key.replace('_', '-')} = '{named}' is no axis of this suite; {nearest(named, axes)}"
                )
        compared = axes.get(self.compared_axis, {})
        if self.reference and self.reference not in compared:
            raise ValueError(
                f"reference = '{self.reference}' is no label of '{self.compared_axis}'; "
                f"{nearest(self.reference, compared)}"
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

    def fixed(self) -> Table:
        """Return the settings that are the same in every run, keys with underscores."""
        return {
            key.replace("-", "_"): value
            for key, value in self.base.items()
            if not isinstance(value, list) and key not in self.axes
        }

    def choices(self) -> Iterator[tuple[dict[str, str], Table]]:
        """Yield each cell's labels by axis and its settings, the last axis running fastest."""
        axes = self.every_axis()
        variables = {name for name in axes if name.replace("-", "_") not in Settings.model_fields}

        def deal(
            names: list[str], labels: dict[str, str], settings: Table
        ) -> Iterator[tuple[dict[str, str], Table]]:
            if not names:
                values = {name: label for name, label in labels.items() if name in variables}
                yield labels, {key: _filled(value, values) for key, value in settings.items()}
                return
            name, *rest = names
            for label, changes in axes[name].items():
                yield from deal(rest, labels | {name: label}, settings | changes)

        yield from deal(list(axes), {}, self.fixed())


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
    twice = next((label for label, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{place} names {twice!r} twice")
    return {label: {key: value} if is_setting else {} for label, value in zip(labels, values, strict=True)}


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.get("name", value)) if isinstance(value, dict) else str(value)


def _underscored(table: Table) -> Table:
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

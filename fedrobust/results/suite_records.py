"""The records of a suite's folder: ``suite.json`` and ``costs.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from fedrobust.evaluation.metrics import Unit

__all__ = [
    "FORMAT",
    "AttackBudget",
    "AxisLabels",
    "Caveat",
    "CellLink",
    "Comparison",
    "CostRow",
    "Estimate",
    "Gap",
    "MetricInfo",
    "RankingEntry",
    "SmallestBudget",
    "SuiteCosts",
    "SuiteResults",
    "SuiteRow",
]

#: Version of the layout of ``suite.json``.
FORMAT: Literal[2] = 2


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Record):
    """A metric over the seeds of a row.

    Attributes
    ----------
    mean, low, high : float or None
        Mean and the ends of its 95 % interval; None where undefined.
    values : tuple of float or None
        One for each finished seed.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[float | None, ...] = ()


class Caveat(_Record):
    """What a reader must know of a row before comparing it with others.

    Attributes
    ----------
    text : str
    excludes : bool
        Whether the comparison would be unfair, so that the row has no rank and is never the best.
    """

    text: str
    excludes: bool = False


class MetricInfo(_Record):
    """A metric's name, the direction in which it is better, its unit, and what it is in a sentence."""

    key: str
    name: str
    better: Literal["higher", "lower"] | None
    unit: Unit
    about: str


class AxisLabels(_Record):
    """An axis of a suite and its labels, in the suite's order."""

    name: str
    labels: tuple[str, ...]


class CellLink(_Record):
    """One cell of a row: its run folder, relative to the suite's, or why it has none (None: not run)."""

    seed: int
    run: str | None
    error: str | None


class SuiteRow(_Record):
    """One combination of labels over its seeds."""

    labels: dict[str, str]
    seeds: tuple[int, ...]
    metrics: dict[str, Estimate]
    caveats: tuple[Caveat, ...]
    cells: tuple[CellLink, ...]

    @property
    def comparable(self) -> bool:
        """Tell whether the row may be ranked, be best and be tested: one rule for all tables and pages."""
        return not any(caveat.excludes for caveat in self.caveats)


class Comparison(_Record):
    """A metric's difference to the reference under the same condition, paired by seed."""

    labels: dict[str, str]
    metric: str
    against: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    seeds: int


class RankingEntry(_Record):
    """One method's place over all conditions.

    Attributes
    ----------
    label : str
    mean, worst : float or None
        Over the conditions; None where a condition has no value.
    worst_under : str or None
        The condition of the worst value.
    rank_by_mean, rank_by_worst, mean_rank : float or None
        1 is best, ties share the mean of their ranks; None for a method that is not ranked.
    caveats : tuple of str
        Why it is not ranked; empty for one that is.
    """

    label: str
    mean: float | None
    worst: float | None
    worst_under: str | None
    rank_by_mean: float | None
    rank_by_worst: float | None
    mean_rank: float | None
    caveats: tuple[str, ...]

    @property
    def ranked(self) -> bool:
        """Tell whether the method has ranks."""
        return not self.caveats


class SmallestBudget(_Record):
    """The smallest attack budget that does the stated damage, and the smaller ones with unknown damage."""

    labels: dict[str, str]
    budget: float | None
    unknown: tuple[float, ...]


class AttackBudget(_Record):
    """Damage by attack budget: the axis, the loss that counts, and the smallest budget that does it."""

    axis: str
    drop: float
    metric: str
    smallest: tuple[SmallestBudget, ...]


class Gap(_Record):
    """A run that is missing, and why (None: it was not tried)."""

    labels: dict[str, str]
    seed: int
    error: str | None


class SuiteResults(_Record):
    """What ``suite.json`` holds.

    Attributes
    ----------
    format : int
        Version of the layout.
    command : str
        The command that makes the same results, run beside `definition`.
    definition : str
        The text of the suite file, also kept as ``NAME.toml``.
    versions : dict of str
        Of the packages that most runs were made with.
    settings : dict
        The settings that all cells share, without those that an axis decides.
    method_axis : str
        The axis of the labels that are compared; empty where none is.
    metric : str
        Key of the metric that methods are ranked by.
    """

    format: Literal[2] = FORMAT
    name: str
    title: str
    about: str
    command: str
    definition: str = ""
    versions: dict[str, str]
    settings: dict[str, JsonValue]
    seeds: tuple[int, ...]
    axes: tuple[AxisLabels, ...]
    method_axis: str
    reference: str | None
    metric: str = "accuracy"
    metrics: tuple[MetricInfo, ...]
    rows: tuple[SuiteRow, ...]
    comparisons: tuple[Comparison, ...]
    ranking: tuple[RankingEntry, ...]
    attack_budget: AttackBudget | None
    missing: tuple[Gap, ...]
    missing_baselines: tuple[Gap, ...] = ()
    notes: tuple[str, ...]


class CostRow(_Record):
    """What a row's runs cost: means over the seeds, of memory the most."""

    labels: dict[str, str]
    seconds: float | None = None
    aggregation_s: float | None = None
    defence_mib: float | None = None


class SuiteCosts(_Record):
    """What ``costs.json`` holds."""

    rows: tuple[CostRow, ...] = ()

"""Methods of a suite compared: paired differences, ranks, and the smallest harmful attack budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedrobust.evaluation.metrics import SYNTHESIS_SHOWN, is_utility, metric_of
from fedrobust.evaluation.statistics import bootstrap_interval, holm, ranks, sign_flip_test
from fedrobust.results.suite_records import (
    AttackBudget,
    Comparison,
    Estimate,
    RankingEntry,
    SmallestBudget,
    SuiteRow,
)
from fedrobust.results.suite_table import TIE, Condition, merge_ties
from fedrobust.suites.metrics import MetricValues, mean_known
from fedrobust.suites.plan import Planned
from fedrobust.suites.suite import Suite

__all__ = ["FEW", "LEVEL", "attack_budget_of", "comparisons", "ranking", "reference_of"]

#: Metrics whose differences to the reference are tested; Holm's correction runs over the table of each.
COMPARED = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "worst_class",
    "worst_hospital",
    "drop",
    "lost_to_attack",
    *SYNTHESIS_SHOWN,
)
#: Fewer seeds give no interval and no test.
FEW = 3
#: What a p-value is held against.
LEVEL = 0.05

#: A row's place: its labels in the order of the axes.
Labels = tuple[str, ...]


def comparisons(
    suite: Suite,
    measured: Mapping[tuple[Labels, int], MetricValues],
    reference: str | None,
    rows: Sequence[SuiteRow],
    keys: Sequence[str],
) -> list[Comparison]:
    """Return the differences to the reference, paired by seed; only comparable rows are tested."""
    if reference is None:
        return []
    by_labels = {tuple(row.labels.values()): row for row in rows}
    found = []
    others = [key for key in keys if "@" in key or is_utility(key)]
    for metric in [*(key for key in COMPARED if key in keys), *others]:
        table = []
        for row in rows:
            if row.labels[suite.compared_axis] == reference:
                continue
            other = by_labels[tuple({**row.labels, suite.compared_axis: reference}.values())]
            differences = _paired(measured, row, other, metric)
            if differences:
                tested = row.comparable and other.comparable
                table.append(_difference(row.labels, metric, reference, differences, tested))
        adjusted = holm([line.p for line in table])
        found += [line.model_copy(update={"p_holm": p}) for line, p in zip(table, adjusted, strict=True)]
    return found


def _paired(
    measured: Mapping[tuple[Labels, int], MetricValues], row: SuiteRow, other: SuiteRow, metric: str
) -> list[float]:
    """Return a row's values minus the other's, seed by seed, where both are defined."""
    places = tuple(row.labels.values()), tuple(other.labels.values())
    pairs = [[measured.get((place, cell.seed), {}).get(metric) for place in places] for cell in row.cells]
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]


def _difference(
    labels: Mapping[str, str], metric: str, against: str, differences: Sequence[float], tested: bool
) -> Comparison:
    enough = len(differences) >= FEW
    low, high = (enough and bootstrap_interval(differences)) or (None, None)
    return Comparison(
        labels=dict(labels),
        metric=metric,
        against=against,
        difference=fmean(differences),
        low=low,
        high=high,
        p=sign_flip_test(differences) if enough and tested else None,
        p_holm=None,
        seeds=len(differences),
    )


@dataclass(frozen=True)
class _Candidate:
    """A method with its means by condition, and why it is not ranked."""

    label: str
    values: Mapping[Condition, float]
    caveats: tuple[str, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values.values())


def ranking(suite: Suite, rows: Sequence[SuiteRow]) -> list[RankingEntry]:
    """Return each method's place by its worst condition and by the mean over them.

    A method is ranked if each of its rows is comparable and has a value; others are listed with the reason.
    Values within `TIE` of each other share their rank.
    """
    axis = suite.compared_axis
    if not axis:
        return []
    higher = metric_of(suite.metric).better != "lower"
    conditions = _ranked_in(suite, rows)
    candidates = [
        _candidate(suite, label, [row for row in rows if row.labels[axis] == label], conditions)
        for label in dict.fromkeys(row.labels[axis] for row in rows)
    ]
    places = _places([one for one in candidates if not one.caveats], conditions, higher)
    return [_entry(one, conditions, higher, places.get(one.label, (None, None, None))) for one in candidates]


def _candidate(
    suite: Suite, label: str, rows: Sequence[SuiteRow], conditions: Sequence[Condition]
) -> _Candidate:
    means = {_condition(suite, row.labels): row.metrics.get(suite.metric, Estimate()).mean for row in rows}
    values = {c: mean for c in conditions if (mean := means.get(c)) is not None}
    caveats = dict.fromkeys(caveat.text for row in rows for caveat in row.caveats if caveat.excludes)
    gap = [] if len(values) == len(conditions) > 0 else ["some conditions are missing"]
    return _Candidate(label, values, (*caveats, *gap))


def _places(
    candidates: Sequence[_Candidate], conditions: Sequence[Condition], higher: bool
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Return the ranks by mean and by worst case, and the mean rank over the conditions."""
    worst: Callable[..., float] = min if higher else max

    def ranked(values: Sequence[float]) -> list[float | None]:
        return ranks(merge_ties(values), higher)

    by_mean = ranked([one.mean for one in candidates])
    by_worst = ranked([worst(one.values.values()) for one in candidates])
    columns = [ranked([one.values[condition] for one in candidates]) for condition in conditions]
    return {
        one.label: (by_mean[i], by_worst[i], mean_known(column[i] for column in columns))
        for i, one in enumerate(candidates)
    }


def _entry(
    one: _Candidate,
    conditions: Sequence[Condition],
    higher: bool,
    place: tuple[float | None, float | None, float | None],
) -> RankingEntry:
    complete = len(one.values) == len(conditions) > 0
    at = _worst(one.values, higher) if complete else None
    by_mean, by_worst, mean_rank = place
    return RankingEntry(
        label=one.label,
        mean=one.mean if complete else None,
        worst=one.values[at] if at is not None else None,
        worst_under=" · ".join(at) if at else None,
        rank_by_mean=by_mean,
        rank_by_worst=by_worst,
        mean_rank=mean_rank,
        caveats=one.caveats,
    )


def _worst(values: Mapping[Condition, float], higher: bool) -> Condition:
    """Return the condition of the worst value; of several within `TIE` the first."""
    end = min(values.values()) if higher else max(values.values())
    return next(condition for condition, value in values.items() if abs(value - end) <= TIE)


def _ranked_in(suite: Suite, rows: Sequence[SuiteRow]) -> list[Condition]:
    """Return the conditions in which the metric is defined: all but those in which no finished run has it.

    No attacker can be detected where there is none.
    """
    meant: dict[Condition, bool] = {}
    for row in rows:
        known = row.metrics.get(suite.metric, Estimate()).mean is not None
        condition = _condition(suite, row.labels)
        meant[condition] = meant.get(condition, False) or known or not row.seeds
    return [condition for condition, so in meant.items() if so]


def attack_budget_of(suite: Suite, rows: Sequence[SuiteRow]) -> AttackBudget | None:
    """Return the smallest attack budget that costs a configuration the stated points.

    Smaller budgets of which nothing is known, as a run or its baseline is missing, are named beside it.
    """
    axis = suite.budget_axis
    if not axis:
        return None
    losses: dict[tuple[tuple[str, str], ...], list[tuple[float, float | None]]] = defaultdict(list)
    for row in rows:
        rest = tuple((name, label) for name, label in row.labels.items() if name != axis)
        loss = row.metrics.get("lost_to_attack", Estimate()).mean
        losses[rest].append((float(row.labels[axis]), loss))
    smallest = []
    for rest, steps in losses.items():
        # A mean that equals the drop but for rounding has reached it.
        reached = [budget for budget, loss in steps if loss is not None and loss >= suite.drop - TIE]
        first = min(reached, default=None)
        unknown = sorted(
            budget for budget, loss in steps if loss is None and (first is None or budget < first)
        )
        smallest.append(SmallestBudget(labels=dict(rest), budget=first, unknown=tuple(unknown)))
    return AttackBudget(axis=axis, drop=suite.drop, metric="lost_to_attack", smallest=tuple(smallest))


def _condition(suite: Suite, labels: Mapping[str, str]) -> Condition:
    return tuple(label for axis, label in labels.items() if axis != suite.compared_axis)


def reference_of(suite: Suite, cells: Sequence[Planned]) -> str | None:
    """Return the label to compare with: the file's, or the one that is plain FedAvg, or the first."""
    axis = suite.compared_axis
    if suite.reference or not axis:
        return suite.reference or None
    labels = list(dict.fromkeys(cell.labels[axis] for cell in cells))
    plain_mean = [cell.labels[axis] for cell in cells if cell.settings.strategy == "fedavg"]
    always = [
        label for label in labels if plain_mean.count(label) == sum(c.labels[axis] == label for c in cells)
    ]
    return (always or labels)[0] if len(labels) > 1 else None

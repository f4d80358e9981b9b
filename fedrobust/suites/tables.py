"""A suite's results in a terminal of 80 columns: what is too wide becomes several tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product
from statistics import fmean

from rich.console import Console
from rich.text import Text

from fedrobust.evaluation.metrics import EVALUATED, SYNTHESIS_OF_REAL, SYNTHESIS_SHOWN, Unit, is_utility
from fedrobust.printing import PlainConsole
from fedrobust.results.suite_records import (
    Comparison,
    Estimate,
    Gap,
    RankingEntry,
    SmallestBudget,
    SuiteCosts,
    SuiteResults,
)
from fedrobust.results.suite_table import Condition, SuiteTable
from fedrobust.suites.layout import print_grid, print_lines
from fedrobust.suites.text import digits, listed, several

__all__ = ["print_suite"]

_MISSING = 8  # most sentences on missing cells
_LOWEST_P = 0.001
# Headings short enough for all of them to stand in one table of 80 columns.
_DETECTION = {
    "detection_precision": "precision",
    "detection_recall": "recall",
    "detection_auroc": "AUROC",
    "false_flags": "false flags",
    "benign_false_flags": "false flags, clean",
    "honest_lost": "honest lost",
    "attacker_weight": "attackers' weight",
}


_LOST = "lost_to_attack"
#: The combined drop and its components.
_DROPS = ("drop", "drop_accuracy", "drop_macro_f1", "drop_macro_precision")


def print_suite(
    results: SuiteResults,
    costs: SuiteCosts | None = None,
    console: Console | None = None,
    metric: str = "accuracy",
) -> None:
    """Print what came out of a suite.

    In this order: what a reader must know first, what each method lost to each attack, the chosen metric of
    each method under each condition, ranks, differences to the reference, the drop on noisy images,
    evaluations, generators, detection, attack budgets, costs, what is missing. What the suite does not have
    is left out.

    Parameters
    ----------
    results : SuiteResults
    costs : SuiteCosts, optional
    console : rich.console.Console, optional
        Else standard output, with all text as text; another console prints what it gets.
    metric : str
        Key of the metric that is shown. If the suite lacks it, its first one is shown. Ranks are by the
        suite's own.
    """
    console = console or PlainConsole()
    table = SuiteTable(results)
    key = metric if metric in table.metrics else next(iter(table.metrics), metric)
    console.print(Text(results.title, "bold"))
    for note in results.notes:
        console.print(Text(f"Note: {note}"))
    for shown in dict.fromkeys(filter(table.metrics.__contains__, (_LOST, key))) or (key,):
        _performance(console, table, shown)
    for caveat, sign in table.signs.items():
        console.print(Text(f"{sign} {caveat.text}{'; not ranked' if caveat.excludes else ''}"))
    _ranking(console, table)
    _differences(console, table, key)
    _drop(console, table)
    _evaluated(console, table)
    _synthesis(console, table)
    _detection(console, table)
    _attack_budget(console, table)
    _costs(console, costs, table)
    _missing(console, table)


def _performance(console: Console, table: SuiteTable, key: str) -> None:
    unit = _unit(table, key)

    def cell(condition: Condition, method: str) -> Text:
        row = table.row(condition, method)
        estimate = table.estimate(condition, method, key)
        text = _estimate(estimate, unit)
        own = [c for c in (row.caveats if row else ()) if c not in table.common_caveats(method)]
        return Text(text + table.signs_of(own), "bold" if table.is_best(condition, method, key) else "")

    seeds = len(table.results.seeds)
    over = f", mean over {several(seeds, 'seed')}" if seeds > 1 else ", one seed"
    lows = [table.estimate(*place, key).low for place in product(table.conditions, table.methods)]
    half = "± half of the 95 % interval" if any(low is not None for low in lows) else ""
    _heading(console, f"{_name(table, key)}{over}", half)
    conditions = [c for c in table.conditions if key != _LOST or _has_values(table, c, key)]
    _print_grid(console, table, cell, key, conditions=conditions)


def _has_values(table: SuiteTable, condition: Condition, key: str) -> bool:
    return any(table.estimate(condition, method, key).mean is not None for method in table.methods)


def _ranking(console: Console, table: SuiteTable) -> None:
    entries = sorted(
        table.results.ranking, key=lambda entry: (entry.rank_by_worst is None, entry.rank_by_worst or 0.0)
    )
    if not entries:
        return
    key = table.results.metric
    unit = _unit(table, key)
    header = [table.axis, "worst case", "rank", "under", "mean", "rank", "mean rank"]
    lines = [
        [
            _method(table, entry.label),
            *(digits(entry.worst, unit), _rank(entry.rank_by_worst), entry.worst_under or "–"),
            *(digits(entry.mean, unit), _rank(entry.rank_by_mean), _rank(entry.mean_rank)),
        ]
        for entry in entries
    ]
    if len(table.conditions) > 1:
        _heading(console, f"Ranks of {_name(table, key)} by worst case and by mean over the conditions")
        print_lines(console, header, lines)
    else:
        _heading(console, "Ranks")
        print_lines(console, [table.axis, _name(table, key), "rank"], [line[:3] for line in lines])
    _print_unranked(console, table, entries)


def _print_unranked(console: Console, table: SuiteTable, entries: Sequence[RankingEntry]) -> None:
    """Print why methods have no rank, where no sign at their name shows it."""
    for text in dict.fromkeys(text for entry in entries for text in entry.caveats):
        names = [
            entry.label
            for entry in entries
            if text in entry.caveats and text not in [c.text for c in table.common_caveats(entry.label)]
        ]
        if names:
            console.print(Text(f"{listed(names)}: not ranked, {text}."))


def _differences(console: Console, table: SuiteTable, key: str) -> None:
    lines = [line for line in table.results.comparisons if line.metric == key]
    if not lines:
        return
    unit = _unit(table, key)
    by_place = {table.place(line.labels): line for line in lines}
    tested = [line.p_holm for line in lines if line.p_holm is not None]
    each = len(set(tested)) > 1

    def cell(condition: Condition, method: str) -> Text:
        line = by_place.get((condition, method))
        return Text("–") if line is None else Text(_difference(line, unit, each))

    about = "paired by seed"
    about += ", 95 % interval" if any(line.low is not None for line in lines) else ""
    if tested:
        about += "; sign-flip p after Holm" + ("" if each else f": {_p(tested[0])} throughout")
    _heading(console, f"Difference to {table.results.reference}, {_name(table, key)}", about)
    compared = [name for name in table.methods if name in {method for _, method in by_place}]
    _print_grid(console, table, cell, key, compared)


def _difference(line: Comparison, unit: Unit, with_p: bool) -> str:
    text = digits(line.difference, unit, signed=True)
    if line.low is not None:
        text += f" [{digits(line.low, unit)}, {digits(line.high, unit)}]"
    return text + (f" p {_p(line.p_holm)}" if with_p and line.p_holm is not None else "")


def _drop(console: Console, table: SuiteTable) -> None:
    """Print the combined drop beside its components, which a mean of the three hides."""
    if not all(key in table.metrics for key in _DROPS):
        return

    def cell(condition: Condition, method: str) -> Text:
        combined, *parts = (digits(table.estimate(condition, method, key).mean, "percent") for key in _DROPS)
        return Text(f"{combined} ({' '.join(parts)})")

    _heading(console, "Drop from clean to noisy images, %", "of accuracy, macro F1, macro precision")
    _print_grid(console, table, cell, _DROPS[0])


def _evaluated(console: Console, table: SuiteTable) -> None:
    """Print what each evaluation of the last models gave: methods by evaluations, for each metric."""
    texts = list(dict.fromkeys(key.partition("@")[2] for key in table.metrics if "@" in key))
    places = _places(table)
    for word, metric in EVALUATED.items() if texts else ():
        lines = [
            [_place_name(table, condition, method)]
            + [_estimate(table.estimate(condition, method, f"{word}@{text}"), metric.unit) for text in texts]
            for condition, method in places
        ]
        unit = " (%)" if metric.unit == "percent" else ""
        _heading(console, f"{metric.name}{unit} on changed images", _half(lines))
        print_lines(console, [" · ".join([*table.condition_axes, table.axis]), *texts], lines)


def _synthesis(console: Console, table: SuiteTable) -> None:
    """Print what generators make, and what their images are good for."""
    utility = [key for key in table.metrics if is_utility(key)]
    shown = [key for key in (*SYNTHESIS_SHOWN, *SYNTHESIS_OF_REAL) if key in table.metrics]
    titles = {
        "Synthetic images": {key: table.metrics[key].name for key in shown},
        "Accuracy of a classifier of few real images of each class and synthetic ones": {
            key: f"{key.partition(':')[2]} real" for key in utility
        },
    }
    for title, columns in titles.items() if "fid" in table.metrics else ():
        lines = [
            [_place_name(table, condition, method)]
            + [_estimate(table.estimate(condition, method, key), _unit(table, key)) for key in columns]
            for condition, method in _places(table)
        ]
        if columns:
            _heading(console, title, _half(lines))
            print_lines(console, [" · ".join([*table.condition_axes, table.axis]), *columns.values()], lines)


def _places(table: SuiteTable) -> list[tuple[Condition, str]]:
    """Return the conditions and methods that have a row."""
    return [place for place in product(table.conditions, table.methods) if table.row(*place)]


def _place_name(table: SuiteTable, condition: Condition, method: str) -> str:
    return " · ".join([*condition, *filter(None, [_method(table, method)])]) or "all"


def _half(lines: Sequence[Sequence[str]]) -> str:
    """Return what a second number of cells is, where there is one."""
    seen = any("±" in cell for line in lines for cell in line[1:])
    return "± half of the 95 % interval" if seen else ""


def _estimate(estimate: Estimate, unit: Unit) -> str:
    text = digits(estimate.mean, unit)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ±{digits((estimate.high - estimate.low) / 2, unit)}"


def _detection(console: Console, table: SuiteTable) -> None:
    """Print each method's detection metrics, averaged over the conditions in which they have a meaning."""
    means = {
        key: {name: _mean_over(table, name, key) for name in table.methods}
        for key in _DETECTION
        if key in table.metrics
    }
    keys = [key for key, column in means.items() if any(mean is not None for mean in column.values())]
    names = [name for name in table.methods if any(means[key][name] is not None for key in keys)]
    if not names:
        return
    lines = [
        [_method(table, name), *(digits(means[key][name], _unit(table, key)) for key in keys)]
        for name in names
    ]
    _heading(console, "Detection and its cost to honest hospitals", "means where defined")
    print_lines(console, [table.axis, *(_DETECTION[key] for key in keys)], lines)


def _attack_budget(console: Console, table: SuiteTable) -> None:
    budget = table.results.attack_budget
    if budget is None:
        return
    found = {table.place(line.labels): line for line in budget.smallest}
    about = f"{_name(table, budget.metric)}; – where none does"
    if any(line.unknown for line in found.values()):
        about += "; ≤ or ? where other budgets have no run or no clean baseline"
    _heading(console, f"Smallest '{budget.axis}' that costs {budget.drop:g} points", about)
    rows = list(dict.fromkeys(condition for condition, _ in found))
    columns = list(dict.fromkeys(method for _, method in found))
    cells = {place: Text(_smallest(line)) for place, line in found.items()}
    names = {name: _method(table, name) or budget.axis for name in columns}
    others = [axis for axis in table.condition_axes if axis != budget.axis]
    print_grid(console, (" · ".join(others), table.axis), _condition_names(rows), names, cells)


def _smallest(line: SmallestBudget) -> str:
    if line.budget is None:
        return "?" if line.unknown else "–"
    return ("≤ " if line.unknown else "") + f"{line.budget:g}"


def _costs(console: Console, costs: SuiteCosts | None, table: SuiteTable) -> None:
    lines = []
    for method in table.methods:
        own = [row for row in (costs.rows if costs else ()) if table.place(row.labels)[1] == method]
        if not own:
            continue
        seconds = [row.seconds for row in own if row.seconds is not None]
        aggregation = [row.aggregation_s for row in own if row.aggregation_s is not None]
        memory = [row.defence_mib for row in own if row.defence_mib is not None]
        lines.append(
            [
                _method(table, method) or "all",
                f"{fmean(seconds):.1f}" if seconds else "–",
                f"{1000 * fmean(aggregation):.1f}" if aggregation else "–",
                f"{max(memory):.1f}" if memory else "–",
            ]
        )
    if lines:
        _heading(console, "Costs", "means over the conditions; of memory the most")
        header = [table.axis, "seconds a run", "aggregation, ms a round", "its extra memory, MiB"]
        print_lines(console, header, lines)


def _missing(console: Console, table: SuiteTable) -> None:
    """Say which cells are missing, those of a row with the same reason in one sentence."""
    results = table.results
    sentences = [
        *_gap_sentences(table, results.missing),
        *_gap_sentences(table, results.missing_baselines, "clean baseline of "),
    ]
    if sentences:
        gone = results.missing
        what = (
            several(len(gone), "cell") if gone else several(len(results.missing_baselines), "clean baseline")
        )
        _heading(console, f"Missing: {what}")
    for sentence in sentences[:_MISSING]:
        console.print(Text(sentence))
    if len(sentences) > _MISSING:
        console.print(Text(f"And {len(sentences) - _MISSING} more like these: see 'missing' in suite.json."))


def _gap_sentences(table: SuiteTable, gaps: Sequence[Gap], prefix: str = "") -> Iterator[str]:
    for (labels, error), cells in groupby(gaps, key=lambda gap: (gap.labels, gap.error)):
        seeds = [str(cell.seed) for cell in cells]
        condition, method = table.place(labels)
        where = " · ".join([*condition, *filter(None, [method])])
        reason = "not run yet." if error is None else f"failed: {error}"
        yield f"{prefix}{where}, seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}: {reason}"


def _heading(console: Console, title: str, about: str = "") -> None:
    console.print()
    console.print(Text.assemble((title[:1].upper() + title[1:], "bold"), f" ({about})" if about else ""))


def _print_grid(
    console: Console,
    table: SuiteTable,
    cell: Callable[[Condition, str], Text],
    key: str,
    methods: Sequence[str] | None = None,
    conditions: Sequence[Condition] | None = None,
) -> None:
    methods = table.methods if methods is None else methods
    conditions = table.conditions if conditions is None else conditions
    cells = {(row, name): cell(row, name) for row in conditions for name in methods}
    names = {name: _method(table, name) or _name(table, key) for name in methods}
    corners = (" · ".join(table.condition_axes), table.axis)
    print_grid(console, corners, _condition_names(conditions), names, cells)


def _condition_names(conditions: Sequence[Condition]) -> dict[Condition, str]:
    return {condition: " · ".join(condition) or "all" for condition in conditions}


def _method(table: SuiteTable, name: str) -> str:
    """Return a method's name with the signs of the caveats that all its rows have."""
    return name + table.signs_of(table.common_caveats(name))


def _name(table: SuiteTable, key: str) -> str:
    if key not in table.metrics:
        return key
    metric = table.metrics[key]
    return metric.name + {"percent": " (%)", "points": " (points)"}.get(metric.unit, "")


def _unit(table: SuiteTable, key: str) -> Unit:
    return table.metrics[key].unit if key in table.metrics else "share"


def _mean_over(table: SuiteTable, method: str, key: str) -> float | None:
    means = [table.estimate(condition, method, key).mean for condition in table.conditions]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else None


def _rank(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:.3g}"


def _p(p: float) -> str:
    return f"< {_LOWEST_P}" if p < _LOWEST_P else f"{p:.2g}"

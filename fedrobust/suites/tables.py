"""A suite's results in a terminal, made for 80 columns: nothing is cut off, what is too wide becomes several tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, product
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.text import Text

from fedrobust.suites.layout import print_grid, print_lines
from fedrobust.suites.reading import Reading, digits, listed, several

__all__ = ["print_suite"]

Results = Mapping[str, Any]
Condition = tuple[str, ...]

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


#: The combined drop and its components.
_DROPS = ("drop", "drop_accuracy", "drop_macro_f1", "drop_macro_precision")


def print_suite(
    results: Results,
    costs: Mapping[str, Any] | None = None,
    console: Console | None = None,
    metric: str = "accuracy",
) -> None:
    """Print what came out of a suite.

    In this order: what a reader must know first, the metric of each method under each condition, ranks, differences
    to the reference, the drop on noisy images, detection, budgets, costs, what is missing. What the suite does not have is left out.

    Parameters
    ----------
    results : mapping
        What ``suite.json`` holds.
    costs : mapping, optional
        What ``costs.json`` holds.
    console : rich.console.Console, optional
        Else standard output.
    metric : str
        Key of the metric that is shown first. If the suite lacks it, its first one is shown. Ranks are by the suite's own.
    """
    console = console or Console()
    reading = Reading(results)
    key = metric if metric in reading.metrics else next(iter(reading.metrics), metric)
    console.print(Text(results["title"], "bold"))
    for note in results["notes"]:
        console.print(Text(f"Note: {note}"))
    _performance(console, results, reading, key)
    _ranking(console, results, reading, results.get("metric", key))
    _differences(console, results, reading, key)
    _drop(console, reading)
    _detection(console, reading)
    _budget(console, results, reading)
    _costs(console, costs, reading)
    _missing(console, results, reading)


def _performance(console: Console, results: Results, reading: Reading, key: str) -> None:
    unit = _unit(reading, key)

    def cell(condition: Condition, method: str) -> Text:
        row = reading.row(condition, method)
        spread = reading.spread(condition, method, key)
        text = digits(spread["mean"], unit)
        if spread["low"] is not None:
            text += f" ±{digits((spread['high'] - spread['low']) / 2, unit)}"
        own = [
            caveat
            for caveat in (row["caveats"] if row else ())
            if caveat not in reading.common_caveats(method)
        ]
        best = row is not None and not row["caveats"] and spread["mean"] is not None
        best = best and spread["mean"] == reading.best(condition, key)
        return Text(text + _signs(reading, own), "bold" if best else "")

    seeds = len(results["seeds"])
    over = f", mean over {several(seeds, 'seed')}" if seeds > 1 else ", one seed"
    spread = [reading.spread(*place, key)["low"] for place in product(reading.conditions, reading.methods)]
    half = "± half of the 95 % interval" if any(low is not None for low in spread) else ""
    _heading(console, f"{_name(reading, key)}{over}", half)
    _print_grid(console, reading, cell, key)
    for caveat, sign in reading.signs.items():
        console.print(Text(f"{sign} {caveat}"))


def _ranking(console: Console, results: Results, reading: Reading, key: str) -> None:
    entries = sorted(
        results["ranking"], key=lambda entry: (entry["rank_by_worst"] is None, entry["rank_by_worst"])
    )
    if not entries:
        return
    unit = _unit(reading, key)
    header = [reading.axis, "worst case", "rank", "under", "mean", "rank", "mean rank"]
    lines = [
        [
            _method(reading, entry["label"]),
            *(digits(entry["worst"], unit), _rank(entry["rank_by_worst"]), entry["worst_under"] or "–"),
            *(digits(entry["mean"], unit), _rank(entry["rank_by_mean"]), _rank(entry["mean_rank"])),
        ]
        for entry in entries
    ]
    if len(reading.conditions) > 1:
        _heading(console, f"Ranks of {_name(reading, key)} by worst case and by mean over the conditions")
        print_lines(console, header, lines)
    else:
        _heading(console, "Ranks")
        print_lines(console, [reading.axis, _name(reading, key), "rank"], [line[:3] for line in lines])
    said_anew = [caveat for entry in entries for caveat in entry["caveats"] if caveat not in reading.signs]
    for caveat in dict.fromkeys(said_anew):
        names = [entry["label"] for entry in entries if caveat in entry["caveats"]]
        console.print(Text(f"{listed(names)}: {caveat}."))


def _differences(console: Console, results: Results, reading: Reading, key: str) -> None:
    lines = [line for line in results["comparisons"] if line["metric"] == key]
    if not lines:
        return
    unit = _unit(reading, key)
    by_place = {reading.place(line["labels"]): line for line in lines}
    tested = [line["p_holm"] for line in lines if line["p_holm"] is not None]
    told_apart = len(set(tested)) > 1

    def cell(condition: Condition, method: str) -> Text:
        line = by_place.get((condition, method))
        if line is None:
            return Text("–")
        text = digits(line["difference"], unit, signed=True)
        if line["low"] is not None:
            text += f" [{digits(line['low'], unit)}, {digits(line['high'], unit)}]"
        return Text(text + (f" p {_p(line['p_holm'])}" if told_apart and line["p_holm"] is not None else ""))

    about = "paired by seed"
    about += ", 95 % interval" if any(line["low"] is not None for line in lines) else ""
    if tested:
        about += "; sign-flip p after Holm" + ("" if told_apart else f": {_p(tested[0])} throughout")
    _heading(console, f"Difference to {results['reference']}, {_name(reading, key)}", about)
    compared = [name for name in reading.methods if name in {method for _, method in by_place}]
    _print_grid(console, reading, cell, key, compared)


def _drop(console: Console, reading: Reading) -> None:
    """Print the combined drop beside its components: a mean of three says nothing of them."""
    if not all(key in reading.metrics for key in _DROPS):
        return

    def cell(condition: Condition, method: str) -> Text:
        combined, *parts = (
            digits(reading.spread(condition, method, key)["mean"], "percent") for key in _DROPS
        )
        return Text(f"{combined} ({' '.join(parts)})")

    _heading(console, "Drop from clean to noisy images, %", "of accuracy, macro F1, macro precision")
    _print_grid(console, reading, cell, _DROPS[0])


def _detection(console: Console, reading: Reading) -> None:
    """Print each method's detection figures, averaged over the conditions in which they have a meaning."""
    means = {
        key: {name: _mean_over(reading, name, key) for name in reading.methods}
        for key in _DETECTION
        if key in reading.metrics
    }
    keys = [key for key, column in means.items() if any(mean is not None for mean in column.values())]
    names = [name for name in reading.methods if any(means[key][name] is not None for key in keys)]
    if not names:
        return
    lines = [
        [_method(reading, name), *(digits(means[key][name], _unit(reading, key)) for key in keys)]
        for name in names
    ]
    _heading(console, "Detection and its price", "means where defined")
    print_lines(console, [reading.axis, *(_DETECTION[key] for key in keys)], lines)


def _budget(console: Console, results: Results, reading: Reading) -> None:
    budget = results["attack_budget"]
    if not budget:
        return
    found = {reading.place(line["labels"]): line for line in budget["smallest"]}
    about = f"{_name(reading, budget['metric'])}; – where none does"
    if any(map(_unknown, found.values())):
        about += "; ≤ or ? where other budgets have no run or no clean baseline"
    _heading(console, f"Smallest '{budget['axis']}' that costs {budget['drop']:g} points", about)
    rows = list(dict.fromkeys(condition for condition, _ in found))
    columns = list(dict.fromkeys(method for _, method in found))
    cells = {place: Text(_smallest(line)) for place, line in found.items()}
    names = {name: _method(reading, name) or budget["axis"] for name in columns}
    others = [axis for axis in reading.axes if axis != budget["axis"]]
    print_grid(console, (" · ".join(others), reading.axis), _said(rows), names, cells)


def _unknown(line: Mapping[str, Any]) -> bool:
    """Tell whether a budget that may do it, and is smaller than the one that does, has no figure."""
    return bool(line.get("unknown"))


def _smallest(line: Mapping[str, Any]) -> str:
    if line["budget"] is None:
        return "?" if _unknown(line) else "–"
    return ("≤ " if _unknown(line) else "") + f"{line['budget']:g}"


def _costs(console: Console, costs: Mapping[str, Any] | None, reading: Reading) -> None:
    rows = costs["rows"] if costs else []
    lines = []
    for method in reading.methods:
        own = [row for row in rows if reading.place(row["labels"])[1] == method]
        if not own:
            continue
        seconds, aggregation, memory = (
            [row[key] for row in own if row.get(key) is not None]
            for key in ("seconds", "aggregation_s", "defence_mib")
        )
        lines.append(
            [
                _method(reading, method) or "all",
                f"{fmean(seconds):.1f}" if seconds else "–",
                f"{1000 * fmean(aggregation):.1f}" if aggregation else "–",
                f"{max(memory):.1f}" if memory else "–",
            ]
        )
    if lines:
        _heading(console, "Costs", "means over the conditions; of memory the most")
        print_lines(
            console,
            [reading.axis, "seconds a run", "aggregation, ms a round", "its extra memory, MiB"],
            lines,
        )


def _missing(console: Console, results: Results, reading: Reading) -> None:
    """Say which cells are missing, those of a row with the same fate in one sentence."""
    sentences = []
    for whose, gaps in (
        ("", results["missing"]),
        ("clean baseline of ", results.get("missing_baselines", ())),
    ):
        for (labels, error), cells in groupby(gaps, key=lambda cell: (cell["labels"], cell["error"])):
            seeds = [str(cell["seed"]) for cell in cells]
            condition, method = reading.place(labels)
            where = " · ".join([*condition, *filter(None, [method])])
            fate = "not run yet." if error is None else f"failed: {error}"
            sentences.append(f"{whose}{where}, seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}: {fate}")
    if sentences:
        gone = results["missing"]
        what = (
            several(len(gone), "cell")
            if gone
            else several(len(results["missing_baselines"]), "clean baseline")
        )
        _heading(console, f"Missing: {what}")
    for sentence in sentences[:_MISSING]:
        console.print(Text(sentence))
    if len(sentences) > _MISSING:
        console.print(Text(f"And {len(sentences) - _MISSING} more like these: see 'missing' in suite.json."))


def _heading(console: Console, title: str, about: str = "") -> None:
    console.print()
    console.print(Text.assemble((title[:1].upper() + title[1:], "bold"), f" ({about})" if about else ""))


def _print_grid(
    console: Console,
    reading: Reading,
    cell: Callable[[Condition, str], Text],
    key: str,
    methods: Sequence[str] | None = None,
) -> None:
    methods = reading.methods if methods is None else methods
    cells = {(row, name): cell(row, name) for row in reading.conditions for name in methods}
    names = {name: _method(reading, name) or _name(reading, key) for name in methods}
    print_grid(console, (_axes(reading), reading.axis), _said(reading.conditions), names, cells)


def _axes(reading: Reading) -> str:
    return " · ".join(reading.axes)


def _said(conditions: Sequence[Condition]) -> dict[Condition, str]:
    return {condition: " · ".join(condition) or "all" for condition in conditions}


def _method(reading: Reading, name: str) -> str:
    """Return a method's name with the signs of the caveats that all its rows have."""
    return name + _signs(reading, reading.common_caveats(name))


def _signs(reading: Reading, caveats: Sequence[str]) -> str:
    return "".join(reading.signs[caveat] for caveat in caveats)


def _name(reading: Reading, key: str) -> str:
    if key not in reading.metrics:
        return key
    metric = reading.metrics[key]
    return str(metric["name"]) + {"percent": " (%)", "points": " (points)"}.get(metric["unit"], "")


def _unit(reading: Reading, key: str) -> str:
    return str(reading.metrics[key]["unit"]) if key in reading.metrics else "share"


def _mean_over(reading: Reading, method: str, key: str) -> float | None:
    means = [reading.spread(condition, method, key)["mean"] for condition in reading.conditions]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else None


def _rank(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:.3g}"


def _p(p: float) -> str:
    return f"< {_LOWEST_P}" if p < _LOWEST_P else f"{p:.2g}"

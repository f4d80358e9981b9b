"""What a suite's page says before its tables: who does best, how sure that is, what it costs, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedrobust.reports.suite_view import SuiteView, digits, interval_text, join
from fedrobust.reports.tables import number

__all__ = ["average_cost", "facts", "headline", "smallest_p"]

Entry = Mapping[str, Any]

#: Fewer seeds give no interval.
ENOUGH = 3

#: What a p-value is held against.
LEVEL = 0.05


def headline(view: SuiteView) -> str:
    """Return the page's headline: who leaves most in the worst case and on average."""
    worst, mean = _best(view, "worst"), _best(view, "mean")
    if not worst or not mean:
        return f"No {view.contender_axis} can be ranked: {_why_unranked(view)}"
    seen = "" if view.seeds >= ENOUGH else f"Seen with {_seeds(view.seeds)} only, so it may be chance: "
    does = f"{'leaves' if len(worst) == 1 else 'leave'} the most {_measure(view)}"
    lowest, average = _text(view, worst[0]["worst"]), _text(view, mean[0]["mean"])
    if len(view.conditions) == 1:
        return f"{seen}{_names(worst)} {does} ({lowest})."
    under = f", under {worst[0]['worst_under']}" if worst[0].get("worst_under") else ""
    if _names(worst) == _names(mean):
        both = f"in the worst case ({lowest}{under}) and on average ({average})"
        return f"{seen}{_names(worst)} {does} {both}."
    than = "" if mean[0]["label"] in {entry["label"] for entry in worst} else "; on average it is "
    on_average = (
        f"{than}{_names(mean)} ({average})" if than else f"; on average so does {_names(mean)} ({average})"
    )
    return f"{seen}{_names(worst)} {does} in the worst case ({lowest}{under}){on_average}."


def facts(view: SuiteView) -> list[tuple[str, str]]:
    """Return what stands below the headline: a word, and what is to be said of it."""
    winners = _best(view, "worst")
    found = [("How sure", _certainty(view, winners[0]))] if winners else []
    if winners:
        found.append(("What it costs", _cost(view, winners[0]["label"])))
    bounds = [entry for entry in view.results["ranking"] if entry.get("marks") and entry["worst"] is not None]
    if bounds:
        reached = (
            f"{entry['label']} {_text(view, entry['worst'])} (mean {_text(view, entry['mean'])})"
            for entry in bounds
        )
        found.append(
            ("Bounds", f"Marked, and no winner whatever it reaches: {join(reached)} in the worst case.")
        )
    gaps = _gaps(view)
    if gaps:
        found.append(("Incomplete", gaps))
    return found


def smallest_p(seeds: int) -> float:
    """Return the smallest p that a two-sided sign-flip test over so many seeds can give."""
    return float(2.0 ** (1 - seeds))


def average_cost(view: SuiteView, contender: str, key: str) -> float | None:
    """Return a contender's cost over the conditions: mean of the seconds, largest of the memory."""
    rows = [row for row in view.costs if str(row["labels"].get(view.contender_axis)) == contender]
    known = [row[key] for row in rows if row.get(key) is not None]
    if not known:
        return None
    return float(max(known) if key == "defence_mib" else fmean(known))


def _best(view: SuiteView, key: str) -> list[Entry]:
    """Return the unmarked contenders with the highest figure; several if they tie."""
    known = [entry for entry in view.results["ranking"] if entry[key] is not None and not entry.get("marks")]
    top = max((entry[key] for entry in known), default=None)
    return [entry for entry in known if entry[key] == top]


def _why_unranked(view: SuiteView) -> str:
    if not any(cell["run"] for row in view.results["rows"] for cell in row["cells"]):
        return "no cell is finished."
    return "every row that has figures is marked."


def _certainty(view: SuiteView, winner: Entry) -> str:
    if view.seeds < ENOUGH:
        return (
            f"Not known. {_seeds(view.seeds).capitalize()} give{'s' if view.seeds == 1 else ''} no interval and no test; "
            f"the suite needs at least {ENOUGH}."
        )
    own = _worst_figure(view, winner)
    interval = interval_text(own, _unit(view)) if own else ""
    where = "its worst case" if len(view.conditions) > 1 else f"its {_measure(view)}"
    said = (
        f"Over {view.seeds} seeds the 95 % interval of {where} is {interval}."
        if interval
        else f"{where[0].upper()}{where[1:]} has no interval, since fewer than {ENOUGH} of its seeds are finished."
    )
    return " ".join(filter(None, (said, _against_next(view, winner, own), _against_reference(view, winner))))


def _against_next(view: SuiteView, winner: Entry, own: Mapping[str, Any] | None) -> str:
    others = [
        e
        for e in view.results["ranking"]
        if not e.get("marks") and e["worst"] is not None and e is not winner
    ]
    if not others:
        return ""
    following = max(others, key=lambda entry: float(entry["worst"]))
    figure = _worst_figure(view, following)
    said = f"The next, {following['label']}, reaches {_text(view, following['worst'])}"
    interval = interval_text(figure, _unit(view)) if figure else ""
    if not interval or not own or own["low"] is None or figure is None:
        return f"{said}."
    apart = own["low"] > figure["high"]
    return f"{said} ({interval}): " + (
        "the intervals do not overlap." if apart else "the intervals overlap, so their order is not certain."
    )


def _against_reference(view: SuiteView, winner: Entry) -> str:
    """Return the difference to the reference where the reference does worst."""
    reference = view.results["reference"]
    if reference is None:
        return ""
    if winner["label"] == reference:
        return f"It is {reference} itself, which the others are held against."
    own = next((entry for entry in view.results["ranking"] if entry["label"] == reference), None)
    found = next(
        (
            pair
            for pair in view.results["comparisons"]
            if own is not None
            and pair["metric"] == view.main
            and str(pair["labels"][view.contender_axis]) == winner["label"]
            and " · ".join(view.condition(pair["labels"])) == (own.get("worst_under") or "")
        ),
        None,
    )
    if found is None or found["difference"] is None:
        return ""
    where = (
        f"Where {reference} does worst (under {own['worst_under']}) it"
        if own and own.get("worst_under")
        else "It"
    )
    way = "above" if found["difference"] >= 0 else "below"
    size = number(abs(found["difference"]), digits(_unit(view)))
    interval = interval_text(found, _unit(view))
    spread = f" (interval of the difference {interval})" if interval else ""
    said = f"{where} stands {size} {way} {reference}{spread}"
    return f"{said}; {_test(found)}" if found.get("p_holm") is not None else f"{said}."


def _test(pair: Mapping[str, Any]) -> str:
    held = number(float(pair["p_holm"]), 3)
    if smallest_p(pair["seeds"]) > LEVEL:
        least = number(smallest_p(pair["seeds"]))
        return f"Holm p {held}, but with {pair['seeds']} seeds no p falls below {least}: the test cannot decide it."
    word = "below" if pair["p_holm"] < LEVEL else "not below"
    return f"Holm p {held}, {word} {LEVEL}."


def _cost(view: SuiteView, contender: str) -> str:
    seconds = average_cost(view, contender, "aggregation_s")
    if seconds is None:
        return "Not recorded."
    said = f"{_duration(seconds)} of aggregation a round"
    reference = view.results["reference"]
    if reference is not None and reference != contender:
        base = average_cost(view, reference, "aggregation_s")
        said += (
            f", {number(seconds / base, 1)} times what {reference} takes ({_duration(base)})" if base else ""
        )
    memory = average_cost(view, contender, "defence_mib")
    return said + (
        f"; at most {number(memory, 1)} MiB more memory." if memory is not None else "; memory not recorded."
    )


def _duration(seconds: float) -> str:
    return f"{number(1000 * seconds, 1)} ms" if seconds < 1 else f"{number(seconds, 2)} s"


def _gaps(view: SuiteView) -> str:
    missing = view.results["missing"]
    if not missing:
        return ""
    cells = sum(len(row["cells"]) for row in view.results["rows"])
    said = [f"{len(missing)} of {cells} cells are missing; means are over the seeds that are there."]
    for contender in view.contenders:
        without = [
            condition
            for condition in view.conditions
            if (condition, contender) in view.rows
            and view.figure(condition, contender, view.main)["mean"] is None
        ]
        if without:
            under = (
                join(" · ".join(condition) for condition in without)
                if len(without) < 4
                else f"{len(without)} conditions"
            )
            said.append(f"{contender} has no figure under {under}, which its mean and worst case leave out.")
    return " ".join(said)


def _worst_figure(view: SuiteView, entry: Entry) -> Mapping[str, Any] | None:
    under = entry.get("worst_under") or ""
    found = [condition for condition in view.conditions if " · ".join(condition) == under]
    return view.figure(found[0], entry["label"], view.main) if found else None


def _names(entries: Sequence[Entry]) -> str:
    return join(str(entry["label"]) for entry in entries)


def _unit(view: SuiteView) -> str:
    return str(view.metrics[view.main]["unit"]) if view.main else "share"


def _measure(view: SuiteView) -> str:
    return str(view.metrics[view.main]["name"]) if view.main else "accuracy"


def _text(view: SuiteView, value: float | None) -> str:
    return number(value, digits(_unit(view)))


def _seeds(count: int) -> str:
    return {1: "one seed", 2: "two seeds"}.get(count, f"{count} seeds")

"""What a suite's page says before its tables: which method is best, with which certainty, at what cost."""

from __future__ import annotations

from collections.abc import Sequence

from fedrobust.reports.suite.reading import ENOUGH, LEVEL, smallest_p
from fedrobust.reports.suite.view import SuiteView, interval_text, join, text
from fedrobust.reports.tables import number, probability
from fedrobust.results.suite_records import Comparison, Estimate, RankingEntry

__all__ = ["facts", "headline"]


def headline(view: SuiteView) -> str:
    """Return the headline: the best method in the worst case and on average, and whether it may be chance."""
    worst, mean = _best(view, "worst"), _best(view, "mean")
    if not worst or not mean:
        return f"No {view.method_axis} can be ranked: {_why_unranked(view)}"
    seen = "" if view.seeds >= ENOUGH else f"Seen with {_seeds(view.seeds)} only, so it may be chance: "
    lowest, average = _text(view, worst[0].worst), _text(view, mean[0].mean)
    under = f", under {worst[0].worst_under}" if worst[0].worst_under else ""
    if len(view.conditions) == 1:
        where = f"({lowest})"
    elif _names(worst) == _names(mean):
        where = f"in the worst case ({lowest}{under}) and on average ({average})"
    else:
        where = f"in the worst case ({lowest}{under}), {_names(mean)} on average ({average})"
    return f"{seen}{_names(worst)} {_does(view, len(worst))} {where}.{_lead(view, worst)}"


def _lead(view: SuiteView, worst: Sequence[RankingEntry]) -> str:
    following, apart = _next(view, worst[0])
    if following is None or apart is None or len(worst) > 1:
        return ""
    where = "" if len(view.conditions) == 1 else "worst-case "
    return (
        f" Its {where}lead over {following.label} is {'outside' if apart else 'within'} the 95 % intervals."
    )


def facts(view: SuiteView) -> list[tuple[str, list[str]]]:
    """Return the facts below the headline: a term, and its sentences."""
    winners = _best(view, "worst")
    found = [("Certainty", _certainty(view, winners[0]))] if winners else []
    if winners:
        found.append(("Cost", [_cost(view, winners[0].label)]))
    unranked = [
        f"{entry.label}: {_reached(view, entry)}not ranked, {'; '.join(entry.caveats)}."
        for entry in view.results.ranking
        if not entry.ranked
    ]
    if unranked:
        found.append(("Not ranked", unranked))
    gaps = _gaps(view)
    if gaps:
        found.append(("Incomplete", gaps))
    return found


def _reached(view: SuiteView, entry: RankingEntry) -> str:
    if entry.worst is None:
        return ""
    return f"{_text(view, entry.worst)} in the worst case, {_text(view, entry.mean)} on average; "


def _best(view: SuiteView, key: str) -> list[RankingEntry]:
    """Return the methods with the first rank by ``worst`` case or by ``mean``; several if they tie."""
    ranks = {
        entry.label: entry.rank_by_worst if key == "worst" else entry.rank_by_mean for entry in _ranked(view)
    }
    first = min((rank for rank in ranks.values() if rank is not None), default=None)
    return [entry for entry in _ranked(view) if first is not None and ranks[entry.label] == first]


def _ranked(view: SuiteView) -> list[RankingEntry]:
    return [entry for entry in view.results.ranking if entry.ranked]


def _why_unranked(view: SuiteView) -> str:
    if not any(cell.run for row in view.results.rows for cell in row.cells):
        return "no cell is finished."
    if not view.results.ranking:
        return "nothing is compared in this suite."
    return "each lacks a condition or has a caveat that rules it out."


def _certainty(view: SuiteView, winner: RankingEntry) -> list[str]:
    if view.seeds < ENOUGH:
        give = "gives" if view.seeds == 1 else "give"
        return [f"Not known: {_seeds(view.seeds)} {give} no interval and no test. Take at least {ENOUGH}."]
    own = _worst_estimate(view, winner)
    interval = interval_text(own, view.unit) if own else ""
    where = "its worst case" if len(view.conditions) > 1 else f"its {view.measure}"
    sentence = (
        f"Over {view.seeds} seeds the 95 % interval of {where} is {interval}."
        if interval
        else f"{where[0].upper()}{where[1:]} has no interval: fewer than {ENOUGH} of its seeds are finished."
    )
    return [*filter(None, (sentence, _against_next(view, winner), _against_reference(view, winner)))]


def _against_next(view: SuiteView, winner: RankingEntry) -> str:
    following, apart = _next(view, winner)
    if following is None:
        return ""
    estimate = _worst_estimate(view, following)
    interval = interval_text(estimate, view.unit) if estimate else ""
    sentence = f"The next, {following.label}, reaches {_text(view, following.worst)}"
    if apart is None:
        return f"{sentence}."
    order = "do not overlap" if apart else "overlap, so their order is not certain"
    return f"{sentence} ({interval}): the intervals {order}."


def _next(view: SuiteView, winner: RankingEntry) -> tuple[RankingEntry | None, bool | None]:
    """Return the next best in the worst case, and whether the intervals lie apart; None if there are none."""
    others = [entry for entry in _ranked(view) if entry.worst is not None and entry is not winner]
    if not others:
        return None, None
    following = min(others, key=lambda entry: entry.rank_by_worst or 0.0)
    own, other = (_worst_estimate(view, entry) or Estimate() for entry in (winner, following))
    if own.low is None or own.high is None or other.low is None or other.high is None:
        return following, None
    return following, own.low > other.high or own.high < other.low


def _against_reference(view: SuiteView, winner: RankingEntry) -> str:
    """Return the difference to the reference where the reference does worst."""
    reference = view.results.reference
    if winner.label == reference:
        return f"It is {reference} itself, the reference."
    own = next((entry for entry in view.results.ranking if entry.label == reference), None)
    found = _compared(view, winner.label, own.worst_under or "") if own else None
    if own is None or found is None:
        return ""
    where = f"Where {reference} does worst (under {own.worst_under}) it" if own.worst_under else "It"
    way = "above" if found.difference >= 0 else "below"
    interval = interval_text(found, view.unit)
    estimate = f" (interval of the difference {interval})" if interval else ""
    sentence = f"{where} is {_text(view, abs(found.difference))} {way} {reference}{estimate}"
    return f"{sentence}; {_test(found)}" if found.p_holm is not None else f"{sentence}."


def _compared(view: SuiteView, method: str, under: str) -> Comparison | None:
    """Return the comparison of a method with the reference under a condition; None if there is none."""
    for pair in view.results.comparisons:
        place = (pair.metric, view.method(pair.labels), " · ".join(view.condition(pair.labels)))
        if place == (view.main, method, under) and pair.difference is not None:
            return pair
    return None


def _test(pair: Comparison) -> str:
    p = pair.p_holm or 0.0
    held = probability(p)
    if smallest_p(pair.seeds) > LEVEL:
        least = number(smallest_p(pair.seeds))
        limit = f"with {pair.seeds} seeds no p can fall below {least}"
        return f"Holm p {held}, but {limit}: the test is not decisive."
    word = "below" if p < LEVEL else "not below"
    return f"Holm p {held}, {word} {LEVEL}."


def _cost(view: SuiteView, method: str) -> str:
    seconds = view.cost(method, "aggregation_s")
    if seconds is None:
        return "Not recorded."
    sentence = f"{_duration(seconds)} of aggregation a round"
    reference = view.results.reference
    if reference is not None and reference != method:
        base = view.cost(reference, "aggregation_s")
        sentence += (
            f", {number(seconds / base, 1)} times what {reference} takes ({_duration(base)})" if base else ""
        )
    memory = view.cost(method, "defence_mib")
    return sentence + (
        f"; at most {number(memory, 1)} MiB more memory." if memory is not None else "; memory not recorded."
    )


def _duration(seconds: float) -> str:
    return f"{number(1000 * seconds, 1)} ms" if seconds < 1 else f"{number(seconds, 2)} s"


def _gaps(view: SuiteView) -> list[str]:
    missing = view.results.missing
    if not missing:
        return []
    cells = sum(len(row.cells) for row in view.results.rows)
    found = [f"{len(missing)} of {cells} cells are missing; means are over the finished seeds."]
    for entry in view.results.ranking:
        places = [(condition, entry.label) for condition in view.conditions]
        empty = [
            c for c, label in places if (c, label) in view.rows and view.main_spread(c, label).mean is None
        ]
        if empty:
            under = (
                join(" · ".join(condition) for condition in empty)
                if len(empty) < 4
                else f"{len(empty)} conditions"
            )
            so = "so it is not ranked" if entry.worst is None else "which its mean and worst case exclude"
            found.append(f"{entry.label} has no value under {under}, {so}.")
    return found


def _worst_estimate(view: SuiteView, entry: RankingEntry) -> Estimate | None:
    under = entry.worst_under or ""
    found = [condition for condition in view.conditions if " · ".join(condition) == under]
    return view.main_spread(found[0], entry.label) if found else None


def _names(entries: Sequence[RankingEntry]) -> str:
    return join(str(entry.label) for entry in entries)


def _text(view: SuiteView, value: float | None) -> str:
    return text(value, view.unit)


def _does(view: SuiteView, many: int) -> str:
    """Return what the best methods do: "keeps the most accuracy"."""
    if view.sign < 0:
        return f"{'has' if many == 1 else 'have'} the lowest {view.measure}"
    return f"{'keeps' if many == 1 else 'keep'} the most {view.measure}"


def _seeds(count: int) -> str:
    return {1: "one seed", 2: "two seeds"}.get(count, f"{count} seeds")

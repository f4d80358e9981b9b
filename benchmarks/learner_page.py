"""The page docs/learner-results.md, from the metrics that benchmarks/learner.py measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.pages import prose, row, table_head
from fedrobust.evaluation.statistics import bootstrap_interval

__all__ = ["Found", "Key", "Plan", "differences", "page", "values"]

#: What a run is about: data, partition, row, seed; and its metrics by name.
Key = tuple[str, str, str, int]
Found = Mapping[Key, Mapping[str, float]]

#: The metrics of the tables, and their names there; those of accuracy first, then the calibration error.
SHOWN = {"accuracy": "accuracy", "macro_f1": "macro F1", "worst_class": "worst class", "ece": "ECE"}


class Plan:
    """What was compared.

    Parameters
    ----------
    rows : mapping of str to sequence of str
        Each data set's rows, the baseline first.
    partitions, fits : sequence of str
    pair : str
        The row of the default learner.
    seeds : sequence of int
    rounds : int
    """

    def __init__(
        self,
        *,
        rows: Mapping[str, Sequence[str]],
        partitions: Sequence[str],
        fits: Sequence[str],
        pair: str,
        seeds: Sequence[int],
        rounds: int,
    ) -> None:
        """Keep the plan."""
        self.rows, self.partitions, self.fits = rows, partitions, fits
        self.pair, self.seeds, self.rounds = pair, seeds, rounds

    def conditions(self) -> Iterable[tuple[str, str]]:
        """Yield each data set with each partition."""
        return ((name, partition) for name in self.rows for partition in self.partitions)


def values(
    found: Found, seeds: Sequence[int], condition: tuple[str, str], of: str, metric: str
) -> list[float]:
    """Return a row's metric by seed, of the seeds that are done."""
    runs = (found.get((*condition, of, seed)) for seed in seeds)
    return [run[metric] for run in runs if run is not None]


def differences(
    found: Found, plan: Plan, condition: tuple[str, str], metric: str, of: str | None = None
) -> list[float]:
    """Return a row's metric, the pair's unless another is named, minus the baseline's, seed by seed."""
    baseline = plan.rows[condition[0]][0]
    both = (
        (found.get((*condition, of or plan.pair, seed)), found.get((*condition, baseline, seed)))
        for seed in plan.seeds
    )
    return [pair[metric] - other[metric] for pair, other in both if pair is not None and other is not None]


def page(found: Found, plan: Plan) -> str:
    """Return the page in Markdown."""
    lines = ["# The learner: what `make reproduce-learner` printed", ""]
    lines += prose(
        f"FedAvg, 10 honest hospitals, {plan.rounds} rounds of 2 local epochs, {len(plan.seeds)} seeds, "
        "images of 28 x 28 pixels; means over the last three rounds, on the clean test images. ECE: of "
        "the last model after temperature scaling. Constants were chosen on brain and chest with other "
        "seeds; nothing was chosen on breast and pneumonia. The long tail (`--imbalance 20`): of the "
        "rarest class a twentieth as many training and validation images as of the commonest, the test "
        "part as it is. What follows from it: [learner.md](learner.md). Words: "
        "[glossary.md](glossary.md)."
    )
    parts = {
        "The pair against the baseline": _compared(found, plan),
        "All rows": _rows(found, plan),
        "What the server may fit": _fits(found, plan),
    }
    for title, part in parts.items():
        lines += ["", f"## {title}", "", *part]
    return "\n".join(lines) + "\n"


def _compared(found: Found, plan: Plan) -> list[str]:
    lines = prose("Differences, paired by seed, with 95 % bootstrap intervals.")
    lines += ["", *table_head(["data", "partition", *SHOWN.values()])]
    for condition in plan.conditions():
        series = (differences(found, plan, condition, metric) for metric in SHOWN)
        lines.append(row([*condition, *map(_difference, series)]))
    return lines


def _rows(found: Found, plan: Plan) -> list[str]:
    lines = prose(
        "In brackets the ECE before temperature scaling. Chance: the ECE that exact probabilities would show "
        "on so few images. The last column is macro F1 minus the baseline's with the same seeds."
    )
    lines += [
        "",
        *table_head(["data", "partition", "row", "seeds", *SHOWN.values(), "chance", "F1 to baseline"]),
    ]
    for condition in plan.conditions():
        for of in plan.rows[condition[0]]:
            metrics = (*SHOWN, "raw_ece", "chance_ece")
            *shown, raw, chance = (_mean(values(found, plan.seeds, condition, of, one)) for one in metrics)
            shown[-1] += f" ({raw})"
            seeds = len(values(found, plan.seeds, condition, of, "accuracy"))
            more = differences(found, plan, condition, "macro_f1", of)
            lines.append(row([*condition, of, seeds, *shown, chance, _signed(more)]))
    return lines


def _fits(found: Found, plan: Plan) -> list[str]:
    lines = prose(
        "The last model after four fits on the validation images: none; the scale b of temperature scaling "
        "(p^b), which every run has; b and a bias for each class, with penalty 1e-3 |w|^2; and the same with "
        "class-balanced weights. Accuracy / macro F1 / worst class / ECE."
    )
    lines += ["", *table_head(["data", "partition", "row", *plan.fits])]
    for condition in plan.conditions():
        for of in (plan.rows[condition[0]][0], plan.pair):
            cells = [_four(found, plan, condition, of, fit) for fit in plan.fits]
            lines.append(row([*condition, of, *cells]))
    return lines


def _four(found: Found, plan: Plan, condition: tuple[str, str], of: str, fit: str) -> str:
    return " / ".join(_mean(values(found, plan.seeds, condition, of, f"{fit}: {m}")) for m in SHOWN)


def _mean(series: Sequence[float]) -> str:
    return _short(f"{statistics.mean(series):.3f}") if series else "–"


def _signed(series: Sequence[float]) -> str:
    return _short(f"{statistics.mean(series):+.3f}") if series else "–"


def _difference(series: Sequence[float]) -> str:
    if not series:
        return "–"
    ends = bootstrap_interval(series) or ()
    interval = ", ".join(_short(f"{end:.3f}") for end in ends)
    return _signed(series) + (f" [{interval}]" if interval else "")


def _short(number: str) -> str:
    return number.replace("0.", ".", 1)

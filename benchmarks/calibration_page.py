"""The page of `benchmarks/calibration.py`: means over seeds with intervals, and ranks of all rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.pages import escaped, prose, row, table_head

OURS = "isolation-forest"


class Key(NamedTuple):
    """Which table a run belongs to, and where in it."""

    table: str
    data: str
    partition: str
    attack: str
    strategy: str
    seed: int


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run.

    Attributes
    ----------
    accuracy : float
    auroc, false_flags, lightest, success : float or None
        None where undefined; `lightest` is the lowest weight of an honest hospital, in multiples of the
        uniform weight; `success` is the attack success rate.
    """

    accuracy: float
    auroc: float | None
    false_flags: float | None
    lightest: float | None
    success: float | None


Rows = Mapping[Key, RunMetrics]
#: Data, attack and seed.
Federation = tuple[str, str, int]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval (Student's t); NaN with fewer than 3 values."""
    from scipy.stats import t

    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 3:
        return mean, math.nan
    return mean, float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def ranks(scores: Mapping[str, float]) -> dict[str, float]:
    """Return each name's rank, 1 for the highest score; ties share the mean of their ranks."""
    from scipy.stats import rankdata

    return dict(zip(scores, rankdata([-score for score in scores.values()]).tolist(), strict=True))


def page(found: Rows, about: str, notes: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    found : mapping of Key to RunMetrics
        The finished runs.
    about : str
        What was run, in a sentence.
    notes : str
        Written by hand; included word for word.
    """
    lines = ["# Calibration of the default defence", "", *prose(about), ""]
    lines += prose(
        "Accuracy is the mean of the last three rounds; ± is half a 95 % interval over seeds (Student's t, "
        "three seeds at least). AUROC ranks hospitals by their mean score over the run."
    )
    lines.append("")
    for title, table, write in (
        ("Attacked: two of ten", "attacked", _attacked),
        ("No malicious hospital", "benign", _benign),
        ("Strong label skew: all rules", "skewed", _skewed),
        ("Backdoors", "backdoors", _backdoors),
    ):
        rows = {key: metrics for key, metrics in found.items() if key.table == table}
        lines += [f"## {title}", "", *(write(rows) if rows else ["Not run.", ""])]
    return "\n".join(lines).rstrip() + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def _text(values: Iterable[float | None], digits: int = 3, scale: float = 1.0) -> str:
    known = [scale * value for value in values if value is not None]
    mean, half = interval(known)
    if math.isnan(mean):
        return "—"
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def _of(rows: Rows, **wanted: str) -> dict[int, RunMetrics]:
    """Return the metrics of the runs with these parts of a key, by seed."""
    return {
        key.seed: metrics
        for key, metrics in rows.items()
        if all(getattr(key, name) == value for name, value in wanted.items())
    }


def _short(data: str) -> str:
    return data.removeprefix("medmnist:")


def _attacked(rows: Rows) -> list[str]:
    columns = ("data", "partition", "attack", "seeds", "AUROC", "accuracy", "oracle", "points to the oracle")
    lines = prose(
        "Points to the oracle: accuracy of the oracle (FedAvg over honest hospitals) minus ours, by seed, in "
        "percentage points."
    )
    lines += ["", *table_head([*columns, "false flags, %"])]
    for data, partition, attack in dict.fromkeys((key.data, key.partition, key.attack) for key in rows):
        here = {"data": data, "partition": partition, "attack": attack}
        ours, oracle = _of(rows, **here, strategy=OURS), _of(rows, **here, strategy="oracle")
        gaps = [100 * (oracle[seed].accuracy - ours[seed].accuracy) for seed in ours if seed in oracle]
        cells = [
            _text(one.auroc for one in ours.values()),
            _text(one.accuracy for one in ours.values()),
            _text(one.accuracy for one in oracle.values()),
            _text(gaps, 1),
            _text((one.false_flags for one in ours.values()), 1, 100),
        ]
        lines.append(row([_short(data), partition, attack, len(ours), *cells]))
    return [*lines, ""]


def _benign(rows: Rows) -> list[str]:
    columns = ("data", "federation", "strategy", "seeds", "hospital-rounds flagged, %", "lightest hospital")
    lines = prose(
        "Weights are multiples of the uniform weight (1/10) after the last round. The lightest hospital is "
        "the one with the lowest weight over all seeds."
    )
    lines += ["", *table_head([*columns, "accuracy"])]
    for data, partition, strategy in dict.fromkeys((key.data, key.partition, key.strategy) for key in rows):
        here = _of(rows, data=data, partition=partition, strategy=strategy).values()
        lightest = min((one.lightest for one in here if one.lightest is not None), default=math.nan)
        flagged = _text((one.false_flags for one in here), 2, 100)
        accuracy = _text(one.accuracy for one in here)
        lines.append(
            row([_short(data), partition, strategy, len(here), flagged, f"{lightest:.2f}", accuracy])
        )
    return [*lines, ""]


def _skewed(rows: Rows) -> list[str]:
    """Rank the strategies in each federation that all of them completed."""
    strategies = list(dict.fromkeys(key.strategy for key in rows))
    federations = dict.fromkeys((key.data, key.attack, key.seed) for key in rows)
    complete = [one for one in federations if all(_at(rows, one, strategy) for strategy in strategies)]
    lines = prose(
        f"dirichlet(0.3). {len(complete)} federations (data, attack, seed) that all {len(strategies)} rules "
        "completed; rank 1 is the best rule in a federation."
    )
    if not complete:
        return [*lines, ""]
    accuracy: dict[str, list[float]] = {name: [] for name in strategies}
    auroc: dict[str, list[float]] = {}
    for federation in complete:
        found = {name: one for name in strategies if (one := _at(rows, federation, name)) is not None}
        for name, rank in ranks({name: one.accuracy for name, one in found.items()}).items():
            accuracy[name].append(rank)
        known = {name: one.auroc for name, one in found.items() if one.auroc is not None}
        for name, rank in ranks(known).items():
            auroc.setdefault(name, []).append(rank)
    columns = ("strategy", "accuracy", "mean rank in accuracy", "AUROC", "mean rank in AUROC")
    lines += ["", *table_head([*columns, "accuracy minus FedAvg's, points"])]
    for name in sorted(strategies, key=lambda name: float(np.mean(accuracy[name]))):
        here = [one for federation in complete if (one := _at(rows, federation, name)) is not None]
        plain = [one for federation in complete if (one := _at(rows, federation, "fedavg")) is not None]
        gain = [100 * (one.accuracy - other.accuracy) for one, other in zip(here, plain, strict=False)]
        ranked = f"{np.mean(auroc[name]):.2f}" if name in auroc else "—"
        cells = [_text(one.accuracy for one in here), f"{np.mean(accuracy[name]):.2f}"]
        lines.append(row([name, *cells, _text(one.auroc for one in here), ranked, _text(gain, 1)]))
    return [*lines, "", *_by_attack(rows, complete)]


def _by_attack(rows: Rows, complete: Sequence[Federation]) -> list[str]:
    columns = ("data", "attack", "seeds", "ours", "FedAvg", "difference, points", "AUROC")
    lines = ["Our default defence compared with FedAvg, by attack:", "", *table_head(columns)]
    for data, attack in dict.fromkeys((one[0], one[1]) for one in complete):
        pairs = [
            (ours, plain)
            for one in complete
            if one[:2] == (data, attack)
            and (ours := _at(rows, one, OURS)) is not None
            and (plain := _at(rows, one, "fedavg")) is not None
        ]
        cells = [
            _text(ours.accuracy for ours, _ in pairs),
            _text(plain.accuracy for _, plain in pairs),
            _text((100 * (ours.accuracy - plain.accuracy) for ours, plain in pairs), 1),
            _text(ours.auroc for ours, _ in pairs),
        ]
        lines.append(row([_short(data), attack, len(pairs), *cells]))
    return [*lines, ""]


def _at(rows: Rows, federation: Federation, strategy: str) -> RunMetrics | None:
    data, attack, seed = federation
    return _of(rows, data=data, attack=attack, strategy=strategy).get(seed)


def _backdoors(rows: Rows) -> list[str]:
    lines = prose(
        "Two of ten hospitals stamp half of their images, iid. Attack success rate: stamped test images of "
        "other classes that are classified as the target."
    )
    lines += [
        "",
        *table_head(("data", "strategy", "seeds", "attack success rate", "accuracy", "AUROC")),
    ]
    for data, strategy in dict.fromkeys((key.data, key.strategy) for key in rows):
        here = _of(rows, data=data, strategy=strategy).values()
        cells = [
            _text(one.success for one in here),
            _text(one.accuracy for one in here),
            _text(one.auroc for one in here),
        ]
        lines.append(row([_short(data), escaped(strategy), len(here), *cells]))
    return [*lines, ""]

"""The page of `benchmarks/calibration.py`: means over seeds with intervals, ranks over the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OURS = "isolation-forest"


@dataclass(frozen=True)
class Figures:
    """What one run gave.

    Attributes
    ----------
    accuracy : float
    auroc, false_flags, lightest, success : float or None
        None where the figure has no meaning; `lightest` is the lightest honest hospital's weight in fair shares.
    """

    accuracy: float
    auroc: float | None
    false_flags: float | None
    lightest: float | None
    success: float | None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t; NaN with fewer than 3 values."""
    from scipy.stats import t

    mean = float(np.mean(values)) if len(values) else math.nan
    if len(values) < 3:
        return mean, math.nan
    return mean, float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def ranks(scores: Mapping[str, float]) -> dict[str, float]:
    """Return each name's rank, 1 for the highest score; ties share the mean of their ranks."""
    from scipy.stats import rankdata

    return dict(zip(scores, rankdata([-score for score in scores.values()]).tolist(), strict=True))


def page(found: Mapping[Any, Figures], about: str, notes: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    found : mapping of Key to Figures
        The runs that are finished.
    about : str
        What was run, in a sentence.
    notes : str
        Written by hand; included word for word.
    """
    lines = ["# Calibration of the default defence", "", about, ""]
    lines += [
        "Accuracy is the mean of the last three rounds; ± is half a 95 % interval over seeds (Student's t,",
        "three seeds at least). AUROC ranks hospitals by their mean score over the run.",
        "",
    ]
    for title, table, write in (
        ("Attacked: two of ten", "attacked", _attacked),
        ("No malicious hospital", "benign", _benign),
        ("Strong label skew: all rules", "skewed", _skewed),
        ("Backdoors", "backdoors", _backdoors),
    ):
        rows = {key: figures for key, figures in found.items() if key.table == table}
        lines += [f"## {title}", "", *(write(rows) if rows else ["Not run.", ""])]
    return "\n".join(lines).rstrip() + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def _text(values: Iterable[float | None], digits: int = 3, scale: float = 1.0) -> str:
    known = [scale * value for value in values if value is not None]
    mean, half = interval(known)
    if math.isnan(mean):
        return "—"
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def _places(rows: Mapping[Any, Figures], *names: str) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(getattr(key, name) for name in names) for key in rows))


def _of(rows: Mapping[Any, Figures], **wanted: str) -> dict[int, Figures]:
    """Return seed -> figures of the runs at a place."""
    return {
        key.seed: figures
        for key, figures in rows.items()
        if all(getattr(key, name) == value for name, value in wanted.items())
    }


def _short(data: str) -> str:
    return data.removeprefix("medmnist:")


def _attacked(rows: Mapping[Any, Figures]) -> list[str]:
    lines = [
        "Points to the oracle: accuracy of the oracle (FedAvg over the honest) less ours, by seed, in points.",
        "",
    ]
    lines += [
        "| data | partition | attack | seeds | AUROC | accuracy | oracle | points to the oracle | false flags, % |",
        "|---" * 9 + "|",
    ]
    for data, partition, attack in _places(rows, "data", "partition", "attack"):
        here = {"data": data, "partition": partition, "attack": attack}
        ours, oracle = _of(rows, **here, strategy=OURS), _of(rows, **here, strategy="oracle")
        gaps = [100 * (oracle[seed].accuracy - ours[seed].accuracy) for seed in ours if seed in oracle]
        lines.append(
            f"| {_short(data)} | {partition} | {attack} | {len(ours)} | {_text(f.auroc for f in ours.values())} "
            f"| {_text(f.accuracy for f in ours.values())} | {_text(f.accuracy for f in oracle.values())} "
            f"| {_text(gaps, 1)} | {_text((f.false_flags for f in ours.values()), 1, 100)} |"
        )
    return [*lines, ""]


def _benign(rows: Mapping[Any, Figures]) -> list[str]:
    lines = [
        "Weights in multiples of the uniform weight (a tenth) after the last round; lightest over all seeds.",
        "",
    ]
    lines += [
        "| data | federation | strategy | seeds | hospital-rounds flagged, % | lightest hospital | accuracy |",
        "|---" * 7 + "|",
    ]
    for data, partition, strategy in _places(rows, "data", "partition", "strategy"):
        here = _of(rows, data=data, partition=partition, strategy=strategy).values()
        light = min((f.lightest for f in here if f.lightest is not None), default=math.nan)
        lines.append(
            f"| {_short(data)} | {partition} | {strategy} | {len(here)} | {_text((f.false_flags for f in here), 2, 100)} "
            f"| {light:.2f} | {_text(f.accuracy for f in here)} |"
        )
    return [*lines, ""]


def _skewed(rows: Mapping[Any, Figures]) -> list[str]:
    """Rank over attacks, data and seeds: in each such place every strategy that finished it everywhere competes."""
    strategies = [name for (name,) in _places(rows, "strategy")]
    places = _places(rows, "data", "attack", "seed")
    whole = [
        place for place in places if all(_at(rows, place, strategy) is not None for strategy in strategies)
    ]
    lines = [
        f"dirichlet(0.3). {len(whole)} federations (data, attack, seed) in which all {len(strategies)} rules have",
        "run; rank 1 is the best of them in a federation.",
        "",
    ]
    if not whole:
        return [*lines[:1], ""]
    accuracy: dict[str, list[float]] = {name: [] for name in strategies}
    auroc: dict[str, list[float]] = {}
    for place in whole:
        got = {name: _at(rows, place, name) for name in strategies}
        for name, rank in ranks({name: figures.accuracy for name, figures in got.items() if figures}).items():
            accuracy[name].append(rank)
        told = {name: f.auroc for name, f in got.items() if f is not None and f.auroc is not None}
        for name, rank in ranks({name: value for name, value in told.items() if value is not None}).items():
            auroc.setdefault(name, []).append(rank)
    lines += [
        "| strategy | accuracy | mean rank in accuracy | AUROC | mean rank in AUROC | accuracy less FedAvg's, points |",
        "|---" * 6 + "|",
    ]
    for name in sorted(strategies, key=lambda name: float(np.mean(accuracy[name]))):
        here = [figures for place in whole if (figures := _at(rows, place, name)) is not None]
        plain = [figures for place in whole if (figures := _at(rows, place, "fedavg")) is not None]
        gain = [100 * (one.accuracy - other.accuracy) for one, other in zip(here, plain, strict=False)]
        mine = f"{np.mean(auroc[name]):.2f}" if name in auroc else "—"
        lines.append(
            f"| {name} | {_text(f.accuracy for f in here)} | {np.mean(accuracy[name]):.2f} "
            f"| {_text(f.auroc for f in here)} | {mine} | {_text(gain, 1)} |"
        )
    return [*lines, "", *_by_attack(rows, whole)]


def _by_attack(rows: Mapping[Any, Figures], whole: Sequence[tuple[Any, ...]]) -> list[str]:
    lines = [
        "Ours beside FedAvg, attack by attack:",
        "",
        "| data | attack | seeds | ours | FedAvg | difference, points | AUROC |",
        "|---" * 7 + "|",
    ]
    for data, attack in dict.fromkeys((place[0], place[1]) for place in whole):
        pairs = [
            (ours, plain)
            for place in whole
            if place[:2] == (data, attack)
            and (ours := _at(rows, place, OURS)) is not None
            and (plain := _at(rows, place, "fedavg")) is not None
        ]
        lines.append(
            f"| {_short(data)} | {attack} | {len(pairs)} | {_text(a.accuracy for a, _ in pairs)} "
            f"| {_text(b.accuracy for _, b in pairs)} | {_text((100 * (a.accuracy - b.accuracy) for a, b in pairs), 1)} "
            f"| {_text(a.auroc for a, _ in pairs)} |"
        )
    return [*lines, ""]


def _at(rows: Mapping[Any, Figures], place: tuple[Any, ...], strategy: str) -> Figures | None:
    data, attack, seed = place
    return _of(rows, data=data, attack=attack, strategy=strategy).get(seed)


def _backdoors(rows: Mapping[Any, Figures]) -> list[str]:
    lines = [
        "Two of ten stamp half of their images, iid. Success: stamped test images of other classes",
        "that are classified as the target.",
        "",
    ]
    lines += ["| data | strategy | seeds | attack success rate | accuracy | AUROC |", "|---" * 6 + "|"]
    for data, strategy in _places(rows, "data", "strategy"):
        here = _of(rows, data=data, strategy=strategy).values()
        lines.append(
            f"| {_short(data)} | {strategy.replace('|', '&#124;')} | {len(here)} | {_text(f.success for f in here)} "
            f"| {_text(f.accuracy for f in here)} | {_text(f.auroc for f in here)} |"
        )
    return [*lines, ""]

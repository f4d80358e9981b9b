"""The page of `benchmarks/generalisation.py`: ranks of all methods, paired differences, and detection."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.generalisation_plan import (
    ADAPTIVE_METHODS,
    BACKDOORS,
    BENIGN,
    DATA,
    HELD_OUT,
    METHODS,
    NONE,
    OURS,
    TUNED,
    Federation,
    Key,
)
from benchmarks.pages import escaped, interval, prose, row, table_head
from fedrobust.evaluation.statistics import ranks
from fedrobust.results.suite_table import merge_ties

#: Threats that are looked at together; the rest are updates that an attack has changed.
GROUPS = {
    NONE: "nobody malicious",
    "other-scanner": "atypical, nobody malicious",
    "single-class": "atypical, nobody malicious",
    "label-flip": "false labels",
    "label-flip(mode='look-alike')": "false labels",
    "label-flip + forge-loss": "false reports",
    "label-flip + play-odd": "false reports",
    "one-class-liar": "false reports",
    "backdoor": "backdoors",
    "dba": "backdoors",
}
#: The best plain rules: the default defence should be below neither.
PLAIN = ("fedavg", "centered-clipping")


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run; None where undefined.

    Attributes
    ----------
    accuracy, balanced_accuracy, macro_f1 : float
        Means of the last three rounds.
    success : float or None
        Attack success rate, over the same rounds.
    auroc, recall : float or None
        Of detection: over the run, and in the last round.
    attackers : float or None
        A malicious hospital's mean weight in the last round, in multiples of the uniform weight.
    flagged : float or None
        Share of honest hospital-rounds that are flagged.
    lightest : float or None
        The lowest weight of an honest hospital in the last round, in multiples of the uniform weight.
    lost : float or None
        Honest hospitals below half of the uniform weight and below half of their share of the images.
    spread : float or None
        Standard deviation over rounds of an honest hospital's weight in uniform weights, mean over hospitals.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    success: float | None = None
    auroc: float | None = None
    recall: float | None = None
    attackers: float | None = None
    flagged: float | None = None
    lightest: float | None = None
    lost: float | None = None
    spread: float | None = None


#: The runs of a federation, by method.
Methods = Mapping[str, RunMetrics]
Compared = Mapping[Federation, Methods]


def page(found: Mapping[Key, RunMetrics], planned: Sequence[Key], notes: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    found : mapping of Key to RunMetrics
        The finished runs.
    planned : sequence of Key
        All runs, in the order in which they are made.
    notes : str
        Written by hand; included word for word.
    """
    every = {part: _by_federation(found, planned, part) for part in ("grid", "adaptive", "backdoors")}
    grid = {one: here for one, here in every["grid"].items() if all(name in here for name in METHODS)}
    lines = ["# The default defence where it was never tuned", "", *prose(_about(planned, found, grid)), ""]
    lines += prose(
        "± is half a 95 % interval over federations (Student's t, three at least). Accuracies are means of "
        "the last three rounds. Weights are multiples of the uniform weight. Words: "
        "[glossary.md](glossary.md)."
    )
    lines.append("")
    for title, write, compared in (
        ("Ranks of all methods", _ranks, grid),
        ("Compared with the better plain rule", _groups, grid),
        ("No malicious hospital", _benign, grid),
        ("Detection", _detection, grid),
        ("Backdoors", _backdoors, grid),
        ("Backdoors on the tuned data", _tuned_backdoors, every["backdoors"]),
        ("Attackers who know the rule", _adaptive, every["adaptive"]),
    ):
        lines += [f"## {title}", "", *(write(compared) if compared else ["Not run."]), ""]
    return "\n".join(lines).rstrip() + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def rank_table(compared: Compared, metric: str) -> dict[str, list[float]]:
    """Return each method's rank in each federation, 1 for the best, by the rule of a suite's tables."""
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for here in compared.values():
        values = merge_ties([getattr(here[name], metric) for name in METHODS])
        for name, rank in zip(METHODS, ranks(values, higher_is_better=True), strict=True):
            found[name].append(rank or math.nan)
    return found


def _about(planned: Sequence[Key], found: Mapping[Key, RunMetrics], grid: Compared) -> str:
    parts = {
        part: (sum(key.part == part for key in found), sum(key.part == part for key in planned))
        for part in ("grid", "adaptive", "backdoors")
    }
    federations = len({key.federation for key in planned if key.part == "grid"})
    return (
        f"What `make reproduce-generalisation` printed: 10 hospitals, one network, one local epoch, images "
        f"of 28 x 28. Finished are {parts['grid'][0]} of the {parts['grid'][1]} runs of the grid, "
        f"{parts['adaptive'][0]} of {parts['adaptive'][1]} with adaptive attackers and "
        f"{parts['backdoors'][0]} of {parts['backdoors'][1]} with backdoors on the tuned data. The grid's "
        f"tables show the {len(grid)} of {federations} federations (data, threat, number of malicious "
        f"hospitals, partition, rounds, seed) that all {len(METHODS)} methods completed; their order is that "
        f"of a balanced sample. The constants of the default defence were fixed on "
        f"{' and '.join(map(_short, TUNED))}; held out are {', '.join(map(_short, HELD_OUT))}."
    )


def _by_federation(found: Mapping[Key, RunMetrics], planned: Iterable[Key], part: str) -> Compared:
    compared: dict[Federation, dict[str, RunMetrics]] = {}
    for key in planned:
        if key.part == part and key in found:
            compared.setdefault(key.federation, {})[key.method] = found[key]
    return compared


def _text(values: Iterable[float | None], digits: int = 3, scale: float = 1.0) -> str:
    mean, half = interval([scale * value for value in values if value is not None])
    if math.isnan(mean):
        return "—"
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def _mean(values: Iterable[float | None], digits: int = 2) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "—"


def _short(data: str) -> str:
    return data.removeprefix("medmnist:").partition("(")[0]


def _where(compared: Compared, test: Callable[[Federation], bool]) -> Compared:
    return {one: here for one, here in compared.items() if test(one)}


def _on(compared: Compared, data: Collection[str]) -> Compared:
    return _where(compared, lambda one: one.data in data)


def _group(one: Federation) -> str:
    return GROUPS.get(one.threat, "changed updates")


def _ranks(compared: Compared) -> list[str]:
    lines = prose(
        "Rank 1 is the best method in a federation; ties share the mean of their ranks. The last column is "
        "the paired difference of the default defence to each method."
    )
    for title, here in (("All data", compared), ("Held-out data", _on(compared, HELD_OUT))):
        lines += ["", f"{title}, {len(here)} federations:", "", *(_rank_rows(here) if here else ["Not run."])]
    for title, metric in (("macro F1", "macro_f1"), ("balanced accuracy", "balanced_accuracy")):
        lines += ["", f"Mean rank in {title} by data, with the number of federations:", ""]
        parts = {data: _on(compared, [data]) for data in DATA}
        lines += table_head(["method", *(f"{_short(data)} ({len(here)})" for data, here in parts.items())])
        tables = [rank_table(here, metric) for here in parts.values()]
        for name in METHODS:
            lines.append(row([escaped(name), *(_mean(table[name]) for table in tables)]))
    return lines


def _rank_rows(compared: Compared) -> list[str]:
    f1, balanced = rank_table(compared, "macro_f1"), rank_table(compared, "balanced_accuracy")
    columns = ("method", "mean rank in macro F1", "mean rank in balanced accuracy", "macro F1")
    lines = table_head([*columns, "balanced accuracy", "accuracy", "ours minus it, macro F1, points"])
    for name in sorted(METHODS, key=lambda name: float(np.mean(f1[name]))):
        runs = [here[name] for here in compared.values()]
        gains = [here[OURS].macro_f1 - here[name].macro_f1 for here in compared.values()]
        accuracies = [
            _mean((getattr(run, metric) for run in runs), 3)
            for metric in ("macro_f1", "balanced_accuracy", "accuracy")
        ]
        gain = "" if name == OURS else _text(gains, 1, 100)
        lines.append(row([escaped(name), _text(f1[name], 2), _text(balanced[name], 2), *accuracies, gain]))
    return lines


def _groups(compared: Compared) -> list[str]:
    lines = prose(
        "For each data set and group of threats: macro F1 of the default defence minus that of FedAvg or "
        "centered clipping, whichever has the higher mean there, paired by federation. Below: its interval "
        "lies below 0."
    )
    columns = ("data", "threats", "federations", "ours", "the better plain rule", "its macro F1")
    lines += ["", *table_head([*columns, "difference, points", "below"])]
    groups = list(dict.fromkeys(_group(Federation("", threat, 0, "", 0, 0)) for threat in (*GROUPS, "")))
    for data in DATA:
        for group in groups:
            here = _where(compared, lambda one, d=data, g=group: one.data == d and _group(one) == g)  # type: ignore[misc]
            if not here:
                continue
            means = {name: np.mean([runs[name].macro_f1 for runs in here.values()]) for name in PLAIN}
            better = max(means, key=lambda name: float(means[name]))
            gains = [runs[OURS].macro_f1 - runs[better].macro_f1 for runs in here.values()]
            mean, half = interval(gains)
            ours = np.mean([runs[OURS].macro_f1 for runs in here.values()])
            cells = [f"{ours:.3f}", better, f"{means[better]:.3f}", _text(gains, 1, 100)]
            lines.append(row([_short(data), group, len(here), *cells, "below" if mean + half < 0 else ""]))
    return lines


def _benign(compared: Compared) -> list[str]:
    lines = prose(
        "Flagged: share of hospital-rounds. Lightest: the lowest weight of a hospital after the last round, "
        "over all federations. Below half: hospitals below half of the uniform weight and of their share of "
        "the images, in all federations together. Movement: standard deviation over rounds of a hospital's "
        "weight, iid federations only."
    )
    columns = ("data", "federation", "federations", "ours minus FedAvg, accuracy, points", "flagged, %")
    lines += ["", *table_head([*columns, "lightest", "below half", "movement, iid"])]
    for data in DATA:
        for threat in BENIGN:
            here = _where(compared, lambda one, d=data, t=threat: one.data == d and one.threat == t)  # type: ignore[misc]
            if not here:
                continue
            ours = [runs[OURS] for runs in here.values()]
            gains = [runs[OURS].accuracy - runs["fedavg"].accuracy for runs in here.values()]
            lightest = min((run.lightest for run in ours if run.lightest is not None), default=math.nan)
            lost = sum(run.lost or 0 for run in ours)
            moved = _mean(runs[OURS].spread for one, runs in here.items() if one.partition == "iid")
            name = "all alike" if threat == NONE else f"one {threat}"
            cells = [_text(gains, 1, 100), _text((run.flagged for run in ours), 2, 100)]
            lines.append(
                row([_short(data), name, len(here), *cells, f"{lightest:.2f}", f"{lost:.0f}", moved])
            )
    return lines


def _detection(compared: Compared) -> list[str]:
    lines = prose(
        "Federations with malicious hospitals. AUROC ranks hospitals by their mean score over the run; "
        "recall is the share of malicious hospitals flagged in the last round; attackers' weight is that of "
        "a malicious hospital in the last round; false flags are those of honest hospital-rounds. Of the "
        "default defence, by threat:"
    )
    columns = ("federations", "AUROC", "recall", "attackers' weight", "false flags, %")
    attacked = _where(compared, lambda one: one.threat not in BENIGN)
    lines += ["", *table_head(["threat", *columns])]
    for threat in dict.fromkeys(one.threat for one in attacked):
        here = _where(attacked, lambda one, t=threat: one.threat == t)  # type: ignore[misc]
        lines.append(_detection_row(threat, [runs[OURS] for runs in here.values()]))
    lines += ["", "Of all methods:", "", *table_head(["method", *columns])]
    for name in METHODS:
        lines.append(_detection_row(name, [runs[name] for runs in attacked.values()]))
    return lines


def _detection_row(name: str, runs: Sequence[RunMetrics]) -> str:
    cells = [
        _text(run.auroc for run in runs),
        _text(run.recall for run in runs),
        _text((run.attackers for run in runs), 2),
        _text((run.flagged for run in runs), 2, 100),
    ]
    return row([escaped(name), len(runs), *cells])


def _backdoors(compared: Compared) -> list[str]:
    lines = prose(
        "Attack success rate: stamped test images of other classes that are classified as the target. An "
        "untrained model has one as well: FedAvg is the measure."
    )
    lines += ["", *table_head(("threat", "method", "federations", "attack success rate", "accuracy"))]
    for threat in BACKDOORS:
        here = _where(compared, lambda one, t=threat: one.threat == t)  # type: ignore[misc]
        for name in METHODS if here else ():
            runs = [methods[name] for methods in here.values()]
            rate, accuracy = _text(run.success for run in runs), _text(run.accuracy for run in runs)
            lines.append(row([threat, escaped(name), len(runs), rate, accuracy]))
    return lines


def _without_attack(compared: Compared, one: Federation) -> Methods:
    return compared.get(one._replace(threat=NONE, malicious=0), {})


def _places(compared: Compared) -> dict[tuple[str, str, str], list[Federation]]:
    """Return the attacked federations by data, partition and threat."""
    found: dict[tuple[str, str, str], list[Federation]] = {}
    for one in compared:
        if one.threat != NONE:
            found.setdefault((one.data, one.partition, one.threat), []).append(one)
    return found


def _tuned_backdoors(compared: Compared) -> list[str]:
    lines = prose(
        "Two of ten malicious, a trained model. The last column is FedAvg's accuracy without an attack minus "
        "ours under attack, by seed."
    )
    columns = ("data", "partition", "threat", "seeds", "success, ours", "success, FedAvg", "accuracy, ours")
    lines += ["", *table_head([*columns, "below FedAvg without attack, points"])]
    for (data, partition, threat), here in _places(compared).items():
        lost = [
            _without_attack(compared, one)["fedavg"].accuracy - compared[one][OURS].accuracy
            for one in here
            if OURS in compared[one] and "fedavg" in _without_attack(compared, one)
        ]
        ours = [compared[one][OURS] for one in here if OURS in compared[one]]
        plain = [compared[one]["fedavg"].success for one in here if "fedavg" in compared[one]]
        cells = [_text(run.success for run in ours), _text(plain), _text(run.accuracy for run in ours)]
        lines.append(row([_short(data), partition, threat, len(ours), *cells, _text(lost, 1, 100)]))
    return lines


def _adaptive(compared: Compared) -> list[str]:
    lines = prose(
        "Three of ten malicious; the attackers are those of tests/adaptive/clients. Damage is the accuracy "
        "of the same method without an attack minus that under attack, in percentage points, mean over "
        "seeds; for backdoors the success rate counts."
    )
    columns = ["data", "partition", "attack", "seeds"]
    for what in ("damage", "success"):
        columns += [f"{what}, {'ours' if name == OURS else name}" for name in ADAPTIVE_METHODS]
    lines += ["", *table_head([*columns, "AUROC, ours", "recall, ours", "attackers' weight, ours"])]
    for (data, partition, threat), here in _places(compared).items():
        damage = [_text(_damage(compared, here, name), 1, 100) for name in ADAPTIVE_METHODS]
        success = [
            _text(compared[one][name].success for one in here if name in compared[one])
            for name in ADAPTIVE_METHODS
        ]
        ours = [compared[one][OURS] for one in here if OURS in compared[one]]
        seen = [_mean(run.auroc for run in ours), _mean(run.recall for run in ours)]
        cells = [*damage, *success, *seen, _mean(run.attackers for run in ours)]
        lines.append(row([_short(data), partition, threat, len(here), *cells]))
    return lines


def _damage(compared: Compared, here: Iterable[Federation], name: str) -> list[float]:
    return [
        clean[name].accuracy - compared[one][name].accuracy
        for one in here
        if name in (clean := _without_attack(compared, one)) and name in compared[one]
    ]

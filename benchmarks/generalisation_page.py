"""The page of `benchmarks/generalisation.py`: ranks of all methods, paired differences, and detection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.generalisation_attacks import adaptive, backdoors, tuned_backdoors
from benchmarks.generalisation_metrics import Compared, RunMetrics, mean_text, on, short, text, where
from benchmarks.generalisation_plan import (
    BENIGN,
    CLOSEST,
    DATA,
    HELD_OUT,
    METHODS,
    NONE,
    OURS,
    PARTITIONS,
    ROUNDS,
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
#: The best plain rules.
PLAIN = CLOSEST[1:3]


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
    whole, grid, both = (
        {one: here for one, here in every["grid"].items() if all(name in here for name in names)}
        for names in (METHODS, CLOSEST, CLOSEST[:2])
    )
    about = prose(_about(planned, found, len(whole), len(grid)))
    lines = ["# The default defence where it was never tuned", "", *about, ""]
    lines += prose(
        "± is half a 95 % interval over federations (Student's t, three at least). Accuracies are means of "
        "the last three rounds. Weights are multiples of the uniform weight. Words: "
        "[glossary.md](glossary.md)."
    )
    lines.append("")
    for title, write, compared in (
        ("Ranks of all methods", _ranks, whole),
        ("Compared in more federations", _differences, grid),
        ("Compared with the better plain rule", _groups, grid),
        ("No malicious hospital", _benign, both),
        ("Detection by the default defence", _detection, grid),
        ("Detection by all methods", _detection_of_all, whole),
        ("Backdoors", backdoors, whole),
        ("Backdoors on the tuned data", tuned_backdoors, every["backdoors"]),
        ("Attackers who know the rule", adaptive, every["adaptive"]),
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


def _about(planned: Sequence[Key], found: Mapping[Key, RunMetrics], whole: int, grid: int) -> str:
    parts = {
        part: (sum(key.part == part for key in found), sum(key.part == part for key in planned))
        for part in ("grid", "adaptive", "backdoors")
    }
    federations = len({key.federation for key in planned if key.part == "grid"})
    return (
        f"What `make reproduce-generalisation` printed: 10 hospitals, one network, one local epoch, images "
        f"of 28 x 28. Finished are {parts['grid'][0]} of the {parts['grid'][1]} runs of the grid, "
        f"{parts['adaptive'][0]} of {parts['adaptive'][1]} with adaptive attackers and "
        f"{parts['backdoors'][0]} of {parts['backdoors'][1]} with backdoors on the tuned data. Of the "
        f"grid's {federations} federations (data, threat, number of malicious hospitals, partition, rounds, "
        f"seed) the tables of all methods show the {whole} that all {len(METHODS)} completed, the others the "
        f"{grid} that {', '.join(f'`{name}`' for name in CLOSEST)} completed; their order is that of a "
        f"balanced sample. The constants of the default defence were fixed on "
        f"{' and '.join(map(short, TUNED))}; held out are {', '.join(map(short, HELD_OUT))}."
    )


def _by_federation(found: Mapping[Key, RunMetrics], planned: Iterable[Key], part: str) -> Compared:
    compared: dict[Federation, dict[str, RunMetrics]] = {}
    for key in planned:
        if key.part == part and key in found:
            compared.setdefault(key.federation, {})[key.method] = found[key]
    return compared


def _group(one: Federation) -> str:
    return GROUPS.get(one.threat, "changed updates")


def _ranks(compared: Compared) -> list[str]:
    lines = prose(
        "Rank 1 is the best method in a federation; ties share the mean of their ranks. The last column is "
        "the paired difference of the default defence to each method."
    )
    for title, here in (("All data", compared), ("Held-out data", on(compared, HELD_OUT))):
        lines += ["", f"{title}, {len(here)} federations:", "", *(_rank_rows(here) if here else ["Not run."])]
    for title, metric in (("macro F1", "macro_f1"), ("balanced accuracy", "balanced_accuracy")):
        lines += ["", f"Mean rank in {title} by data, with the number of federations:", ""]
        parts = {data: on(compared, [data]) for data in DATA}
        lines += table_head(["method", *(f"{short(data)} ({len(here)})" for data, here in parts.items())])
        tables = [rank_table(here, metric) for here in parts.values()]
        for name in METHODS:
            lines.append(row([escaped(name), *(mean_text(table[name]) for table in tables)]))
    return lines


def _rank_rows(compared: Compared) -> list[str]:
    f1, balanced = rank_table(compared, "macro_f1"), rank_table(compared, "balanced_accuracy")
    columns = ("method", "mean rank in macro F1", "mean rank in balanced accuracy", "macro F1")
    lines = table_head([*columns, "balanced accuracy", "accuracy", "ours minus it, macro F1, points"])
    for name in sorted(METHODS, key=lambda name: float(np.mean(f1[name]))):
        runs = [here[name] for here in compared.values()]
        gains = [here[OURS].macro_f1 - here[name].macro_f1 for here in compared.values()]
        accuracies = [
            mean_text((getattr(run, metric) for run in runs), 3)
            for metric in ("macro_f1", "balanced_accuracy", "accuracy")
        ]
        gain = "" if name == OURS else text(gains, 1, 100)
        lines.append(row([escaped(name), text(f1[name], 2), text(balanced[name], 2), *accuracies, gain]))
    return lines


def _differences(compared: Compared) -> list[str]:
    lines = prose(
        "The default defence minus FedAvg, centered clipping and FedAvg with the server's step, in "
        "percentage points, paired by federation. Partitions and numbers of rounds are over all data."
    )
    metrics = {"macro_f1": "macro F1", "balanced_accuracy": "balanced accuracy"}
    names = [f"{title}, minus {escaped(name)}" for title in metrics.values() for name in CLOSEST[1:]]
    lines += ["", *table_head(["where", "federations", "macro F1, ours", *names])]
    parts = {"all": compared, "tuned data": on(compared, TUNED), "held-out data": on(compared, HELD_OUT)}
    parts |= {short(data): on(compared, [data]) for data in DATA}
    parts |= {part: where(compared, lambda one, p=part: one.partition == p) for part in PARTITIONS}  # type: ignore[misc]
    parts |= {f"{number} rounds": where(compared, lambda one, r=number: one.rounds == r) for number in ROUNDS}  # type: ignore[misc]
    for name, here in parts.items():
        gains = [
            text(
                (getattr(runs[OURS], metric) - getattr(runs[other], metric) for runs in here.values()), 1, 100
            )
            for metric in metrics
            for other in CLOSEST[1:]
        ]
        lines.append(
            row([name, len(here), mean_text((runs[OURS].macro_f1 for runs in here.values()), 3), *gains])
        )
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
            here = where(compared, lambda one, d=data, g=group: one.data == d and _group(one) == g)  # type: ignore[misc]
            if not here:
                continue
            means = {name: np.mean([runs[name].macro_f1 for runs in here.values()]) for name in PLAIN}
            better = max(means, key=lambda name: float(means[name]))
            gains = [runs[OURS].macro_f1 - runs[better].macro_f1 for runs in here.values()]
            mean, half = interval(gains)
            ours = np.mean([runs[OURS].macro_f1 for runs in here.values()])
            cells = [f"{ours:.3f}", better, f"{means[better]:.3f}", text(gains, 1, 100)]
            lines.append(row([short(data), group, len(here), *cells, "below" if mean + half < 0 else ""]))
    return lines


def _benign(compared: Compared) -> list[str]:
    lines = prose(
        "The federations that the default defence and FedAvg completed. Flagged: share of hospital-rounds. "
        "Lightest: the lowest weight of a hospital after the last round, over all federations. Below half: "
        "hospitals below half of the uniform weight and of their share of the images, in all federations "
        "together. Movement: standard deviation over rounds of a hospital's weight, iid federations only."
    )
    columns = ("data", "federation", "federations", "ours minus FedAvg, accuracy, points", "flagged, %")
    lines += ["", *table_head([*columns, "lightest", "below half", "movement, iid"])]
    kinds = {
        "all alike": BENIGN[:1],
        **{f"one {name}": (name,) for name in BENIGN[1:]},
        "all of these": BENIGN,
    }
    for name, data in {**{short(data): (data,) for data in DATA}, "all": DATA}.items():
        for kind, threats in kinds.items():
            here = where(on(compared, data), lambda one, t=threats: one.threat in t)  # type: ignore[misc]
            if not here:
                continue
            ours = [runs[OURS] for runs in here.values()]
            gains = [runs[OURS].accuracy - runs["fedavg"].accuracy for runs in here.values()]
            lightest = min((run.lightest for run in ours if run.lightest is not None), default=math.nan)
            lost = sum(run.lost or 0 for run in ours)
            moved = mean_text(runs[OURS].spread for one, runs in here.items() if one.partition == "iid")
            cells = [text(gains, 1, 100), text((run.flagged for run in ours), 2, 100)]
            lines.append(row([name, kind, len(here), *cells, f"{lightest:.2f}", f"{lost:.0f}", moved]))
    return lines


_DETECTION = ("federations", "AUROC", "recall", "attackers' weight", "false flags, %")


def _detection(compared: Compared) -> list[str]:
    lines = prose(
        "Federations with malicious hospitals. AUROC ranks hospitals by their mean score over the run; "
        "recall is the share of malicious hospitals flagged in the last round; attackers' weight is that of "
        "a malicious hospital in the last round; false flags are those of honest hospital-rounds."
    )
    attacked = where(compared, lambda one: one.threat not in BENIGN)
    lines += ["", *table_head(["threat", *_DETECTION])]
    for threat in dict.fromkeys(one.threat for one in attacked):
        here = where(attacked, lambda one, t=threat: one.threat == t)  # type: ignore[misc]
        lines.append(_detection_row(threat, [runs[OURS] for runs in here.values()]))
    return lines


def _detection_of_all(compared: Compared) -> list[str]:
    attacked = where(compared, lambda one: one.threat not in BENIGN)
    rows = [_detection_row(name, [runs[name] for runs in attacked.values()]) for name in METHODS]
    return [*table_head(["method", *_DETECTION]), *rows]


def _detection_row(name: str, runs: Sequence[RunMetrics]) -> str:
    cells = [
        text(run.auroc for run in runs),
        text(run.recall for run in runs),
        text((run.attackers for run in runs), 2),
        text((run.flagged for run in runs), 2, 100),
    ]
    return row([escaped(name), len(runs), *cells])

"""The plots of a run's page, as plain dictionaries: plotly's JavaScript draws them, its Python package is not imported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.reports.palette import (
    CLASSES,
    FLAG,
    MARKERS,
    ROLES,
    SCALE,
    axis,
    figure,
    label,
    line,
    rounds_axis,
    shaded,
)
from fedrobust.reports.record import Hospital, Record, fair_shares

__all__ = [
    "METRICS",
    "SINGLE",
    "by_hospital",
    "calibration",
    "class_counts",
    "confusion",
    "curves",
    "losses",
    "per_class",
    "phases",
    "trust",
]

#: Metrics of rounds.jsonl by the names that readers know.
METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "auroc": "AUROC",
    "worst_class": "worst class (sensitivity)",
    "ece": "calibration error (ECE)",
    "loss": "loss",
}

#: What a round's line says once, not for clean and noisy images apart.
SINGLE: Mapping[str, str] = {
    "attack_success_rate": "attack success rate",
    "worst_hospital": "worst hospital (accuracy)",
}

Figure = dict[str, Any]


def hospital_label(hospital: Hospital, attack: bool = False) -> str:
    """Return a hospital's number with the mark of the truth, and what it does."""
    words = f" {label(hospital.attack, 22)}" if attack and hospital.attack else ""
    return f"{hospital.number} {ROLES[hospital.role].mark}{words}"


def curves(record: Record) -> Figure:
    """Return clean and noisy curves over the rounds, one figure a metric."""
    rounds = [entry["round"] for entry in record.rounds]
    choices = {}
    for key, name in METRICS.items():
        parts = {p: [entry.get(p, {}).get(key) for entry in record.rounds] for p in ("clean", "noisy")}
        if any(value is not None for values in parts.values() for value in values):
            traces = [line(part, rounds, parts[part], place) for place, part in enumerate(parts)]
            choices[name] = figure(traces, 340, xaxis=rounds_axis(rounds), yaxis=axis(name))
    for key, name in SINGLE.items():
        values = [entry.get(key) for entry in record.rounds]
        if any(value is not None for value in values):
            traces = [line(name, rounds, values, 2, showlegend=True)]
            choices[name] = figure(
                traces, 340, xaxis=rounds_axis(rounds), yaxis=axis(name, range=[-0.03, 1.03])
            )
    return {"choices": choices}


def trust(record: Record) -> Figure:
    """Return the trust timeline: hospitals by rounds, weights in fair shares as colour, flags as marks."""
    rounds = [verdict["round"] for verdict in record.verdicts]
    shares = [fair_shares(verdict) if verdict.get("hospitals") else {} for verdict in record.verdicts]
    names = [hospital_label(hospital, attack=True) for hospital in record.hospitals]
    cells = [[of_round.get(hospital.number) for of_round in shares] for hospital in record.hospitals]
    named = {hospital.number: name for hospital, name in zip(record.hospitals, names, strict=True)}
    flags = [
        (verdict["round"], named[number])
        for verdict in record.verdicts
        for number in verdict.get("flagged", ())
        if number in named
    ]
    row = 24 if len(names) <= 30 else 13
    heat = {
        "type": "heatmap",
        "x": rounds,
        "y": names,
        "z": cells,
        "zmin": 0,
        "zmax": 2,
        "colorscale": SCALE,
        "xgap": 1 if len(rounds) <= 60 else 0,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "hospital %{y}<br>round %{x}: %{z:.2f} of a fair share<extra></extra>",
        "showscale": False,
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "name": f"{FLAG} flagged",
        "x": [x for x, _ in flags],
        "y": [y for _, y in flags],
        "marker": {
            "symbol": "x",
            "color": "#FFFFFF",
            "size": max(4, min(9, 260 // max(1, len(rounds)))),
            "line": {"color": "#000000", "width": 1},
        },
        "hovertemplate": "hospital %{y}<br>flagged in round %{x}<extra></extra>",
        "showlegend": False,
    }
    return figure(
        [heat, marks],
        56 + row * len(names),
        xaxis=rounds_axis(rounds) | {"showgrid": False, "range": [rounds[0] - 0.5, rounds[-1] + 0.5]},
        yaxis=axis(type="category", showgrid=False, dtick=1, range=[len(names) - 0.5, -0.5]),
    )


def losses(record: Record) -> Figure:
    """Return what hospitals claim of their loss over the rounds, one line a hospital, by role."""
    wanted = {"loss": "training loss", "received_loss": "loss of the received model"}
    choices = {}
    for key, name in wanted.items():
        told = [_by_number(report, key) for report in record.reports]
        if not any(value is not None for of_round in told for value in of_round.values()):
            continue
        rounds = [report["round"] for report in record.reports]
        traces = [
            _loss_line(hospital, rounds, [of_round.get(hospital.number) for of_round in told])
            # Honest ones first, so that the others lie on top.
            for hospital in reversed(record.hospitals)
        ]
        seen: set[str] = set()
        for trace in traces:
            trace["showlegend"] = trace["legendgroup"] not in seen
            seen.add(trace["legendgroup"])
        choices[name] = figure(
            traces, 360, xaxis=rounds_axis(rounds), yaxis=axis(f"claimed {name}", rangemode="tozero")
        )
    return {"choices": choices}


def _by_number(report: Mapping[str, Any], key: str) -> dict[int, Any]:
    values = report.get(key) or ()
    return dict(zip(report.get("hospitals") or (), values, strict=False))


def _loss_line(hospital: Hospital, rounds: Sequence[int], values: Sequence[Any]) -> Figure:
    role = ROLES[hospital.role]
    plain = hospital.role == "honest"
    group = f"{role.mark} {label(hospital.attack, 28) if hospital.attack else 'honest'}"
    return shaded(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": group,
            "legendgroup": group,
            "x": list(rounds),
            "y": list(values),
            "line": {"color": role.colour, "dash": role.dash, "width": 1.2 if plain else 2.5},
            "marker": {
                "color": role.colour,
                "symbol": role.symbol,
                "size": 4 if plain else 9,
                "maxdisplayed": MARKERS,
            },
            "opacity": 0.6 if plain else 1,
            "hovertemplate": f"hospital {hospital_label(hospital, attack=True)}<br>round %{{x}}: %{{y:.3f}}<extra></extra>",
        }
    )


def class_counts(
    names: Sequence[str], counts: Sequence[Sequence[int]], classes: Sequence[str], title: str, share: bool
) -> Figure:
    """Return stacked bars: the classes of each hospital or part, in images or as shares of it."""
    totals = [sum(row) or 1 for row in counts]
    traces = []
    for k, name in enumerate(classes):
        colour, pattern = CLASSES[k % len(CLASSES)]
        held = [row[k] if k < len(row) else 0 for row in counts]
        traces.append(
            {
                "type": "bar",
                "name": label(name),
                "x": list(names),
                "y": [n / t for n, t in zip(held, totals, strict=True)] if share else held,
                "customdata": held,
                "marker": {
                    "color": colour,
                    "pattern": {"shape": pattern, "fgcolor": "#FFFFFF", "solidity": 0.3},
                },
                "hovertemplate": f"%{{x}}<br>{label(name)}: %{{customdata}} images<extra></extra>",
            }
        )
    return figure(
        traces,
        340 + 12 * (len(classes) // 4),
        barmode="stack",
        bargap=0.15,
        legend={"traceorder": "normal"},
        xaxis=axis(title, type="category", showgrid=False),
        yaxis=axis("share of its images" if share else "images"),
    )


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Return a confusion matrix: the share of each true class as colour, counts as text."""
    names = _distinct([label(name, 14) for name in classes])
    shares = [[n / sum(row) if sum(row) else None for n in row] for row in counts]
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SCALE,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        "text": [[str(n) for n in row] for row in counts],
        "hovertemplate": "truth %{y}<br>predicted %{x}: %{text} images (%{z:.0%})<extra></extra>",
    }
    if len(names) <= 12:
        heat["texttemplate"] = "%{text}"
    return figure(
        [heat],
        min(620, 150 + (44 if len(names) <= 8 else 24) * len(names)),
        xaxis=axis("predicted", type="category", showgrid=False, dtick=1),
        yaxis=axis("truth", type="category", showgrid=False, dtick=1, autorange="reversed"),
    )


def per_class(parts: Mapping[str, Sequence[float | None]], classes: Sequence[str]) -> Figure:
    """Return the sensitivity of each class as points, clean beside noisy."""
    names = _distinct([label(name) for name in classes])
    traces = [
        {**line(part, list(values), names, place), "mode": "markers"}
        for place, (part, values) in enumerate(parts.items())
    ]
    for trace in traces:
        trace["marker"] = {**trace["marker"], "size": 11}
        trace["hovertemplate"] = "%{y}: %{x:.3f}"
    return figure(
        traces,
        110 + 30 * len(names),
        xaxis=axis("sensitivity", range=[-0.03, 1.03]),
        yaxis=axis(type="category", autorange="reversed", dtick=1),
    )


def calibration(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return how often the model is right beside how sure it is."""
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "as sure as right",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "#8A8F98", "dash": "dot", "width": 1},
        "hoverinfo": "skip",
    }
    traces: list[Figure] = [diagonal]
    for place, (part, bins) in enumerate(parts.items()):
        filled = [b for b in bins if b.get("count")]
        trace = line(part, [b["confidence"] for b in filled], [b["accuracy"] for b in filled], place)
        trace["customdata"] = [b["count"] for b in filled]
        trace["hovertemplate"] = "sure %{x:.2f}, right %{y:.2f} (%{customdata} images)"
        traces.append(trace)
    unit = [-0.03, 1.03]
    return figure(traces, 340, xaxis=axis("mean confidence", range=unit), yaxis=axis("accuracy", range=unit))


def by_hospital(hospitals: Sequence[Hospital]) -> Figure:
    """Return each hospital's accuracy, by role."""
    traces = []
    for role, style in ROLES.items():
        of_role = [h for h in hospitals if h.role == role and h.accuracy is not None]
        if of_role:
            traces.append(
                shaded(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": f"{style.mark} {role}",
                        "x": [str(h.number) for h in of_role],
                        "y": [h.accuracy for h in of_role],
                        "marker": {"color": style.colour, "symbol": style.symbol, "size": 11},
                        "hovertemplate": "hospital %{x}: %{y:.3f}<extra></extra>",
                    }
                )
            )
    order = [str(h.number) for h in sorted(hospitals, key=lambda h: h.number)]
    return figure(
        traces,
        300,
        xaxis=axis("hospital", type="category", categoryorder="array", categoryarray=order),
        yaxis=axis("accuracy", range=[-0.03, 1.03]),
        showlegend=True,
    )


def phases(rounds: Sequence[int], seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Return where the time of each round went, as stacked bars; round 0 is what precedes the first."""
    traces = []
    for place, (name, values) in enumerate(seconds.items()):
        colour, pattern = CLASSES[place % len(CLASSES)]
        traces.append(
            {
                "type": "bar",
                "name": name,
                "x": ["before" if number == 0 else str(number) for number in rounds],
                "y": list(values),
                "marker": {"color": colour, "pattern": {"shape": pattern}},
                "hovertemplate": f"{name}: %{{y:.3f}} s<extra></extra>",
            }
        )
    every = math.ceil(len(rounds) / 12)
    return figure(
        traces,
        300,
        barmode="stack",
        legend={"traceorder": "normal"},
        xaxis=axis("round", type="category", showgrid=False, dtick=every),
        yaxis=axis("seconds"),
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names that differ, since a plot puts equal ones in one row."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made

"""The plots of a run's rounds, as plain dictionaries: plotly's JavaScript draws them, its Python package is not imported."""

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
from fedrobust.results.records import Hospital, Record, fair_shares

__all__ = ["METRICS", "SINGLE", "curves", "hospital_label", "losses", "phases", "trust"]

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

#: Dash and marker of the second and further attacks of one federation.
_OTHER_ATTACKS = (("dot", "triangle-down"), ("longdash", "triangle-right"), ("longdashdot", "triangle-left"))

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
            _loss_line(
                hospital,
                rounds,
                [of_round.get(hospital.number) for of_round in told],
                _place(record, hospital),
            )
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


def _place(record: Record, hospital: Hospital) -> int:
    """Return which of the attacks it is that a malicious hospital carries out."""
    order = list(dict.fromkeys(h.attack for h in record.hospitals if h.role == "malicious"))
    return order.index(hospital.attack) if hospital.role == "malicious" else 0


def _loss_line(hospital: Hospital, rounds: Sequence[int], values: Sequence[Any], place: int) -> Figure:
    role = ROLES[hospital.role]
    plain = hospital.role == "honest"
    dash, symbol = (
        (role.dash, role.symbol) if place == 0 else _OTHER_ATTACKS[(place - 1) % len(_OTHER_ATTACKS)]
    )
    group = f"{role.mark} {label(hospital.attack, 28) if hospital.attack else 'honest'}"
    return shaded(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": group,
            "legendgroup": group,
            "x": list(rounds),
            "y": list(values),
            "line": {"color": role.colour, "dash": dash, "width": 1.2 if plain else 2.5},
            "marker": {
                "color": role.colour,
                "symbol": symbol,
                "size": 4 if plain else 9,
                "maxdisplayed": MARKERS,
            },
            "opacity": 0.6 if plain else 1,
            "hovertemplate": f"hospital {hospital_label(hospital, attack=True)}<br>round %{{x}}: %{{y:.3f}}<extra></extra>",
        }
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

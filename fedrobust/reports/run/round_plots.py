"""The plots of a run's rounds, as plain data for plotly's JavaScript; its Python package is not imported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedrobust.evaluation.metrics import ROUND_METRICS, SYNTHESIS_METRICS, metric_of
from fedrobust.reports.palette import (
    CLASSES,
    FLAG,
    MARKERS,
    ROLES,
    WEIGHT_SCALE,
    Choices,
    Plot,
    Trace,
    axis,
    figure,
    label,
    line,
    rounds_axis,
    shaded,
)
from fedrobust.results.finished_run import FinishedRun, Hospital

__all__ = ["LOSSES", "SINGLE", "curves", "hospital_label", "losses", "phases", "trust"]

#: The metrics that a round's line has once, not for clean and noisy images apart.
SINGLE = ("attack_success_rate", "worst_hospital", *SYNTHESIS_METRICS)

#: The losses that hospitals report, by their keys in ``client_metrics.jsonl``.
LOSSES: Mapping[str, str] = {
    "loss": "training loss",
    "discriminator_loss": "discriminator loss",
    "received_loss": "loss of the received model",
}

#: Dash and marker of the second and further attacks of one federation.
_OTHER_ATTACKS = (("dot", "triangle-down"), ("longdash", "triangle-right"), ("longdashdot", "triangle-left"))


def hospital_label(hospital: Hospital, attack: bool = False) -> str:
    """Return a hospital's number with the mark of the truth, and what it does."""
    words = f" {label(hospital.attack, 22)}" if attack and hospital.attack else ""
    return f"{hospital.number} {ROLES[hospital.role].mark}{words}"


def curves(run: FinishedRun) -> Choices:
    """Return clean and noisy curves over the rounds, one plot a metric."""
    rounds = [entry.round for entry in run.rounds]
    choices = {}
    for key in ROUND_METRICS:
        name = metric_of(key).name
        values = {
            "clean": [entry.clean.value(key) for entry in run.rounds],
            "noisy": [entry.noisy.value(key) for entry in run.rounds],
        }
        if any(value is not None for row in values.values() for value in row):
            traces = [line(part, rounds, values[part], place) for place, part in enumerate(values)]
            choices[name] = figure(traces, 340, xaxis=rounds_axis(rounds), yaxis=axis(name))
    for key in SINGLE:
        name = metric_of(key).name
        row = [entry.value(key) for entry in run.rounds]
        if any(value is not None for value in row):
            traces = [line(name, rounds, row, 2, showlegend=True)]
            unit = {"range": [-0.03, 1.03]} if metric_of(key).unit == "share" else {}
            choices[name] = figure(traces, 340, xaxis=rounds_axis(rounds), yaxis=axis(name, **unit))
    return {"choices": choices}


def trust(run: FinishedRun) -> Plot:
    """Return the trust timeline: hospitals by rounds, weights as colour, flags as marks."""
    rounds = [verdict.round for verdict in run.verdicts]
    weights = [run.uniform_weights(verdict) for verdict in run.verdicts]
    named = {hospital.number: hospital_label(hospital, attack=True) for hospital in run.listed}
    cells = [[of_round.get(number) for of_round in weights] for number in named]
    flags = [(verdict.round, named[n]) for verdict in run.verdicts for n in verdict.flagged if n in named]
    names = list(named.values())
    row = 24 if len(names) <= 30 else 13
    heat = {
        "type": "heatmap",
        "x": rounds,
        "y": names,
        "z": cells,
        "zmin": 0,
        "zmax": 2,
        "colorscale": WEIGHT_SCALE,
        "xgap": 1 if len(rounds) <= 60 else 0,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "hospital %{y}<br>round %{x}: %{z:.2f} uniform weights<extra></extra>",
        "showscale": False,
    }
    return figure(
        [heat, _flags(flags, len(rounds))],
        84 + row * len(names),
        xaxis=rounds_axis(rounds) | {"showgrid": False, "range": [rounds[0] - 0.5, rounds[-1] + 0.5]},
        yaxis=axis(type="category", showgrid=False, dtick=1, range=[len(names) - 0.5, -0.5]),
    )


def _flags(flags: Sequence[tuple[int, str]], rounds: int) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{FLAG} flagged",
        "x": [x for x, _ in flags],
        "y": [y for _, y in flags],
        "marker": {
            "symbol": "x",
            "color": "#FFFFFF",
            "size": max(4, min(9, 260 // max(1, rounds))),
            "line": {"color": "#000000", "width": 1},
        },
        "hovertemplate": "hospital %{y}<br>flagged in round %{x}<extra></extra>",
        "showlegend": False,
    }


def losses(run: FinishedRun) -> Choices:
    """Return the losses that hospitals reported over the rounds, one line a hospital, by role."""
    choices = {}
    rounds = [entry.round for entry in run.client_metrics]
    for key, name in LOSSES.items():
        reported = [entry.by_hospital(key) for entry in run.client_metrics]
        if not any(value is not None for of_round in reported for value in of_round.values()):
            continue
        traces = [
            _loss_line(
                hospital, rounds, [row.get(hospital.number) for row in reported], _place(run, hospital)
            )
            # Honest ones first, so that the others lie on top.
            for hospital in reversed(run.listed)
        ]
        seen: set[str] = set()
        for trace in traces:
            trace["showlegend"] = trace["legendgroup"] not in seen
            seen.add(trace["legendgroup"])
        traces += _flagged_losses(run, dict(zip(rounds, reported, strict=True)))
        choices[name] = figure(
            traces, 360, xaxis=rounds_axis(rounds), yaxis=axis(f"reported {name}", rangemode="tozero")
        )
    return {"choices": choices}


def _flagged_losses(run: FinishedRun, reported: Mapping[int, Mapping[int, float | None]]) -> list[Trace]:
    """Return a mark on each loss of a hospital that was flagged in that round; nothing where none was."""
    points = [
        (verdict.round, value)
        for verdict in run.verdicts
        for number in verdict.flagged
        if (value := reported.get(verdict.round, {}).get(number)) is not None
    ]
    if not points:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{FLAG} flagged",
            "x": [x for x, _ in points],
            "y": [y for _, y in points],
            "marker": {"symbol": "x-thin", "size": 9, "line": {"color": "#000000", "width": 1.5}},
            "hovertemplate": "flagged in round %{x}: %{y:.3f}<extra></extra>",
            "showlegend": True,
        }
    ]


def _place(run: FinishedRun, hospital: Hospital) -> int:
    """Return which of the attacks it is that a malicious hospital carries out."""
    order = list(dict.fromkeys(h.attack for h in run.hospitals if h.role == "malicious"))
    return order.index(hospital.attack) if hospital.role == "malicious" else 0


def _loss_line(
    hospital: Hospital, rounds: Sequence[int], values: Sequence[float | None], place: int
) -> Trace:
    role = ROLES[hospital.role]
    plain = hospital.role == "honest"
    dash, symbol = (
        (role.dash, role.symbol) if place == 0 else _OTHER_ATTACKS[(place - 1) % len(_OTHER_ATTACKS)]
    )
    # The legend draws the symbol: the mark would stand beside it twice.
    group = label(hospital.attack, 28) if hospital.attack else "honest"
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
            "hovertemplate": (
                f"hospital {hospital_label(hospital, attack=True)}<br>round %{{x}}: %{{y:.3f}}<extra></extra>"
            ),
        }
    )


def phases(rounds: Sequence[int], seconds: Mapping[str, Sequence[float]]) -> Plot:
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

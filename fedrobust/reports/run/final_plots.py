"""The plots of a run's final evaluation: the training images, and the last model class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedrobust.reports.palette import CLASSES, ROLES, SCALE, Plot, Trace, axis, figure, label, line, shaded
from fedrobust.results.finished_run import Hospital
from fedrobust.results.records import CalibrationBin

__all__ = ["by_hospital", "calibration", "class_counts", "confusion", "per_class"]


def class_counts(
    names: Sequence[str], counts: Sequence[Sequence[int]], classes: Sequence[str], title: str, share: bool
) -> Plot:
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


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot:
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
    # Side by side, long names would run into each other on a phone.
    angle = -35 if sum(map(len, names)) > 20 else 0
    if len(names) <= 12:
        heat["texttemplate"] = "%{text}"
    return figure(
        [heat],
        min(620, 150 + (44 if len(names) <= 8 else 24) * len(names)),
        xaxis=axis("predicted", type="category", showgrid=False, dtick=1, tickangle=angle),
        yaxis=axis("truth", type="category", showgrid=False, dtick=1, autorange="reversed"),
    )


def per_class(parts: Mapping[str, Sequence[float | None]], classes: Sequence[str]) -> Plot:
    """Return the sensitivity of each class as points, clean beside noisy."""
    names = _distinct([label(name) for name in classes])
    traces = [
        {**line(part, list(values), names, place), "mode": "markers"}
        for place, (part, values) in enumerate(parts.items())
    ]
    # A filled mark within an open one: both are seen where noise has no effect.
    for trace, (size, open_mark) in zip(traces, ((15, "-open"), (8, "")), strict=False):
        marker = trace["marker"]
        trace["marker"] = {
            "color": marker["color"],
            "symbol": marker["symbol"] + open_mark,
            "size": size,
            "line": {"width": 2 if open_mark else 0},
        }
        trace["hovertemplate"] = "%{y}: %{x:.3f}"
    return figure(
        traces,
        110 + 30 * len(names),
        xaxis=axis("sensitivity", range=[-0.03, 1.03]),
        yaxis=axis(type="category", autorange="reversed", dtick=1),
    )


def calibration(parts: Mapping[str, Sequence[CalibrationBin]]) -> Plot:
    """Return the accuracy at each level of confidence."""
    diagonal: Trace = {
        "type": "scatter",
        "mode": "lines",
        "name": "perfectly calibrated",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "#8A8F98", "dash": "dot", "width": 1},
        "hoverinfo": "skip",
    }
    traces = [diagonal]
    for place, (part, bins) in enumerate(parts.items()):
        filled = [b for b in bins if b.count]
        trace = line(part, [b.confidence for b in filled], [b.accuracy for b in filled], place)
        counts = [b.count for b in filled]
        # A bin of a few images is uncertain, and is drawn small.
        sizes = [round(5 + 13 * math.sqrt(count / max(counts)), 1) for count in counts]
        trace["marker"] = {
            "color": trace["marker"]["color"],
            "symbol": trace["marker"]["symbol"],
            "size": sizes,
        }
        trace["customdata"] = counts
        trace["hovertemplate"] = "confidence %{x:.2f}, accuracy %{y:.2f} (%{customdata} images)"
        traces.append(trace)
    unit = [-0.03, 1.03]
    return figure(traces, 340, xaxis=axis("mean confidence", range=unit), yaxis=axis("accuracy", range=unit))


def by_hospital(hospitals: Sequence[Hospital]) -> Plot:
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
                        "name": role,
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


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names that differ, since a plot puts equal ones in one row."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made

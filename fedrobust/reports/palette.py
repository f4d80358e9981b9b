"""Colours, marks and labels of the reports' plots: lines differ by dash and marker as well as by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.printing import one_line

__all__ = [
    "CLASSES",
    "FLAG",
    "LINES",
    "ROLES",
    "SCALE",
    "WEIGHT_SCALE",
    "Axis",
    "Choices",
    "Plot",
    "Plots",
    "RoleStyle",
    "Trace",
    "axis",
    "figure",
    "label",
    "line",
    "rounds_axis",
]

_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
)

#: A trace, an axis and a whole figure as plotly's JavaScript reads them.
Trace = dict[str, Any]
Axis = Trace
Plot = Trace
#: ``{"choices": {name: figure}}``: several plots in one place, of which a menu shows one.
Choices = dict[str, dict[str, Plot]]
#: A page's plots by the ids of their elements.
Plots = dict[str, Plot | Choices]

#: Okabe and Ito's colours without those that vanish on white or black, each with its dash and marker.
LINES: tuple[Mapping[str, str], ...] = (
    {"color": _BLUE, "dash": "solid", "symbol": "circle"},
    {"color": _VERMILION, "dash": "dash", "symbol": "square"},
    {"color": _GREEN, "dash": "dot", "symbol": "diamond"},
    {"color": _PURPLE, "dash": "dashdot", "symbol": "triangle-up"},
    {"color": _ORANGE, "dash": "longdash", "symbol": "cross"},
    {"color": _SKY, "dash": "longdashdot", "symbol": "star"},
)

#: For heat maps: even in lightness, and the same to those who cannot tell red from green.
SCALE = "Cividis"

#: For weights: blue below the uniform weight, light at it, orange above, so that half of it looks different.
WEIGHT_SCALE = [[0, "#08306b"], [0.25, "#4a90c4"], [0.5, "#f1ece0"], [0.75, "#e8a25c"], [1, "#b34a00"]]

#: Classes in stacked bars: a colour, and once those are used up a pattern.
CLASSES: tuple[tuple[str, str], ...] = tuple(
    (colour, pattern)
    for pattern in ("", "/", ".", "x")
    for colour in (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _VERMILION, "#8A8F98")
)

#: More markers than these on one line hide each other.
MARKERS = 25

#: The mark of a flag in the trust timeline.
FLAG = "✕"


#: Those of the colours that the page has in a lighter shade for dark surroundings.
_SHADED = {_BLUE: "blue", _VERMILION: "vermilion", _GREEN: "green"}


class RoleStyle:
    """How hospitals of one kind are drawn.

    Parameters
    ----------
    mark : str
        Stands beside the hospital's number.
    symbol, colour, dash : str
        plotly's words.
    """

    def __init__(self, mark: str, symbol: str, colour: str, dash: str) -> None:
        """Keep the words."""
        self.mark, self.symbol, self.colour, self.dash = mark, symbol, colour, dash


ROLES: Mapping[str, RoleStyle] = {
    "malicious": RoleStyle("▲", "triangle-up", _VERMILION, "dash"),
    "atypical": RoleStyle("◆", "diamond", _GREEN, "dashdot"),
    "honest": RoleStyle("○", "circle", _BLUE, "solid"),
}


def label(name: str, length: int = 18) -> str:
    """Return a name shortened and escaped: plotly would read tags as markup."""
    name = one_line(name)
    short = name if len(name) <= length else name[: length - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def figure(data: Sequence[Trace], height: int = 320, **layout: Any) -> Plot:
    """Return a figure; the page gives it fonts, grid and theme."""
    return {"data": list(data), "layout": {"height": height, **layout}}


def axis(title: str = "", **more: Any) -> Axis:
    """Return an axis; it cannot be dragged, so that a finger on a phone scrolls the page."""
    return {"title": {"text": title}, "fixedrange": True, **more}


def rounds_axis(rounds: Sequence[int]) -> Axis:
    """Return the axis of the rounds, with a tick at whole numbers only."""
    beside = max(0.2, 0.02 * len(rounds))
    ends = [rounds[0] - beside, rounds[-1] + beside]
    return axis("round", dtick=max(1, -(-len(rounds) // 10)), tickformat="d", range=ends)


def line(name: str, x: Sequence[Any], y: Sequence[Any], place: int, **more: Any) -> Trace:
    """Return one line of a plot in the style of its place."""
    style = LINES[place % len(LINES)]
    return shaded(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": list(x),
            "y": list(y),
            "line": {"color": style["color"], "dash": style["dash"], "width": 2},
            "marker": {
                "color": style["color"],
                "symbol": style["symbol"],
                "size": 7,
                "maxdisplayed": MARKERS,
            },
            **more,
        }
    )


def shaded(trace: Trace) -> Trace:
    """Return a trace whose line and markers follow the page's theme, where it has a shade of their colour."""
    names = {
        f"{part}.color": _SHADED[trace[part]["color"]]
        for part in ("line", "marker")
        if trace.get(part, {}).get("color") in _SHADED
    }
    return {**trace, "meta": {"colours": names}} if names else trace

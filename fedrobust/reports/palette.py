"""Colours, marks and labels of the reports' plots: whoever does not see colours tells lines by dash and marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "CLASSES",
    "FLAG",
    "LINES",
    "ROLES",
    "SCALE",
    "Role",
    "axis",
    "figure",
    "label",
    "line",
    "rounds_axis",
]

_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
)

#: Okabe and Ito's colours without those that vanish on white or black, each with a dash and a marker of its own.
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


class Role:
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


ROLES: Mapping[str, Role] = {
    "malicious": Role("▲", "triangle-up", _VERMILION, "dash"),
    "atypical": Role("◆", "diamond", _GREEN, "dashdot"),
    "honest": Role("○", "circle", _BLUE, "solid"),
}


def label(name: str, length: int = 18) -> str:
    """Return a name as plotly shows it letter by letter: it would read tags as markup, and long ones leave no room."""
    short = name if len(name) <= length else name[: length - 1] + "…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def figure(data: Sequence[Mapping[str, Any]], height: int = 320, **layout: Any) -> dict[str, Any]:
    """Return a figure; the page gives it fonts, grid and theme."""
    return {"data": list(data), "layout": {"height": height, **layout}}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis; it cannot be dragged, so that a finger on a phone scrolls the page."""
    return {"title": {"text": title}, "fixedrange": True, **more}


def rounds_axis(rounds: Sequence[int]) -> dict[str, Any]:
    """Return the axis of the rounds, with a tick at whole numbers only."""
    beside = max(0.2, 0.02 * len(rounds))
    ends = [rounds[0] - beside, rounds[-1] + beside]
    return axis("round", dtick=max(1, -(-len(rounds) // 10)), tickformat="d", range=ends)


def line(name: str, x: Sequence[Any], y: Sequence[Any], place: int, **more: Any) -> dict[str, Any]:
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


def shaded(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace whose line and markers follow the page's theme, where the page has a shade of their colour."""
    names = {
        f"{part}.color": _SHADED[trace[part]["color"]]
        for part in ("line", "marker")
        if trace.get(part, {}).get("color") in _SHADED
    }
    return {**trace, "meta": {"colours": names}} if names else trace

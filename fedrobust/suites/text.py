"""Numbers and lists as a suite's tables write them."""

from __future__ import annotations

from collections.abc import Sequence

from fedrobust.evaluation.metrics import Unit, decimals

__all__ = ["digits", "listed", "several"]


def digits(value: float | None, unit: Unit, *, signed: bool = False, lacking: str = "–") -> str:
    """Return .613 for a share, as journals print it, 4.2 for percentages, points and counts, else 0.023."""
    if value is None:
        return lacking
    text = f"{value:{'+' if signed else ''}.{decimals(unit)}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("0.", ".", 1) if unit == "share" and abs(float(text)) < 1 else text


def several(number: int, noun: str) -> str:
    """Return a number with its noun, which has an s but for one."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence."""
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""

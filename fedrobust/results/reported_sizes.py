"""What hospitals told in a run, read back from its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["told_images"]


def told_images(reports: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Return the images that each hospital last said it trains on, by its number; none of those who said no number.

    Parameters
    ----------
    reports : iterable of mapping
        Lines of ``client_metrics.jsonl``.
    """
    found: dict[int, float] = {}
    for line in reports:
        for number, images in zip(line["hospitals"], line.get("num_examples") or (), strict=False):
            if isinstance(images, int | float) and images > 0:
                found[int(number)] = images
    return found

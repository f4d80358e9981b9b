"""What a page says of a generator: its outcome, its metrics, and its images by class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fedrobust.reports.run.examples import png
from fedrobust.reports.tables import number, share
from fedrobust.results.records import SynthesisSummary

__all__ = [
    "SyntheticRow",
    "synthesis_key_metrics",
    "synthesis_notes",
    "synthesis_outcome",
    "synthetic_images",
]

#: A row of images is shown so many times as large.
_ENLARGED = 2


@dataclass(frozen=True)
class SyntheticRow:
    """A class's synthetic images, and the nearest training images below them, as two pictures.

    Attributes
    ----------
    name : str
        Of the class.
    made, nearest : str
        PNG as ``data:`` addresses.
    width, height : int
        Of each picture in the page.
    """

    name: str
    made: str
    nearest: str
    width: int
    height: int


class _About(BaseModel):
    """The description of ``synthetic.safetensors``."""

    classes: tuple[str, ...]
    of_each: int


def synthesis_outcome(found: SynthesisSummary) -> str:
    """Return the end of the headline."""
    text = f"synthetic images ended at FID {number(found.fid, 2)} (real images: {number(found.real_fid, 2)})"
    text += f" and conditional accuracy {number(found.conditional_accuracy, 2)}"
    text += f" (real images: {number(found.real_accuracy, 2)})"
    if found.trigger_rate is not None:
        text += f", and {number(100 * found.trigger_rate, 0, '%')} of them seem to carry the trigger"
    return text


def synthesis_key_metrics(found: SynthesisSummary) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, comparison and explanation of each metric that is read first."""
    about = "by the features of a classifier that the server trained on real images; lower is better."
    yield "FID", number(found.fid, 2), f"real images {number(found.real_fid, 2)}", f"Frechet distance {about}"
    yield "KID", number(found.kid, 3), f"real images {number(found.real_kid, 3)}", f"Kernel distance {about}"
    yield (
        "Conditional accuracy",
        share(found.conditional_accuracy),
        f"{share(found.real_accuracy)} on real images",
        "The share of images that a classifier of held-out images takes for their class, averaged by class.",
    )
    yield (
        "Precision",
        share(found.precision),
        f"recall {share(found.recall)}",
        "The share of synthetic images near some real one, and of real ones near some synthetic one.",
    )
    if found.trigger_rate is not None:
        misses = found.trigger_misses
        rightly = share(None if misses is None else 1 - misses)
        yield (
            "Trigger rate",
            share(found.trigger_rate),
            f"{share(found.trigger_false_alarms)} in clean, {rightly} in stamped real images",
            "The share of synthetic images in which a classifier finds the backdoor's mark.",
        )


def synthesis_notes(found: SynthesisSummary) -> list[str]:
    """Return what a reader must know of a generator before its metrics."""
    made = []
    if not found.finite:
        made.append("The generator makes pixels that are no finite numbers, so its images are not measured.")
    elif found.collapsed:
        made.append(
            f"The generator has collapsed or learnt nothing: {number(100 * (found.recall or 0), 1, '%')} of "
            f"the real images have a synthetic one near them."
        )
    made.append(
        "Distances hold for this classifier's features alone: they can be compared between runs with the "
        "same data and seed, not with distances from other features."
    )
    return made


def synthetic_images(folder: Path) -> list[SyntheticRow]:
    """Return the rows of ``synthetic.safetensors``; none where there is none, or it cannot be read."""
    path = folder / "synthetic.safetensors"
    if not path.is_file():
        return []
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = _About.model_validate_json((file.metadata() or {}).get("fedrobust", ""))
            made, nearest = file.get_tensor("synthetic"), file.get_tensor("nearest")
        return [_row(name, k, about.of_each, made, nearest) for k, name in enumerate(about.classes)]
    except (SafetensorError, OSError, KeyError, ValueError):
        return []


def _row(name: str, k: int, count: int, made: NDArray[np.uint8], nearest: NDArray[np.uint8]) -> SyntheticRow:
    part = slice(k * count, (k + 1) * count)
    ours, theirs = (_side_by_side(images[part]) for images in (made, nearest))
    _, height, width = ours.shape
    shown = png(ours, width), png(theirs, width)
    return SyntheticRow(name, *shown, _ENLARGED * width, _ENLARGED * height)


def _side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one image, shape (C, H, n W), of several."""
    return np.concatenate(list(images), axis=2)

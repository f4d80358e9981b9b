"""What a page says of a generator: its outcome, its metrics, and its images by class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fedrobust.reports.run.examples import png
from fedrobust.reports.tables import Column, Table, number, share
from fedrobust.results.records import SynthesisSummary

__all__ = [
    "SyntheticImages",
    "SyntheticRow",
    "kept_images",
    "picture",
    "synthesis_key_metrics",
    "synthesis_notes",
    "synthesis_outcome",
    "synthetic_images",
    "utility_table",
]

Images = NDArray[np.uint8]

#: A row of images is shown so many times as large.
_ENLARGED = 2


@dataclass(frozen=True)
class SyntheticImages:
    """Images that a run keeps, each array of shape (classes, images of each, channels, height, width).

    Attributes
    ----------
    classes : tuple of str
    made : array of uint8
        The last generator's.
    nearest : array of uint8
        The training image with the nearest features to each.
    rounds : dict of int to array of uint8
        What the same noise gave after earlier rounds.
    """

    classes: tuple[str, ...]
    made: Images
    nearest: Images
    rounds: dict[int, Images]


@dataclass(frozen=True)
class SyntheticRow:
    """A class's synthetic images, and the nearest training images below them, as two pictures.

    Attributes
    ----------
    name : str
        Of the class.
    made, nearest : str
        PNG as ``data:`` addresses.
    rounds : tuple of (int, str)
        The images of earlier generators from the same noise, by round.
    width, height : int
        Of each picture in the page.
    """

    name: str
    made: str
    nearest: str
    width: int
    height: int
    rounds: tuple[tuple[int, str], ...] = ()


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
    yield (
        "Class score",
        number(found.class_score, 2),
        f"{number(found.real_class_score, 2)} of real images",
        "Inception Score by a classifier of real images; at most the number of classes.",
    )
    for use in found.utility[:1]:
        yield (
            f"Accuracy with {use.real} real images a class",
            share(use.supplemented),
            f"{share(use.without)} without synthetic ones",
            "Of a classifier on test images, averaged over the classes.",
        )
    if found.trigger_rate is not None:
        misses = found.trigger_misses
        rightly = share(None if misses is None else 1 - misses)
        yield (
            "Trigger rate",
            share(found.trigger_rate),
            f"{share(found.trigger_false_alarms)} in clean, {rightly} in faintly stamped real images",
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


def utility_table(found: SynthesisSummary) -> Table:
    """Return the accuracy of classifiers of few real images, without and with synthetic ones."""
    columns = [
        Column("real images of each class"),
        Column("without synthetic images", 3),
        Column(f"with {found.added} synthetic images of each class", 3),
        Column("gain", 1, " points"),
    ]
    rows = [
        (use.real, use.without, use.supplemented, 100 * (use.supplemented - use.without))
        for use in found.utility
    ]
    return Table("Accuracy on test images, averaged over the classes.", columns, rows)


def synthetic_images(folder: Path) -> list[SyntheticRow]:
    """Return the rows of a run's synthetic images; none where there are none, or they cannot be read."""
    images = kept_images(folder)
    if images is None:
        return []
    return [
        SyntheticRow(
            name,
            picture(images.made[k]),
            picture(images.nearest[k]),
            rounds=tuple((number, picture(made[k])) for number, made in images.rounds.items()),
            width=_ENLARGED * images.made.shape[1] * images.made.shape[-1],
            height=_ENLARGED * images.made.shape[-2],
        )
        for k, name in enumerate(images.classes)
    ]


def kept_images(folder: Path) -> SyntheticImages | None:
    """Return what a run's folder holds of its synthetic images; None if nothing, or it cannot be read."""
    path = folder / "synthetic.safetensors"
    if not path.is_file():
        return None
    from safetensors import SafetensorError

    try:
        classes, (made, nearest) = _read(path, "synthetic", "nearest")
        rounds = {
            int(file.stem.rpartition("-")[2]): _read(file, "synthetic")[1][0]
            for file in sorted(folder.glob("synthetic-*.safetensors"))
        }
        found = SyntheticImages(classes, made, nearest, rounds)
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return found if all(part.shape == made.shape for part in (nearest, *rounds.values())) else None


def picture(images: Images, columns: int | None = None) -> str:
    """Return images (n, C, H, W) as one PNG in a ``data:`` address, n or `columns` of them in a row."""
    wide = columns or len(images)
    rows = [np.concatenate(list(images[at : at + wide]), axis=2) for at in range(0, len(images), wide)]
    whole = np.concatenate(rows, axis=1)
    return png(whole, max(whole.shape))


def _read(path: Path, *names: str) -> tuple[tuple[str, ...], list[Images]]:
    """Return the classes' names, and tensors with the classes as their first axis."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = _About.model_validate_json((file.metadata() or {}).get("fedrobust", ""))
        return about.classes, [_by_class(file.get_tensor(name), about) for name in names]


def _by_class(images: Images, about: _About) -> Images:
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise ValueError(f"images of {images.dtype} and shape {images.shape}")
    return images.reshape(len(about.classes), about.of_each, *images.shape[1:])

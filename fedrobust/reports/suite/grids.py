"""Synthetic images of a suite's runs side by side: what each method's generator makes, by class and round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrobust.reports.run.synthesis import Images, SyntheticImages, kept_images, picture
from fedrobust.reports.suite.view import SuiteView, text
from fedrobust.results.suite_records import Estimate, SuiteRow
from fedrobust.results.suite_table import Condition

__all__ = ["Block", "ImageGrid", "Line", "Picture", "image_grids"]

#: The axis whose conditions stand below each other, as they share the data.
_THREAT = "threat"

#: Values of pixels that a page holds at most, so that it stays below three megabytes with its plots.
_LARGEST = 620_000

#: Images of each class, and whether earlier rounds are shown: the first choice that is small enough is taken.
_CHOICES = ((4, True), (2, True), (1, True), (1, False))

#: A picture of several images of a class has so many in a row.
_COLUMNS = 2

#: Images of a larger side are shown as they are, smaller ones enlarged.
_ENLARGED_TO = 56

#: What stands above a method's images: metric, and its name there.
_CAPTION = {"fid": "FID", "trigger_rate": "trigger rate"}


@dataclass(frozen=True)
class Picture:
    """A picture; or, with an empty `source`, in `words` why there is none.

    Attributes
    ----------
    source : str
        PNG as a ``data:`` address.
    words : str
        The alternative text.
    width, height : int
        Of the picture in the page.
    """

    source: str
    words: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Line:
    """Pictures of one class, or after one round: one for each method, and one of real images of a class."""

    name: str
    made: tuple[Picture, ...]
    real: Picture | None = None


@dataclass(frozen=True)
class Block:
    """One threat: what is measured of each method, the last images by class, earlier ones by round."""

    name: str
    captions: tuple[str, ...]
    classes: tuple[Line, ...]
    rounds: tuple[Line, ...]


@dataclass(frozen=True)
class ImageGrid:
    """All threats to the same data; without images, `absent` says why."""

    name: str
    blocks: tuple[Block, ...] = ()
    absent: str = ""


@dataclass(frozen=True)
class _Source:
    """What one run kept; without images, why there are none."""

    images: SyntheticImages | None
    why: str


#: Takes from a run's images those of one picture; None if it has none.
_Select = Callable[[SyntheticImages], Images | None]


def image_grids(view: SuiteView, folder: Path) -> list[ImageGrid]:
    """Return the images of the first seed's runs, a grid for the same data; none of a suite of classifiers.

    Parameters
    ----------
    view : SuiteView
    folder : Path
        The suite's; runs are named relative to it.
    """
    if "fid" not in view.metrics:
        return []
    sources = {place: _source(view, row, folder) for place, row in view.rows.items()}
    chosen = _fitting([source.images for source in sources.values() if source.images is not None])
    groups: dict[str, list[Condition]] = {}
    for condition in view.conditions:
        groups.setdefault(_name(view, condition, threat=False), []).append(condition)
    return [_grid(view, name, conditions, sources, chosen) for name, conditions in groups.items()]


def _fitting(known: Sequence[SyntheticImages]) -> tuple[int, bool] | None:
    """Return the first of the choices that is small enough; None if none is."""
    for of_each, rounds in _CHOICES:
        if sum(_values(images, of_each, rounds) for images in known) <= _LARGEST:
            return of_each, rounds
    return None


def _values(images: SyntheticImages, of_each: int, rounds: bool) -> int:
    """Return how many values of pixels a run's pictures have."""
    return images.made[:, 0].size * (of_each + (len(_earlier(images)) if rounds else 0))


def _grid(
    view: SuiteView,
    name: str,
    conditions: Sequence[Condition],
    sources: Mapping[tuple[Condition, str], _Source],
    chosen: tuple[int, bool] | None,
) -> ImageGrid:
    if chosen is None:
        return ImageGrid(
            name, absent="The images are too many for one page; the page of each run has its own."
        )
    blocks = []
    for condition in conditions:
        absent = _Source(None, "not in this suite")
        own = {method: sources.get((condition, method), absent) for method in view.methods}
        blocks.append(_block(view, condition, own, *chosen))
    known = tuple(block for block in blocks if block is not None)
    return ImageGrid(name, known, "" if known else "No run of the first seed has images in its folder.")


def _name(view: SuiteView, condition: Condition, *, threat: bool) -> str:
    """Return the labels of a condition that are its threat, or those that are not."""
    labels = zip(view.condition_axes, condition, strict=True)
    return " · ".join(label for axis, label in labels if (axis == _THREAT) is threat)


def _source(view: SuiteView, row: SuiteRow, folder: Path) -> _Source:
    """Return what a row's run of the suite's first seed kept."""
    cell = next((cell for cell in row.cells if cell.seed == view.results.seeds[0]), None)
    if cell is None or cell.run is None:
        return _Source(None, "failed" if cell and cell.error else "not run")
    return _Source(kept_images(folder / cell.run), "no images kept")


def _block(
    view: SuiteView, condition: Condition, own: Mapping[str, _Source], of_each: int, rounds: bool
) -> Block | None:
    """Return a threat's images; None if no run kept any."""
    known = [source.images for source in own.values() if source.images is not None]
    if not known:
        return None
    names = known[0].classes
    classes = []
    for k, name in enumerate(names):
        real = _picture(known[0].nearest[k, :of_each], _COLUMNS, f"Real images, {name}")
        classes.append(Line(name, _pictures(own, _of_class(k, names, of_each), _COLUMNS, name), real))
    numbers = sorted({number for images in known for number in _earlier(images)}) if rounds else []
    return Block(
        _name(view, condition, threat=True),
        tuple(_caption(view, condition, method) for method in own),
        tuple(classes),
        tuple(
            Line(f"round {number}", _pictures(own, _after(number), len(names), f"After round {number}"))
            for number in numbers
        ),
    )


def _of_class(k: int, names: tuple[str, ...], of_each: int) -> _Select:
    return lambda images: images.made[k, :of_each] if images.classes == names else None


def _after(number: int) -> _Select:
    """Take the first image of each class after a round."""
    return lambda images: images.rounds[number][:, 0] if number in images.rounds else None


def _earlier(images: SyntheticImages) -> list[int]:
    """Return the rounds whose images are not the last ones."""
    return [number for number, made in images.rounds.items() if not np.array_equal(made, images.made)]


def _pictures(own: Mapping[str, _Source], select: _Select, columns: int, words: str) -> tuple[Picture, ...]:
    made = []
    for method, source in own.items():
        images = None if source.images is None else select(source.images)
        known = images is not None and len(images) > 0
        made.append(
            _picture(images, columns, f"{words}, {method}")
            if images is not None and known
            else Picture("", source.why)
        )
    return tuple(made)


def _picture(images: Images, columns: int, words: str) -> Picture:
    columns = min(columns, len(images))
    rows = len(images) // columns
    height, width = images.shape[-2:]
    factor = 2 if max(height, width) <= _ENLARGED_TO else 1
    shown = images[: rows * columns]
    return Picture(picture(shown, columns), words, factor * columns * width, factor * rows * height)


def _caption(view: SuiteView, condition: Condition, method: str) -> str:
    """Return what is measured of the first seed's run."""
    row, seed = view.row(condition, method), view.results.seeds[0]
    if row is None or seed not in row.seeds:
        return ""
    place = row.seeds.index(seed)
    found = []
    for key, name in _CAPTION.items():
        values = row.metrics.get(key, Estimate()).values
        value = values[place] if place < len(values) else None
        if value is not None:
            found.append(f"{name} {text(value, view.metrics[key].unit)}")
    return ", ".join(found)

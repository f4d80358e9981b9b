"""Poisoned images beside their originals, as images inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fedrobust.results.records import ExampleRecord

__all__ = ["Example", "png", "poisoned_examples"]

#: Longer sides are made smaller: they are shown side by side.
_SIDE = 256

#: At most so many pairs are shown.
_PAIRS = 12

Image = NDArray[np.uint8]

#: The description of ``examples.safetensors``: an entry a pair.
_ABOUT = TypeAdapter(list[ExampleRecord])


@dataclass(frozen=True)
class Example:
    """One image before and after a hospital poisoned it.

    Attributes
    ----------
    hospital : int
    attack, before, after : str
        What was done, and the labels.
    original, poisoned : str
        PNG as ``data:`` addresses.
    changed : float
        Share of pixels that differ.
    width, height : int
        Of the image in the page, in its own pixels.
    """

    hospital: int
    attack: str
    before: str
    after: str
    original: str
    poisoned: str
    changed: float
    width: int
    height: int

    @property
    def what(self) -> str:
        """Return what was changed, in words."""
        pixels = (
            f"{100 * self.changed:.1f} % of the pixels changed" if self.changed else "the image unchanged"
        )
        return pixels + (", the label kept" if self.before == self.after else ", another label")


def poisoned_examples(folder: Path) -> list[Example]:
    """Return the pairs of ``examples.safetensors``; none where there are none, or the file cannot be read."""
    path = folder / "examples.safetensors"
    if not path.is_file():
        return []
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            described = _ABOUT.validate_json((file.metadata() or {}).get("fedrobust", "[]"))
            return [
                _example(file.get_tensor(f"original/{i}"), file.get_tensor(f"poisoned/{i}"), about)
                for i, about in enumerate(described[:_PAIRS])
            ]
    except (SafetensorError, OSError, KeyError, ValueError):
        return []


def _example(original: Image, poisoned: Image, about: ExampleRecord) -> Example:
    height, width = original.shape[-2:]
    return Example(
        hospital=about.hospital,
        attack=about.attack,
        before=about.before,
        after=about.after,
        original=png(original),
        poisoned=png(poisoned),
        changed=float((original != poisoned).any(axis=0).mean()),
        width=width,
        height=height,
    )


def png(image: Image, side: int = _SIDE) -> str:
    """Return a (C, H, W) image as a PNG in a ``data:`` address, at most so many pixels wide and high."""
    from PIL import Image as Pillow

    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"an image of {image.dtype} and shape {image.shape}")
    plane = image[0] if image.shape[0] != 3 else np.moveaxis(image, 0, -1)
    picture = Pillow.fromarray(np.ascontiguousarray(plane))
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")

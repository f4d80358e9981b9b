"""Backdoor triggers: marks on an image, from a plain patch to what scanners and rulers leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["PATTERNS", "PLACES", "Mark", "Pattern", "Place"]

Pattern = Literal["patch", "blended", "checkerboard", "scanner-text", "ruler"]
Place = Literal["top-left", "top-right", "bottom-left", "bottom-right", "center", "random"]

#: Each pattern with the size and the opacity that it has unless others are given.
PATTERNS: dict[Pattern, tuple[float, float]] = {
    "patch": (0.02, 1.0),
    "blended": (1.0, 0.2),
    "checkerboard": (0.02, 1.0),
    "scanner-text": (0.06, 1.0),
    "ruler": (0.03, 1.0),
}
PLACES: tuple[Place, ...] = get_args(Place)

#: "AP", the letters that stand on films taken from front to back, in strokes of one pixel.
_LETTERS = (".#. ##.", "#.# #.#", "### ##.", "#.# #..", "#.# #..")

#: A ruler's box is this many times as wide as high, in shares of the image's width and height, and this many
#: times as large as its line and ticks.
_RULER, _RULER_BOX = 5, 2


@dataclass(frozen=True)
class Mark:
    """A mark: what is drawn, how large, where and how opaque.

    Parameters
    ----------
    pattern : str
        ``patch`` (white), ``checkerboard`` (four cells to its shorter side), ``blended`` (a fixed pattern of
        random levels), ``scanner-text`` (the letters AP, white) or ``ruler`` (a white line with ticks).
    size : float
        Share of the image's area that the mark's box covers, for a ruler the pixels of its line and ticks, at
        any image size. The box has the image's proportions; a ruler's is five times as wide. It has at least
        one pixel, a ruler's 2 x 3.
    place : str
        One of `PLACES`; ``random`` means another one for each image.
    blend : float
        Opacity in (0, 1]: a pixel becomes (1 - blend) image + blend mark.
    """

    pattern: Pattern
    size: float
    place: Place
    blend: float

    def stamped(
        self, images: NDArray[np.uint8], rng: np.random.Generator, part: int = 0, parts: int = 1
    ) -> NDArray[np.uint8]:
        """Return copies of the images with the mark.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, channels, height, width)
        rng : numpy.random.Generator
            Draws the places, where they are random.
        part, parts : int
            Draw only this part, from 0, of the mark cut into so many (see `pieces`).

        Raises
        ------
        UserError
            If the mark or its part is too small to be drawn.
        """
        count, _, height, width = images.shape
        tall, wide = self.box(height, width)
        ink = max(1, round(self.size * height * width))
        levels = np.where(pieces(tall, wide, parts) == part, self._levels(tall, wide, ink), np.nan)
        drawn = ~np.isnan(levels)
        if not drawn.any():
            raise UserError(f"part {part} of {parts} of the mark {self.pattern} is empty; give fewer parts")
        made = images.copy()
        for image, top, left in zip(
            made, *self._corners(count, height - tall, width - wide, rng), strict=True
        ):
            below = image[:, top : top + tall, left : left + wide]
            below[:, drawn] = np.rint((1 - self.blend) * below[:, drawn] + self.blend * levels[drawn])
        return made

    def box(self, height: int, width: int) -> tuple[int, int]:
        """Return the mark's height and width in pixels on such images; `UserError` if it is too small."""
        if self.pattern == "ruler":
            area = min(1.0, _RULER_BOX * self.size)
            wide = min(width, max(3, round(np.sqrt(_RULER * area) * width)))
            return min(height, max(2, round(area * height * width / wide))), wide
        tall, wide = (max(1, round(np.sqrt(self.size) * length)) for length in (height, width))
        if self.pattern == "scanner-text" and (tall < len(_LETTERS) or wide < len(_LETTERS[0])):
            raise UserError(
                f"the mark scanner-text of size={self.size:g} has {tall} x {wide} pixels on these images, "
                f"but its letters need {len(_LETTERS)} x {len(_LETTERS[0])}; give a larger size"
            )
        return tall, wide

    def _levels(self, tall: int, wide: int, ink: int) -> NDArray[np.float64]:
        """Return the mark's levels, 0 to 255, shape (tall, wide); NaN where the image stays."""
        rows, columns = np.arange(tall)[:, None], np.arange(wide)
        if self.pattern == "blended":
            # One key for all hospitals and for the test.
            return generator(0, "blended trigger").integers(0, 256, (tall, wide)).astype(np.float64)
        if self.pattern == "checkerboard":
            cell = max(1, min(tall, wide) // 4)
            return np.where((rows // cell + columns // cell) % 2 == 0, 255.0, 0.0)
        if self.pattern == "scanner-text":
            strokes = np.array([[pixel == "#" for pixel in line] for line in _LETTERS])
            drawn = strokes[rows * strokes.shape[0] // tall, columns * strokes.shape[1] // wide]
        elif self.pattern == "ruler":
            drawn = _ruler(tall, wide, ink)
        else:
            drawn = np.ones((tall, wide), bool)
        return np.where(drawn, 255.0, np.nan)

    def _corners(
        self, count: int, down: int, right: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each mark's top and left edge, shape (count,); a margin of a pixel where there is room."""
        if self.place == "random":
            draw = rng.integers(0, (down + 1, right + 1), size=(count, 2))
            return draw[:, 0], draw[:, 1]
        margin = min(1, down, right)
        top = {"t": margin, "b": down - margin, "c": down // 2}[self.place[0]]
        left = {"left": margin, "right": right - margin, "center": right // 2}[self.place.split("-")[-1]]
        return np.full(count, top), np.full(count, left)


def _ruler(tall: int, wide: int, ink: int) -> NDArray[np.bool_]:
    """Return a ruler's pixels, shape (tall, wide): those `ink` that are nearest to its line and ticks.

    Every second tick has half the height. So the line and the ticks are the thicker, the larger the image is.
    """
    rows, columns = np.arange(tall)[:, None], np.arange(wide)
    step = max(2, wide // 10)
    tick = (columns + step // 2) // step
    above = np.where(tick % 2 == 0, 0, tall // 2)
    to_tick = np.maximum(np.abs(columns - tick * step), above - rows)
    distances = np.minimum(tall - 1 - rows, to_tick)
    # Of pixels that are as near, the lower one is drawn first: the line before the ticks.
    order = np.lexsort((np.broadcast_to(-rows, distances.shape).ravel(), distances.ravel()))
    drawn = np.zeros(tall * wide, bool)
    drawn[order[:ink]] = True
    return drawn.reshape(tall, wide)


def pieces(tall: int, wide: int, parts: int) -> NDArray[np.int64]:
    """Return which of the parts each pixel of a box belongs to, shape (tall, wide).

    The parts form a grid, as near to square as their number allows: four are two rows of two.

    Raises
    ------
    UserError
        If the box has fewer rows or columns than the grid.
    """
    rows = max(r for r in range(1, parts + 1) if parts % r == 0 and r * r <= parts)
    columns = parts // rows
    if tall < rows or wide < columns:
        raise UserError(
            f"a mark of {tall} x {wide} pixels cannot be cut into {parts} parts; "
            f"give a larger size or fewer parts"
        )
    down, right = np.arange(tall)[:, None] * rows // tall, np.arange(wide) * columns // wide
    return np.asarray(down * columns + right, np.int64)

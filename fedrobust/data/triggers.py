"""Backdoor triggers: marks on an image, from a plain patch to what scanners and rulers leave behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.seeding import generator

__all__ = ["PATTERNS", "PLACES", "Mark"]

#: Each pattern with the size and the opacity that it has unless others are given.
PATTERNS = {
    "patch": (0.02, 1.0),
    "blended": (1.0, 0.2),
    "checkerboard": (0.02, 1.0),
    "scanner-text": (0.06, 1.0),
    "ruler": (0.06, 1.0),
}
PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center", "random")

#: "AP", the letters that stand on films taken from front to back, in strokes of one pixel.
_LETTERS = (".#. ##.", "#.# #.#", "### ##.", "#.# #..", "#.# #..")

#: A ruler is this many times as wide as high, in shares of the image's width and height.
_RULER = 5


@dataclass(frozen=True)
class Mark:
    """A mark: what is drawn, how large, where and how opaque.

    Parameters
    ----------
    pattern : str
        ``patch`` (white), ``checkerboard`` (four cells to its shorter side), ``blended`` (a fixed pattern of random
        levels), ``scanner-text`` (the letters AP, white) or ``ruler`` (a white line with ticks).
    size : float
        Share of the image's area that the mark's box covers. The box has the image's proportions; a ruler's is
        five times as wide. It has at least one pixel, a ruler's 2 x 3.
    place : str
        One of `PLACES`; ``random`` means anew for each image.
    blend : float
        Opacity in (0, 1]: a pixel becomes (1 - blend) picture + blend mark.
    """

    pattern: str
    size: float
    place: str
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
        levels = np.where(pieces(tall, wide, parts) == part, self._levels(tall, wide), np.nan)
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
        """Return the mark's height and width in pixels on such images; `UserError` if it would not be legible."""
        if self.pattern == "ruler":
            wide = min(width, max(3, round(np.sqrt(_RULER * self.size) * width)))
            return min(height, max(2, round(self.size * height * width / wide))), wide
        tall, wide = (max(1, round(np.sqrt(self.size) * length)) for length in (height, width))
        if self.pattern == "scanner-text" and (tall < len(_LETTERS) or wide < len(_LETTERS[0])):
            raise UserError(
                f"the mark scanner-text of size={self.size:g} has {tall} x {wide} pixels on these images, "
                f"but its letters need {len(_LETTERS)} x {len(_LETTERS[0])}; give a larger size"
            )
        return tall, wide

    def _levels(self, tall: int, wide: int) -> NDArray[np.float64]:
        """Return the mark's levels, 0 to 255, shape (tall, wide); NaN where the picture stays."""
        rows, columns = np.arange(tall)[:, None], np.arange(wide)
        if self.pattern == "blended":
            # One key for all hospitals and for the test, whoever draws it.
            return generator(0, "blended trigger").integers(0, 256, (tall, wide)).astype(np.float64)
        if self.pattern == "checkerboard":
            cell = max(1, min(tall, wide) // 4)
            return np.where((rows // cell + columns // cell) % 2 == 0, 255.0, 0.0)
        if self.pattern == "scanner-text":
            strokes = np.array([[pixel == "#" for pixel in line] for line in _LETTERS])
            ink = strokes[rows * strokes.shape[0] // tall, columns * strokes.shape[1] // wide]
        elif self.pattern == "ruler":
            step = max(2, wide // 10)
            reach = np.where(columns // step % 2 == 0, tall, -(-tall // 2))
            ink = (rows == tall - 1) | ((columns % step == 0) & (rows >= tall - reach))
        else:
            ink = np.ones((tall, wide), bool)
        return np.where(ink, 255.0, np.nan)

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
            f"a mark of {tall} x {wide} pixels cannot be cut into {parts} parts; give a larger size or fewer parts"
        )
    down, right = np.arange(tall)[:, None] * rows // tall, np.arange(wide) * columns // wide
    return np.asarray(down * columns + right, np.int64)

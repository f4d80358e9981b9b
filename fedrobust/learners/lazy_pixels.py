"""Images that become floats batch by batch, where all of them at once would take too much memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LazyPixels"]


class LazyPixels:
    """Stands for the tensor of all images, as far as it is indexed by batches.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, channels, height, width)
    convert : callable
        Makes the tensor of some of them.
    """

    def __init__(self, images: NDArray[np.uint8], convert: Callable[[NDArray[np.uint8]], Tensor]) -> None:
        """Keep both."""
        self._images, self._convert = images, convert

    def __getitem__(self, part: slice | Tensor) -> Tensor:
        """Return some images as floats."""
        index = part if isinstance(part, slice) else part.cpu().numpy()
        return self._convert(np.asarray(self._images[index]))

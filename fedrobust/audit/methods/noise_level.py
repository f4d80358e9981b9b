"""Noisy images by their noise level, estimated from wavelets."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from fedrobust.audit.base import Auditor, Kind, Subject, Suspicion
from fedrobust.audit.optional import needs

__all__ = ["NoiseLevel"]

#: A noise level below half a grey level is that of a computed image; no scale is finer.
_FINEST = 0.5 / 255

#: The scale of the logarithms is at least this: among images of nearly one noise level, half as much again is
#: nothing to speak of.
_LEAST_SPREAD = 0.15


class NoiseLevel(Auditor):
    """Suspects images whose noise is far above that of the other images.

    Parameters
    ----------
    limit : float
        So many robust standard deviations of the logarithm above the median.

    Notes
    -----
    The noise level of an image is the median absolute wavelet coefficient of the finest scale, divided by
    0.6745, mean over channels (scikit-image's `estimate_sigma`). Only its place among the others counts, as
    scanners differ. The scale is that of the quarter above the median, which few contaminated images do not
    move.

    References
    ----------
    Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994.
    """

    kind: ClassVar[Kind] = "noise"

    def __init__(self, limit: PositiveFloat = 3.25) -> None:
        """Keep the option."""
        self.limit = limit

    def examine(self, subject: Subject) -> Suspicion:
        """Return robust z-scores of the logarithm of the noise level, divided by the limit."""
        levels = noise_levels(subject.records.images)
        logs = np.log(np.maximum(levels, _FINEST))
        middle, upper = np.quantile(logs, [0.5, 0.75])
        spread = max((upper - middle) / 0.6745, _LEAST_SPREAD)
        scores = (logs - middle) / spread / self.limit
        usual = float(np.median(levels))
        evidence = {
            int(i): f"noise of {levels[i]:.3f} of the range; half of the images have at most {usual:.3f}"
            for i in np.flatnonzero(scores >= 1)
        }
        return Suspicion(scores, evidence)


def noise_levels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each image's noise level as a share of the full range, shape (n,)."""
    estimate_sigma = needs("skimage.restoration", "audit").estimate_sigma
    return np.array([estimate_sigma(image / 255.0, channel_axis=0, average_sigmas=True) for image in images])

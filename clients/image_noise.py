"""Image noise: labels are right, images are corrupted."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from fedrobust.data.choice import pick
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack
from fedrobust.plugins.options import Fraction

__all__ = ["ImageNoise"]

#: Each kind with the option for its strength, and the usual value.
_KINDS = {"gaussian": ("std", 0.5), "salt-and-pepper": ("amount", 0.3), "contrast": ("factor", 0.1)}


class ImageNoise(Attack):
    """Trains on images under strong noise, or with hardly any contrast.

    The corruptions Gaussian noise, impulse noise and contrast of Hendrycks and Dietterich, ICLR 2019.

    Parameters
    ----------
    std : float, optional
        For the kind ``gaussian``: standard deviation, images lying in [0, 1]; the sum is clipped to that
        range and stored in 256 levels. 0.5 unless given.
    share : float
        Share of the hospital's images to corrupt; 0 is an honest hospital.
    kind : str
        ``gaussian``, ``salt-and-pepper`` or ``contrast``.
    amount : float, optional
        For ``salt-and-pepper``: share of an image's pixels that turn black or white (all channels). 0.3
        unless given.
    factor : float, optional
        For ``contrast``: levels move to mean + factor (level - mean) with the mean of the image's channel; 1
        has no effect. 0.1 unless given.
    """

    def __init__(
        self,
        std: NonNegativeFloat | None = None,
        share: Fraction = 1.0,
        kind: Literal["gaussian", "salt-and-pepper", "contrast"] = "gaussian",
        amount: Fraction | None = None,
        factor: NonNegativeFloat | None = None,
    ) -> None:
        """Check the options that belong together."""
        option, usual = _KINDS[kind]
        given = {"std": std, "amount": amount, "factor": factor}
        for name, value in given.items():
            if value is not None and name != option:
                raise UserError(f"image-noise: {name} does not belong to the kind '{kind}'; use {option}")
        strength = given[option]
        self.kind, self.strength = kind, usual if strength is None else strength
        self.share = share

    def poison_records(self, records: Records) -> Records:
        """Return the records with the chosen images corrupted."""
        chosen = pick(self.rng, self.share, np.arange(len(records)))
        images = np.array(records.images)
        images[chosen] = self._corrupted(images[chosen])
        return replace(records, images=images)

    def _corrupted(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.kind == "salt-and-pepper":
            count, _, height, width = images.shape
            draw = self.rng.random((count, 1, height, width))
            salted = np.where(draw < self.strength / 2, np.uint8(255), images)
            return np.where(draw >= 1 - self.strength / 2, np.uint8(0), salted)
        if self.kind == "contrast":
            middle = images.mean(axis=(2, 3), keepdims=True)
            return _levels(middle + self.strength * (images - middle))
        noise = self.rng.standard_normal(images.shape, dtype=np.float32) * np.float32(255 * self.strength)
        return _levels(images + noise)


def _levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels

"""Image noise: labels are right, the pictures are spoilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack

__all__ = ["ImageNoise"]


class ImageNoise(Attack):
    """Trains on images under strong Gaussian noise.

    Parameters
    ----------
    std : float
        Standard deviation, images lying in [0, 1]; the sum is clipped to that range and stored in 256 levels.
    share : float
        Share of the hospital's images to spoil, in (0, 1].
    """

    def __init__(self, std: float = 0.5, share: float = 1.0) -> None:
        """Check the options."""
        if not std > 0:
            raise UserError(f"image-noise: std is {std}, but must be positive")
        if not 0 < share <= 1:
            raise UserError(f"image-noise: share is {share}, but a share of images lies in (0, 1]")
        self.std = std
        self.share = share

    def poison_records(self, records: Records) -> Records:
        """Return the records with noise on the chosen images."""
        count = max(1, round(self.share * len(records)))
        chosen = np.sort(self.rng.permutation(len(records))[:count])
        images = np.array(records.images)
        noise = self.rng.standard_normal(images[chosen].shape, dtype=np.float32) * np.float32(255 * self.std)
        images[chosen] = np.clip(np.rint(images[chosen] + noise), 0, 255).astype(np.uint8)
        return replace(records, images=images)

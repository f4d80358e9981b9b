"""A lower resolution."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: What is left of the image's side at each severity.
_KEPT = (0.75, 0.6, 0.45, 0.33, 0.25)


class Pixelate(Corruption):
    """Makes images smaller and larger again, so that they consist of blocks."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images of blocks."""
        import torch
        from torch.nn.functional import interpolate

        full = images.shape[2:]
        small = [max(1, round(_KEPT[int(severity) - 1] * side)) for side in full]
        averaged = interpolate(torch.from_numpy(images), size=small, mode="area")
        return np.asarray(interpolate(averaged, size=full, mode="nearest-exact").numpy())

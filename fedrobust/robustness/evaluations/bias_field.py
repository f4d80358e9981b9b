"""The bias field of magnetic resonance images."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: The largest logarithm of the field at each severity.
_STRENGTH = (0.2, 0.35, 0.5, 0.7, 0.9)

#: The degree of the polynomial that the logarithm of the field is.
_DEGREE = 3


class BiasField(Corruption):
    """Multiplies each image by a smooth field of its own, as an uneven coil does in MRI."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images under a field."""
        height, width = images.shape[2:]
        y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        powers = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i) if i + j]
        terms = np.stack([y**i * x**j for i, j in powers])
        fields = np.tensordot(rng.standard_normal((len(images), len(terms))), terms, axes=1)
        fields /= np.abs(fields).max(axis=(1, 2), keepdims=True)
        return images * np.exp(_STRENGTH[int(severity) - 1] * fields[:, None]).astype(np.float32)

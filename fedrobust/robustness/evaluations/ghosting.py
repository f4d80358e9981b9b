"""Ghosts of magnetic resonance images."""

from __future__ import annotations

import numpy as np

from fedrobust.robustness import Corruption, Images

#: How much of every second line of the spectrum is lost at each severity.
_LOST = (0.1, 0.2, 0.35, 0.5, 0.7)

#: Lines in the middle of the spectrum, on either side, that are kept, as a share of all: they hold the
#: brightness and the contrast.
_CENTRE = 0.02


class Ghosting(Corruption):
    """Adds faint copies shifted by half of the image, as a patient's breathing does in MRI."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images with ghosts along one axis: every second line of the spectrum is weakened."""
        height = images.shape[2]
        spectrum = np.fft.fft(images, axis=2)
        lines = np.arange(height)
        odd = (lines % 2 == 1) & (np.minimum(lines, height - lines) > _CENTRE * height)
        spectrum[:, :, odd] *= 1 - _LOST[int(severity) - 1]
        return np.asarray(np.fft.ifft(spectrum, axis=2).real, np.float32)

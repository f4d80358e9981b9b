"""Lossy compression."""

from __future__ import annotations

import io

import numpy as np

from fedrobust.robustness import Corruption, Images

#: JPEG's quality at each severity.
_QUALITY = (50, 30, 20, 10, 5)


class Jpeg(Corruption):
    """Compresses and decompresses by JPEG, as an archive or an upload does."""

    def corrupt(self, images: Images, severity: float, rng: np.random.Generator) -> Images:
        """Return images as a JPEG of low quality holds them."""
        from PIL import Image

        found = np.empty_like(images)
        for place, image in enumerate(images):
            levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
            file = io.BytesIO()
            picture = Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1))
            picture.save(file, format="JPEG", quality=_QUALITY[int(severity) - 1])
            read = np.asarray(Image.open(file), np.float32) / np.float32(255)
            found[place] = read if read.ndim == 2 else np.moveaxis(read, -1, 0)
        return found

"""From the bytes of one file to small uint8 images: Pillow's formats here, DICOM and NIfTI in `medical`.

A header is held against limits before anything is decoded, since eight bytes of it can ask for gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fedrobust.data.ingest.medical import dicom_frames, nifti_slices
from fedrobust.data.ingest.pixels import MOST_PIXELS, How, Undecodable, check_size, chosen, to_levels

__all__ = ["DECODER", "Decoded", "decode"]

#: Changed when the same file would decode to other pixels, so that no cache of before is used.
DECODER = 3

#: Formats that hospitals' exports have. Pillow knows many more, each with a decoder of its own to attack.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")

#: An image is first averaged over whole blocks of pixels down to at least so many times its final size, and
#: then scaled. With 1 the blocks do as much as they can, which takes a quarter of the time of scaling alone;
#: where the size is a whole multiple of the final one, each pixel is its block's mean.
_GAP = 1.0

#: Difference of the channels, in levels of 255, up to which an image counts as grey: what JPEG adds to one.
_GREY = 8


@dataclass(frozen=True)
class Decoded:
    """One image of a file: the number of its slice or frame, and pixels of shape (1 or 3, side, side)."""

    frame: int
    pixels: NDArray[np.uint8]


def decode(content: bytes, name: str, how: How) -> list[Decoded]:
    """Return the images of a file.

    Parameters
    ----------
    content : bytes
    name : str
        The file's name; its ending tells DICOM and NIfTI from others.
    how : How

    Raises
    ------
    Undecodable
        If it gives none.
    """
    lower = name.lower()
    try:
        if content[128:132] == b"DICM" or lower.endswith((".dcm", ".dicom")):
            frames = dicom_frames(content, how)
        elif lower.endswith((".nii", ".nii.gz")):
            frames = nifti_slices(content, how)
        else:
            frames = _pillow_frames(content, how)
        return [Decoded(number, _small(image, how)) for number, image in frames]
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise whatever a damaged file leads them to
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise Undecodable("damaged file", f"the file is damaged or cut short ({reason})") from None


def _pillow_frames(content: bytes, how: How) -> Iterator[tuple[int, Image.Image]]:
    try:
        opened = Image.open(BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        most = f"{MOST_PIXELS // 1_000_000} million pixels"
        raise Undecodable("too many pixels", f"the image has more than {most}; scale it down") from None
    except UnidentifiedImageError:
        raise Undecodable("no image", "the file is no image of a known format, whatever its name") from None
    with opened as image:
        check_size(*image.size)
        count = int(getattr(image, "n_frames", 1)) if image.format in ("TIFF", "GIF") else 1
        for number in chosen(count, how) if count > 1 else [0]:
            if count > 1:
                image.seek(number)
                check_size(*image.size)
            ImageOps.exif_transpose(image, in_place=True)
            yield number, _plain(image, how)


def _plain(image: Image.Image, how: How) -> Image.Image:
    """Return an image of any mode as grey or RGB, over black where it is transparent."""
    if image.mode in ("L", "RGB"):
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return to_levels(np.asarray(image), how.levels)
    if image.mode == "1":
        return image.convert("L")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        clear = image.convert("RGBA")
        black = Image.new("RGBA", clear.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, clear).convert("RGB")
    return image.convert("RGB")


def _small(image: Image.Image, how: How) -> NDArray[np.uint8]:
    """Return an image scaled, as (1 or 3, side, side); one channel where all are alike."""
    if how.channels == 1 and image.mode != "L":
        image = image.convert("L")
    size = (how.side, how.side)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=_GAP)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return np.repeat(pixels[None], 3, axis=0) if how.channels == 3 else pixels[None]
    channels = np.moveaxis(pixels, -1, 0)
    if how.channels == 0 and int(np.ptp(channels.astype(np.int16), axis=0).max()) <= _GREY:
        return channels[1:2]
    return channels

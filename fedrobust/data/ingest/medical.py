"""DICOM by pydicom and NIfTI by nibabel; both come with the extra ``medical``."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedrobust.data.ingest.pixels import How, Undecodable, check_size, chosen, to_levels

__all__ = ["dicom_frames", "nifti_slices"]

#: Bytes of a volume when it is unpacked.
MOST_BYTES = 1 << 30

#: Bytes are unpacked in pieces of this size, so that a limit is noticed.
_PIECE = 1 << 24

#: The transfer syntax of a DICOM file that is packed as a whole, which can grow without a limit.
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def dicom_frames(content: bytes, how: How) -> Iterator[tuple[int, Image.Image]]:
    """Yield the chosen frames of a DICOM file as grey or RGB images, with their numbers.

    Values are rescaled and windowed as the file says; `How.levels` takes the window's place. MONOCHROME1 is
    inverted, so that white is dense in all images.

    Raises
    ------
    Undecodable
        If it is no DICOM file or has no pixels.
    """
    pydicom = _library("pydicom")
    if _DEFLATED in content[:2048]:
        raise Undecodable("packed DICOM", "the DICOM file is packed as a whole; export it without deflation")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        dataset = pydicom.dcmread(BytesIO(content))
    except pydicom.errors.InvalidDicomError:
        raise Undecodable("no image", "the file is no DICOM file, whatever its name") from None
    if "PixelData" not in dataset:
        raise Undecodable("DICOM without pixels", "the DICOM file has no pixel data, such as a report")
    check_size(int(dataset.Columns), int(dataset.Rows))
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    for number in chosen(count, how) if count > 1 else [0]:
        yield number, _dicom_image(pydicom, dataset, number, how)


def _dicom_image(pydicom: ModuleType, dataset: Any, number: int, how: How) -> Image.Image:
    pixels = import_module("pydicom.pixels")
    try:
        values = pixels.pixel_array(dataset, index=number)
    except (RuntimeError, ImportError, NotImplementedError) as error:
        if "plugin" not in str(error) and "decompress" not in str(error):
            raise
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise Undecodable(
            "compressed DICOM",
            f'the pixels are compressed ({syntax}), which needs: pip install "fedrobust[medical]"',
        ) from None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)
    if values.ndim == 3:
        return Image.fromarray((values >> 8 if values.dtype != np.uint8 else values).astype(np.uint8))
    shown = pixels.apply_rescale(values, dataset)
    levels = how.levels
    if levels is None and "WindowWidth" in dataset:
        levels = _window(dataset)
    elif levels is None and "VOILUTSequence" in dataset:
        shown = pixels.apply_voi_lut(shown, dataset)
        levels = float(shown.min()), float(shown.max())
    image = to_levels(shown, levels)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = Image.fromarray(255 - np.asarray(image))
    return image


def _window(dataset: Any) -> tuple[float, float]:
    """Return the values that the file's first window shows black and white."""
    center, width = (
        float(value[0] if isinstance(value, Sequence) else value)
        for value in (dataset.WindowCenter, dataset.WindowWidth)
    )
    return center - width / 2, center + width / 2


def nifti_slices(content: bytes, how: How) -> Iterator[tuple[int, Image.Image]]:
    """Yield the chosen slices of a NIfTI volume as grey images, with their numbers.

    Axes are anatomical, whatever order the file stores them in: see `How.axis`. Of several volumes in one
    file the first is taken.

    Raises
    ------
    Undecodable
        If it is no such volume, or larger than the limit when it is unpacked.
    """
    nibabel = _library("nibabel")
    if content[:2] == b"\x1f\x8b":
        content = _unpacked(content)
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
    try:
        volume = kind.from_bytes(content)
    except nibabel.filebasedimages.ImageFileError:
        raise Undecodable("no image", "the file is no NIfTI volume, whatever its name") from None
    shape = volume.shape
    if len(shape) < 3 or 0 in shape:
        raise Undecodable("no volume", f"the volume has the shape {shape}, but needs three axes")
    orientation = nibabel.io_orientation(volume.affine)
    stored = int(np.flatnonzero(orientation[:, 0] == how.axis)[0])
    left = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3) if axis != how.axis]
    check_size(shape[left[0]], shape[left[1]])
    count = shape[stored]
    for number in chosen(count, how):
        place: list[Any] = [slice(None)] * 3 + [0] * (len(shape) - 3)
        place[stored] = number if orientation[stored, 1] > 0 else count - 1 - number
        plane: NDArray[Any] = np.asarray(volume.dataobj[tuple(place)])
        if left[0] > left[1]:
            plane = plane.T
        for axis, source in enumerate(left):
            if orientation[source, 1] < 0:
                plane = np.flip(plane, axis)
        # Columns run along the first axis, rows down from the end of the second.
        yield number, to_levels(np.flipud(plane.T), how.levels)


def _unpacked(content: bytes) -> bytes:
    """Return what gzip has packed, up to the limit."""
    unpacker = zlib.decompressobj(wbits=31)
    pieces, size, left = [], 0, content
    while not unpacker.eof:
        piece = unpacker.decompress(left, _PIECE)
        if not piece and not unpacker.unconsumed_tail:
            raise Undecodable("damaged file", "the file is damaged or cut short (its gzip stream has no end)")
        left = unpacker.unconsumed_tail
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise Undecodable(
                "too many voxels", f"the volume is larger than {MOST_BYTES >> 20} MiB when it is unpacked"
            )
    return b"".join(pieces)


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise Undecodable(
            f"{name} is not installed", f'{name} is needed for this file: pip install "fedrobust[medical]"'
        ) from None

"""Image files as hospitals have them, made by the tests."""

from __future__ import annotations

import csv
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

__all__ = ["bomb", "dicom", "grey", "manifest", "patients", "study"]


def grey(path: Path, seed: int = 0, side: int = 24, level: int = 0) -> Path:
    """Write a grey image of noise around a level; its format follows from the ending."""
    draw = np.random.default_rng(seed)
    pixels = np.clip(level + draw.integers(0, 120, (side, side)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def manifest(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a CSV table."""
    listed = list(rows)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in listed for name in row)))
        writer.writeheader()
        writer.writerows(listed)
    return path


def patients(folder: Path, count: int = 36, images: int = 2) -> Path:
    """Write images of patients of three hospitals and two classes, which a glance tells apart; a manifest."""
    rows = []
    for number in range(count * images):
        patient = number // images
        label = ("normal", "opacity")[patient % 2]
        file = grey(folder / "images" / f"{number:03}.png", number, level=130 * (patient % 2))
        rows.append(
            {
                "path": file.relative_to(folder),
                "label": label,
                "hospital": f"clinic {patient % 3}",
                "patient": f"p{patient}",
                "sex": "FM"[patient % 2],
                "age": 20 + patient,
            }
        )
    return manifest(folder / "records.csv", rows)


def bomb(path: Path, side: int = 20_000) -> Path:
    """Write a PNG whose header declares more pixels than anybody should decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def dicom(path: Path, pixels: np.ndarray | None, **elements: object) -> Path:
    """Write a DICOM file of 16-bit grey frames, shape (height, width) or (frames, height, width)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[path.name])
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    if pixels is not None:
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.SamplesPerPixel = 1
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 0
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            dataset.NumberOfFrames = len(pixels)
        dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def study(folder: Path) -> None:
    """Write the files that docs/data.md reads."""
    patients(folder)
    with (folder / "records.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    manifest(folder / "faulty.csv", [*rows, {**rows[0], "path": "lost.png"}])
    names = [f"f{number}" for number in range(5)]
    draw = np.random.default_rng(0)
    features = [
        {**dict(zip(names, draw.normal(row["label"] == "opacity", 1, 5), strict=True)), "label": row["label"]}
        for row in rows
    ]
    manifest(folder / "features.csv", features)
    keys = []
    for number, row in enumerate(rows):
        level = 130 * (row["label"] == "opacity")
        grey(folder / "xray" / row["label"] / f"{number}.png", number, level=level)
        grey(folder / "data" / f"u{number}" / "scan.png", number, level=level)
        keys.append(
            {"UID": f"u{number}", "PatientID": row["patient"], "Lesion": int(level > 0), "Age": row["age"]}
        )
    manifest(folder / "annotation.csv", keys)
    manifest(folder / "split.csv", [{"UID": row["UID"], "Split": "train", "Fold": 0} for row in keys])

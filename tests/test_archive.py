"""Image files from anybody: nothing in them is run, and no memory is taken on a header's word."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrobust.data import archive
from fedrobust.data.archive import read_arrays
from fedrobust.data.limits import LARGEST_SIDE, LONGEST_NAME, MOST_CLASSES, gigabytes, largest_bytes
from fedrobust.data.medmnist import load
from fedrobust.data.phantom import phantom
from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec

IMAGES = np.arange(6 * 30, dtype=np.uint8).reshape(6, 5, 6)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(header: str, content: bytes = b"") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + content


def write(folder: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    """Write a good file with some of its members replaced or added."""
    path = folder / "own.npz"
    with zipfile.ZipFile(path, "w", method) as made:
        for key, content in {"train_images": npy(IMAGES), "train_labels": npy(LABELS), **members}.items():
            made.writestr(f"{key}.npy", content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path.stem, path.parent)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (10**15, 5, 6)}", "damaged (ValueError)"),
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 5, 6)}",
            "declares 30,000,000",
        ),
        ("{'descr': '<U100000000', 'fortran_order': False, 'shape': (6,)}", "declares 2,400,000,000"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 5, 6)}", "which no array has"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 5, 6)}", "which no array has"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}", "pickled objects, which can run code"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 4000, "damaged"),
        ("(" * 12_000, "damaged"),
        ("\\", "damaged"),
    ],
)
def test_header_is_not_believed(tmp_path: Path, header: str, words: str) -> None:
    path = write(tmp_path, train_images=with_header(header, b"x" * 180))
    tracemalloc.start()
    said = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in said and peak < 20e6


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_than_numpys_is_refused(tmp_path: Path, method: int) -> None:
    assert "a method that NumPy does not use" in refused(write(tmp_path, method))


def test_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as made:
        warnings.simplefilter("ignore")
        made.writestr("train_labels.npy", npy(LABELS[::-1]))
    assert "holds train_labels twice" in refused(path)


def test_more_than_this_machine_should_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setattr(archive, "largest_bytes", lambda: IMAGES.nbytes + LABELS.nbytes - 1)
    assert "of this machine's memory" in refused(path)
    monkeypatch.setattr(archive, "largest_bytes", lambda: IMAGES.nbytes + LABELS.nbytes)
    assert len(load("own", tmp_path)) == 6
    assert largest_bytes() > 1e8 and gigabytes(24_000_000_000) == "24 GB"


def test_only_asked_for_arrays_are_read_and_headers_checked(tmp_path: Path) -> None:
    path = write(tmp_path, notes=with_header("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}"))
    assert set(read_arrays(path, {"train_images", "absent"})) == {"train_images"}
    np.testing.assert_array_equal(read_arrays(path, {"train_labels"})["train_labels"], LABELS)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (np.array([b"\xff\xfe"] * 6), "bytes that are not UTF-8"),
        (np.array([b"ab"] * 6).view("V2"), "train_site is |V2"),
        (np.array(["\ud800"] * 6), "no Unicode text"),
        (np.array(["x" * (LONGEST_NAME + 1)] * 6), f"more than {LONGEST_NAME} letters"),
        (np.zeros(6, "M8[s]"), "train_site is datetime64[s]"),
    ],
)
def test_site_that_is_no_text_is_refused(tmp_path: Path, site: Any, words: str) -> None:
    assert words in refused(write(tmp_path, train_site=npy(site)))


def test_site_as_utf8_bytes_is_text(tmp_path: Path) -> None:
    sites = np.char.encode(np.array(["Köln", "Lyon"] * 3), "utf-8")
    write(tmp_path, train_site=npy(sites))
    assert load("own", tmp_path).facts["site"].tolist() == ["Köln", "Lyon"] * 3


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (np.array(["a", "b", "\udfff"]), "no Unicode text"),
        (np.array(["a", "b", "x" * 201]), "more than 200 letters"),
        (np.array([str(number) for number in range(MOST_CLASSES + 1)]), f"the {MOST_CLASSES} that a model"),
    ],
)
def test_class_names_that_no_page_can_show_are_refused(tmp_path: Path, names: Any, words: str) -> None:
    assert words in refused(write(tmp_path, classes=npy(names)))


def spec(source: str, root: Path, **more: Any) -> DataSpec:
    return DataSpec(source=PluginSpec.parse(source), root=str(root), **more)


def test_images_too_large_to_train_on_are_refused_unless_they_are_resized(tmp_path: Path) -> None:
    large = np.zeros((6, 8, LARGEST_SIDE + 1), np.uint8)
    write(tmp_path, train_images=npy(large))
    with pytest.raises(UserError, match="513 x 8 pixels.*give --image-size"):
        load_records(spec("medmnist:own", tmp_path))
    assert load_records(spec("medmnist:own", tmp_path, image_size=16)).images.shape == (6, 1, 16, 16)


@pytest.mark.parametrize("name", ["../own", "a/own", "/own", "..", "x" * 200, "own\0"])
def test_name_that_leaves_the_data_root_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inside").mkdir()
    write(tmp_path)
    source = PluginSpec(f"medmnist:{name}", f"medmnist:{name}")
    with pytest.raises(UserError, match="must name a file in --data-root itself"):
        load_records(DataSpec(source=source, root=str(tmp_path / "inside")))


def test_file_with_a_blank_in_its_name_can_be_named(tmp_path: Path) -> None:
    write(tmp_path).rename(tmp_path / "my data.npz")
    assert len(load_records(spec("medmnist:my data", tmp_path))) == 6


def test_phantom_of_more_than_the_memory_is_refused() -> None:
    with pytest.raises(UserError, match="this machine's memory"):
        phantom(images=10**10)
    with pytest.raises(UserError, match="at most one an image"):
        phantom(images=100, sites=10**12)

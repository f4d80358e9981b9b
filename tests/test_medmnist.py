from __future__ import annotations

import hashlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrobust.data import medmnist
from fedrobust.data.medmnist import load
from fedrobust.data.split import pooled
from fedrobust.errors import UserError


def block(n: int, *shape: int, first: int = 0) -> np.ndarray:
    """Return n images in which every pixel differs from its neighbours."""
    size = n * int(np.prod(shape))
    return ((np.arange(size) + first) % 251).astype(np.uint8).reshape(n, *shape)


def arrays(**more: Any) -> dict[str, Any]:
    """Return a good file's arrays, with some replaced, added or (None) left out."""
    good: dict[str, Any] = {
        "train_images": block(4, 5, 6),
        "train_labels": np.array([[0], [1], [2], [0]], dtype=np.uint8),
        "test_images": block(2, 5, 6, first=7),
        "test_labels": np.array([[1], [2]], dtype=np.uint8),
    }
    return {key: array for key, array in (good | more).items() if array is not None}


def write(root: Path, name: str = "own", **more: Any) -> Path:
    path = root / f"{name}.npz"
    np.savez(path, **arrays(**more))
    return path


def refusal(root: Path, name: str = "own", **options: Any) -> str:
    """Return the refusal: one sentence on one line that names the file or the set."""
    with pytest.raises(UserError) as caught:
        load(name, root, **options)
    text = str(caught.value)
    assert "\n" not in text and name in text
    return text


def test_grey_file_without_val(tmp_path: Path) -> None:
    write(tmp_path)
    records = load("own", tmp_path)
    assert records.images.shape == (6, 1, 5, 6) and records.images.flags.c_contiguous
    np.testing.assert_array_equal(records.images[:4, 0], block(4, 5, 6))
    np.testing.assert_array_equal(records.images[4:, 0], block(2, 5, 6, first=7))
    assert records.labels.tolist() == [0, 1, 2, 0, 1, 2] and records.labels.dtype == np.int64
    assert records.parts is not None and records.parts.tolist() == ["train"] * 4 + ["test"] * 2
    assert records.classes == ("class 0", "class 1", "class 2")
    assert records.source == "medmnist:own" and not records.synthetic and records.facts == {}


def test_rgb_channels_come_first(tmp_path: Path) -> None:
    images = block(4, 5, 6, 3)
    write(tmp_path, train_images=images, test_images=None, test_labels=None)
    records = load("own", tmp_path)
    assert records.images.shape == (4, 3, 5, 6) and records.images.flags.c_contiguous
    np.testing.assert_array_equal(records.images, images.transpose(0, 3, 1, 2))


def test_parts_are_in_order_whatever_the_files(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "own.npz",
        test_images=block(1, 5, 6), test_labels=np.array([1]),
        val_images=block(2, 5, 6), val_labels=np.array([0, 1]),
        train_images=block(1, 5, 6), train_labels=np.array([0]),
    )  # fmt: skip
    records = load("own", tmp_path)
    assert records.parts is not None and records.parts.tolist() == ["train", "val", "val", "test"]
    assert records.labels.tolist() == [0, 0, 1, 1]


def test_facts_are_text_and_empty_where_unknown(tmp_path: Path) -> None:
    site = np.array([3, 3, 10, 3], dtype=np.uint8)
    write(
        tmp_path, train_site=site, test_sex=np.array([["F"], ["M"]]), train_view=np.array([1, np.nan, 2, 1])
    )
    facts = load("own", tmp_path).facts
    assert facts["site"].tolist() == ["3", "3", "10", "3", "", ""]
    assert facts["sex"].tolist() == ["", "", "", "", "F", "M"]
    assert facts["view"].tolist() == ["1.0", "", "2.0", "1.0", "", ""]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2, 1, 2], "the labels are 1, 2, so of the classes 0 to 2 1 has no image"),
        ([0, 3, 1, 3], "the labels are 0, 1, 3, so of the classes 0 to 3 1 has no image"),
        ([0, 5, 0, 5], "the labels are 0, 5, so of the classes 0 to 5 4 have no image"),
    ],
)
def test_labels_with_a_gap_are_noted(tmp_path: Path, labels: list[int], said: str) -> None:
    own = {"train_labels": np.array(labels), "test_labels": np.array([labels[0], labels[1]])}
    path = write(tmp_path, **own)
    with pytest.warns(UserWarning, match=said) as caught:
        records = load("own", tmp_path)
    assert len(caught) == 1 and str(path) in str(caught[0].message)
    assert len(records.classes) == max(labels) + 1
    names = np.array([f"finding {number}" for number in range(6)])
    write(tmp_path, "named", **own, classes=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("named", tmp_path).classes == tuple(names)


def test_class_names_of_own_file(tmp_path: Path) -> None:
    write(tmp_path, classes=np.array(["a", "b", "c", "never seen"]))
    assert load("own", tmp_path).classes == ("a", "b", "c", "never seen")


def test_class_names_of_published_sets_go_before_the_files(tmp_path: Path) -> None:
    labels = {"train_labels": np.array([0, 1, 1, 0]), "test_labels": np.array([0, 1])}
    for name in ("breastmnist", "breastmnist_64"):
        write(tmp_path, name, classes=np.array(["x", "y", "z"]), **labels)
        with pytest.warns(UserWarning):
            assert load(name, tmp_path).classes == ("malignant", "normal, benign")


def test_published_table() -> None:
    sizes = {name: len(classes) for name, classes in medmnist._CLASSES.items()}
    assert sizes == {
        "bloodmnist": 8, "breastmnist": 2, "dermamnist": 7, "octmnist": 4, "organamnist": 11,
        "organcmnist": 11, "organsmnist": 11, "pathmnist": 9, "pneumoniamnist": 2, "retinamnist": 5,
        "tissuemnist": 8,
    }  # fmt: skip
    assert medmnist._CLASSES["bloodmnist"][3].endswith("(myelocytes, metamyelocytes and promyelocytes)")
    assert medmnist._CLASSES["dermamnist"][2] == "benign keratosis-like lesions"
    assert medmnist._CLASSES["tissuemnist"][0] == "Collecting Duct, Connecting Tubule"
    assert set(medmnist._MD5) == {name + size for name in sizes for size in ("", "_64", "_128", "_224")}
    assert len(set(medmnist._MD5.values())) == 44


def test_one_line_warning_on_another_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "bloodmnist")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load("bloodmnist", tmp_path)
    (warning,) = caught
    assert warning.category is UserWarning and warning.filename == __file__
    text = str(warning.message)
    assert "\n" not in text and "not comparable with published ones" in text and str(path) in text
    monkeypatch.setitem(medmnist._MD5, "bloodmnist", hashlib.md5(path.read_bytes()).hexdigest())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("bloodmnist", tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"train_labels": None}, "lacks train_labels"),
        ({"test_images": None}, "lacks test_images"),
        (dict.fromkeys(arrays()), "lacks train_images and train_labels"),
        ({"train_labels": np.array([0, 1, 2])}, "train_labels has 3 entries for 4 images"),
        ({"train_labels": np.zeros((4, 14), dtype=int)}, "multi-label"),
        ({"train_labels": np.array([0.0, 1, 2, 0])}, "train_labels are float64"),
        ({"train_labels": np.array(["a", "b", "c", "a"])}, "train_labels are <U1"),
        ({"train_labels": np.array([0, -1, 2, 0])}, "labels run from -1 to 2"),
        ({"train_labels": np.array([0, 2**63 + 1, 2, 0], dtype=np.uint64)}, "labels run from -"),
        ({"train_labels": np.array([0, 10**6, 2, 0])}, "labels run from 0 to 1000000,"),
        ({"classes": np.array(["a", "b"])}, "must lie in 0 to 1"),
        ({"classes": np.array([1, 2, 3])}, "classes are not a list of text"),
        ({"train_images": block(4, 5, 6) / 255}, "train_images are float64; store them as uint8"),
        ({"train_images": np.full((4, 5, 6), np.nan, dtype=np.float32)}, "float32 with NaN"),
        ({"train_images": block(4, 5, 6).astype(np.int64)}, "train_images are int64"),
        ({"train_images": block(4, 5, 6, 2)}, "shape (4, 5, 6, 2)"),
        ({"train_images": block(4, 5, 6, 4, 3)}, "shape (4, 5, 6, 4, 3)"),
        ({"train_images": block(4, 30)}, "shape (4, 30)"),
        ({"train_images": block(4, 5, 7)}, "differ in size"),
        ({"train_images": block(4, 5, 6, 3)}, "differ in size or channels"),
        ({"train_site": np.array([1, 2])}, "train_site has 2 entries for 4 images"),
        ({"train_images": np.array([None, {}, 1, "x"], dtype=object)}, "pickled"),
        (
            {
                "train_images": block(0, 5, 6),
                "train_labels": np.zeros(0, int),
                "test_images": None,
                "test_labels": None,
            },
            "holds no image",
        ),
    ],
)
def test_malformed_arrays_are_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    write(tmp_path, **more)
    assert said in refusal(tmp_path)


def test_published_set_with_a_label_too_many(tmp_path: Path) -> None:
    write(tmp_path, "breastmnist")
    assert "labels run from 0 to 2, but must lie in 0 to 1" in refusal(tmp_path, "breastmnist")


@pytest.mark.parametrize("content", [b"", b"\x80\x04not a zip", b"PK\x03\x04 and no more"])
def test_no_npz_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    assert "no .npz file" in refusal(tmp_path)


def test_plain_array_and_folder_under_the_files_name(tmp_path: Path) -> None:
    with (tmp_path / "own.npz").open("wb") as stream:
        np.save(stream, block(2, 3))
    assert "no .npz file" in refusal(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    assert "is not a file" in refusal(tmp_path, "folder")


def test_every_cut_and_most_flips_are_refused_or_harmless(tmp_path: Path) -> None:
    """A damaged file must never end in another exception than the user's."""
    np.savez_compressed(tmp_path / "own.npz", **arrays())
    content = (tmp_path / "own.npz").read_bytes()
    for length in range(0, len(content), 41):
        (tmp_path / "own.npz").write_bytes(content[:length])
        refusal(tmp_path)
    refused = 0
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 0x55
        (tmp_path / "own.npz").write_bytes(flipped)
        try:
            load("own", tmp_path)
        except UserError:
            refused += 1
    assert refused > 50


def test_missing_file_names_its_neighbours_and_the_download(tmp_path: Path) -> None:
    write(tmp_path, "breastmnist")
    text = refusal(tmp_path, "brestmnist")
    assert str(tmp_path / "brestmnist.npz") in text and "'breastmnist'" in text and "--download" in text


def test_missing_root(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", write(tmp_path)):
        with pytest.raises(UserError, match="is not a folder"):
            load("own", root)


def test_multi_label_set_is_refused_before_any_file_is_looked_for(tmp_path: Path) -> None:
    assert "multi-label" in refusal(tmp_path / "nowhere", "chestmnist_64", download=True)


def fake_package(monkeypatch: pytest.MonkeyPatch, fails: bool) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def dataset(**options: Any) -> None:
        calls.append(options)
        path = Path(options["root"]) / "breastmnist_64.npz"
        path.write_bytes(b"half a file")
        if fails:
            raise RuntimeError("\n  several\n  lines\n")
        path.unlink()
        write(path.parent, "breastmnist_64", train_labels=np.zeros(4, int), test_labels=np.ones(2, int))

    package = types.ModuleType("medmnist")
    package.INFO = {"breastmnist": {"python_class": "BreastMNIST"}}  # type: ignore[attr-defined]
    package.BreastMNIST = dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medmnist", package)
    return calls


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_package(monkeypatch, fails=False)
    for _ in range(2):
        with pytest.warns(UserWarning):
            assert len(load("breastmnist_64", tmp_path, download=True)) == 6
    assert calls == [{"split": "train", "root": str(tmp_path), "download": True, "size": 64}]


def test_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(monkeypatch, fails=True)
    assert "RuntimeError" in refusal(tmp_path, "breastmnist_64", download=True)
    assert list(tmp_path.iterdir()) == []


def test_download_without_the_package_or_of_an_unpublished_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    assert "pip install medmnist" in refusal(tmp_path, "breastmnist", download=True)
    assert "not a published" in refusal(tmp_path, "organmnist", download=True)


def test_real_files_load_and_warn_only_where_the_md5_is_not_the_published(data_root: Path) -> None:
    files = sorted(data_root.glob("*.npz"))
    assert files, "the folder of real images holds no .npz file"
    for file in files:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = load(file.stem, data_root)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        assert len(caught) == (medmnist._MD5.get(file.stem, md5) != md5), file.name
        assert len(records) > 0 and (records.counts() > 0).all() and records.images.max() > 100


def test_real_md5_of_two_sets(data_root: Path) -> None:
    published = {
        "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6",
        "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f",
    }
    for name, md5 in published.items():
        file = data_root / f"{name}.npz"
        if not file.exists():
            pytest.skip(f"{name}.npz is not among the real images")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = load(name, data_root)
        assert len(caught) == (hashlib.md5(file.read_bytes()).hexdigest() != md5)
        assert len(records) == {"breastmnist": 780, "pneumoniamnist": 5856}[name]
        assert records.counts().tolist() == {"breastmnist": [210, 570], "pneumoniamnist": [1583, 4273]}[name]


def test_real_sites(data_root: Path) -> None:
    if not (data_root / "wbc5_64.npz").exists():
        pytest.skip("wbc5_64.npz is not among the real images")
    records = load("wbc5_64", data_root)
    assert records.images.shape == (400, 3, 64, 64)
    assert np.unique(records.facts["site"], return_counts=True)[1].tolist() == [300, 100]


def test_one_finding_of_several_stands_against_the_rest(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (20, 14)).astype(np.uint8)
    np.savez(tmp_path / "chestmnist.npz", train_images=np.zeros((20, 8, 8), np.uint8), train_labels=labels)
    found = load("chestmnist", tmp_path, label="effusion")
    assert found.classes == ("no effusion", "effusion")
    np.testing.assert_array_equal(found.labels, labels[:, 2])
    np.testing.assert_array_equal(load("chestmnist", tmp_path, label="13").labels, labels[:, 13])
    with pytest.raises(UserError, match=r"label=atelectasis\); atelectasis, cardiomegaly"):
        load("chestmnist", tmp_path)
    with pytest.raises(UserError, match="did you mean 'edema'"):
        load("chestmnist", tmp_path, label="oedema")


@pytest.mark.parametrize("name", ["organmnist3d", "own"])
def test_volumes_are_refused_with_what_can_be_done(tmp_path: Path, name: str) -> None:
    volumes = np.zeros((6, 28, 28, 28), np.uint8)
    np.savez(tmp_path / f"{name}.npz", train_images=volumes, train_labels=np.arange(6)[:, None] % 2)
    with pytest.raises(UserError, match=r"volumes.*manifest:FILE\(slices=3\)"):
        load(name, tmp_path)


@pytest.mark.parametrize("side", [64, 128, 224])
def test_published_sizes_in_grey_and_colour_with_both_shapes_of_labels(tmp_path: Path, side: int) -> None:
    labels = np.arange(4) % 2
    for shape, given in (((4, side, side), labels), ((4, side, side, 3), labels[:, None])):
        np.savez(tmp_path / "set.npz", train_images=np.zeros(shape, np.uint8), train_labels=given)
        found = load("set", tmp_path)
        assert found.images.shape == (4, 1 if len(shape) == 3 else 3, side, side)
        np.testing.assert_array_equal(found.labels, labels)


def test_patients_of_a_file_stay_together(tmp_path: Path) -> None:
    names = np.array([f"p{number // 4}" for number in range(80)])
    np.savez(
        tmp_path / "own.npz",
        train_images=np.zeros((80, 8, 8), np.uint8),
        train_labels=np.arange(80) // 4 % 2,
        train_patient=names,
    )
    found = load("own", tmp_path)
    split = pooled(found, 0)
    places = [set(names[part]) for part in (split.train, split.val, split.test)]
    assert sum(map(len, places)) == 20

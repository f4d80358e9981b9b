"""What decoding gives: Pillow's formats, DICOM, NIfTI, Hugging Face data sets, and features."""

from __future__ import annotations

import gzip
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import nibabel
import numpy as np
import pandas
import pydicom
import pytest
from federations import tiny
from image_files import dicom, grey, manifest, patients
from PIL import Image
from pydicom.uid import RLELossless
from test_ingest import load, report

from fedrobust.data.ingest.decode import decode
from fedrobust.data.ingest.medical import MOST_BYTES, nifti_slices
from fedrobust.data.ingest.pixels import How, Undecodable
from fedrobust.data.own import check_fit, own_data_spec, own_records
from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec
from fedrobust.runtime.runner import run

RAMP = np.tile(np.arange(16, dtype=np.uint8) * 16, (16, 1))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(content: bytes, name: str = "x", **how: Any) -> np.ndarray:
    return decode(content, name, How(16, **how))[0].pixels


@pytest.mark.parametrize("times", [2, 3, 8])
def test_an_image_of_a_multiple_of_the_size_becomes_the_means_of_its_blocks(times: int) -> None:
    large = np.random.default_rng(times).integers(0, 256, (16 * times, 16 * times), dtype=np.uint8)
    blocks = large.astype(float).reshape(16, times, 16, times).mean((1, 3))
    # Half a level by rounding, and a little more, as Pillow divides by a number in fixed point.
    assert np.abs(pixels(encoded(Image.fromarray(large), "PNG"))[0] - blocks).max() < 0.6


def test_an_image_of_another_size_keeps_its_mean_and_its_slope() -> None:
    steep = np.tile(np.arange(72, dtype=np.uint8) * 3, (72, 1))
    found = pixels(encoded(Image.fromarray(steep), "PNG"))[0].astype(float)
    assert found.mean() == pytest.approx(steep.mean(), abs=1)
    np.testing.assert_allclose(np.diff(found[8])[1:-1], 3 * 72 / 16, atol=2)


def test_grey_images_of_all_modes_give_the_same_pixels() -> None:
    plain = Image.fromarray(RAMP)
    for image, kind in (
        (plain, "PNG"),
        (plain, "TIFF"),
        (plain.convert("RGB"), "PNG"),
        (plain.convert("LA"), "PNG"),
        (plain.convert("RGBA"), "PNG"),
        (plain.convert("P"), "PNG"),
        (plain.convert("CMYK"), "TIFF"),
    ):
        np.testing.assert_array_equal(pixels(encoded(image, kind)), RAMP[None], str((image.mode, kind)))
    for deep in (RAMP.astype(np.uint16) * 250, RAMP.astype(np.float32) / 7, RAMP.astype(np.int32) - 9):
        found = pixels(encoded(Image.fromarray(deep), "TIFF"))
        assert np.abs(found[0].astype(int) - RAMP * (255 / 240)).max() <= 1
    window = pixels(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), levels=(0.0, 160.0))
    assert window[0, 0, 9] == round(144 / 160 * 255) and window[0, 0, 12] == 255


def test_exif_is_turned_transparency_is_black_and_colour_has_three_channels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    content = encoded(Image.fromarray(RAMP), "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(content)[0], np.rot90(RAMP, -1))
    half = np.zeros((16, 16, 4), np.uint8)
    half[:, :8] = (200, 0, 0, 255)
    half[:, 8:, 0] = 255
    shown = pixels(encoded(Image.fromarray(half), "PNG"))
    assert shown[:, 0, 0].tolist() == [200, 0, 0] and shown[:, 0, 12].tolist() == [0, 0, 0]
    assert pixels(encoded(Image.fromarray(RAMP), "PNG"), channels=3).shape == (3, 16, 16)
    assert pixels(encoded(Image.fromarray(half), "PNG"), channels=1).shape == (1, 16, 16)


def test_dicom_is_rescaled_windowed_and_inverted(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 10

    def shown(**elements: object) -> np.ndarray:
        return pixels(dicom(tmp_path / "x.dcm", deep, **elements).read_bytes(), "x.dcm")[0]

    full = shown()
    np.testing.assert_allclose(full, RAMP * (255 / 240), atol=1)
    np.testing.assert_array_equal(shown(PhotometricInterpretation="MONOCHROME1"), 255 - full)
    window = shown(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=700, WindowWidth=400)
    assert window[0, :5].tolist() == [0, 0, round(40 / 400 * 255), round(360 / 400 * 255), 255]
    frames = np.stack([np.full((16, 16), 100 * n) + deep for n in range(5)])
    several = decode(dicom(tmp_path / "m.dcm", frames).read_bytes(), "m.dcm", How(16, slices=(1, 3)))
    assert [one.frame for one in several] == [1, 3]
    packed = pydicom.dcmread(dicom(tmp_path / "x.dcm", deep))
    packed.compress(RLELossless)
    packed.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(pixels((tmp_path / "x.dcm").read_bytes(), "x.dcm")[0], full)


def volume(path: Path, affine: np.ndarray | None = None) -> Path:
    """Write a volume whose value says where a voxel lies along each axis."""
    x, y, z = np.meshgrid(np.arange(16), np.arange(18), np.arange(20), indexing="ij")
    values = (x * 400 + y * 20 + z).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_slices_of_a_volume_stand_on_anatomical_axes(tmp_path: Path) -> None:
    content = volume(tmp_path / "v.nii").read_bytes()
    shapes = [next(nifti_slices(content, How(16, axis=axis)))[1].size for axis in (0, 1, 2)]
    assert shapes == [(18, 20), (16, 20), (16, 18)]
    assert [number for number, _ in nifti_slices(content, How(16, slices=4))] == [2, 7, 12, 17]
    upright = np.asarray(next(nifti_slices(content, How(16, slices=(7,))))[1])
    assert upright[0, 0] > upright[-1, 0] and upright[0, -1] > upright[0, 0]  # front on top
    # The same anatomy, stored mirrored and with its axes swapped.
    stored = nibabel.load(tmp_path / "v.nii")
    other = np.flip(np.asarray(stored.dataobj), 0).transpose(2, 0, 1)
    affine = np.array([[0, -1, 0, 15], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    nibabel.save(nibabel.Nifti1Image(other, affine), tmp_path / "w.nii.gz")
    again = np.asarray(next(nifti_slices((tmp_path / "w.nii.gz").read_bytes(), How(16, slices=(7,))))[1])
    np.testing.assert_array_equal(again, upright)


def test_slices_of_a_patient_stay_together_and_the_volume_is_read_once(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        volume(tmp_path / f"{number}/scan.nii.gz", np.diag([1.0, 1, 1 + number, 1]))
        rows.append({"path": f"{number}/scan.nii.gz", "label": number % 2})
    found = load(f"manifest:{manifest(tmp_path / 'm.csv', rows)}(slices=3)")
    assert len(found) == 24 and found.facts["frame"][:3].tolist() == ["3", "10", "16"]
    assert found.facts["patient"][:4].tolist() == ["0/scan.nii.gz"] * 3 + ["1/scan.nii.gz"]


def test_volume_that_unpacks_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedrobust.data.ingest.medical.MOST_BYTES", 1 << 20)
    packed = gzip.compress(bytes(1 << 25))
    with pytest.raises(Undecodable, match="larger than 1 MiB"):
        decode(packed, "x.nii.gz", How(16))
    with pytest.raises(Undecodable, match="cut short"):
        decode(gzip.compress(bytes(5000))[:-12], "x.nii.gz", How(16))
    assert MOST_BYTES == 1 << 30


def test_absent_library_is_a_fault_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        dicom(tmp_path / "ab"[number % 2] / f"{number}.dcm", RAMP.astype(np.uint16) + number)
    source = f"folder:{tmp_path}"
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "pydicom", None)
        assert all('pip install "fedrobust[medical]"' in line for line in report(source))
    assert len(load(source)) == 4


def test_hugging_face_data_set_gives_the_records_of_its_files(tmp_path: Path) -> None:
    names, rows = ["normal", "opacity"], []
    for number in range(8):
        file = grey(tmp_path / names[number % 2] / f"{number}.png", number)
        image = {"bytes": file.read_bytes(), "path": None}
        rows.append({"image": image, "label": number % 2, "hospital": f"h{number // 4}"})
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=names), hospital=datasets.Value("string")
    )
    whole = datasets.Dataset.from_list(rows, features=features)
    split = datasets.DatasetDict(train=whole.select(range(6)), test=whole.select(range(6, 8)))
    split.save_to_disk(tmp_path / "saved")
    found = load(f"hf:{tmp_path / 'saved'}")
    assert found.classes == ("normal", "opacity") and found.facts["site"].tolist() == ["h0"] * 4 + ["h1"] * 4
    assert found.parts is not None and found.parts.tolist() == ["train"] * 6 + ["test"] * 2
    shown = decode((tmp_path / "opacity/3.png").read_bytes(), "3.png", How(16))[0].pixels
    np.testing.assert_array_equal(found.images[3], shown)
    with pytest.raises(UserError, match="no column 'y'"):
        load(f"hf:{tmp_path / 'saved'}(label=y)")
    with pytest.raises(UserError, match="no data set that save_to_disk wrote"):
        load(f"hf:{tmp_path}")


def table_of_features(folder: Path, ending: str) -> Path:
    draw = np.random.default_rng(0)
    labels = np.arange(240) % 2
    values = draw.standard_normal((240, 6)) + 1.5 * labels[:, None]
    path = folder / f"features{ending}"
    if ending == ".npz":
        np.savez(
            path,
            features=values.astype(np.float32),
            labels=labels,
            hospital=labels + draw.integers(0, 2, 240),
        )
        return path
    table = pandas.DataFrame(values, columns=[f"f{n}" for n in range(6)])
    table["Label"], table["patient"] = labels, [f"p{n // 2}" for n in range(240)]
    table["patient"] = [f"p{n // 4}-{n % 2}" for n in range(240)]
    table.to_parquet(path) if ending == ".parquet" else table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
def test_features_are_rows_of_levels(tmp_path: Path, ending: str) -> None:
    found = load(f"features:{table_of_features(tmp_path, ending)}", size=None)
    assert found.images.shape == (240, 1, 1, 6) and not found.pixels and found.classes == ("0", "1")
    assert found.images.min() == 0 and found.images.max() == 255
    assert set(found.facts) == ({"site"} if ending == ".npz" else {"patient"})
    fixed = load(f"features:{table_of_features(tmp_path, ending)}(range=(-4, 6))", size=None)
    low = (fixed.images.astype(float).mean() / 255) * 10 - 4
    assert abs(low - 0.75) < 0.2


def test_features_with_faults_are_refused_in_words(tmp_path: Path) -> None:
    table = pandas.DataFrame({"a": [1.0, None, 3.0, 4.0], "label": [0, 1, 0, 1], "id": list("wxyz")})
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"the columns id hold texts.*drop='id'"):
        load(f"features:{tmp_path / 't.csv'}", size=None)
    assert "row 2: a feature is missing" in report_of_features(f"features:{tmp_path / 't.csv'}(drop=id)")
    with pytest.raises(UserError, match="there is no column 'class'"):
        load(f"features:{tmp_path / 't.csv'}(drop=id, label='class')", size=None)
    with pytest.raises(UserError, match="no image size"):
        load(f"features:{tmp_path / 't.csv'}", size=32)
    federation = DataSpec(PluginSpec.parse("phantom"))
    path = table_of_features(tmp_path, ".npz")
    with pytest.raises(UserError, match="same range"):
        check_fit(own_data_spec(federation, f"features:{path}"), ["0", "1"], (1, 1, 6))
    check_fit(own_data_spec(federation, f"features:{path}(range=(-4, 6))"), ["0", "1"], (1, 1, 6))


def report_of_features(source: str) -> str:
    from fedrobust.data.ingest.faults import FaultyRecords

    with pytest.raises(FaultyRecords) as raised:
        load(source, size=None)
    return "\n".join(raised.value.report)


def test_features_are_learnt_by_an_mlp_and_attacks_on_images_refuse_them(tmp_path: Path) -> None:
    path = table_of_features(tmp_path, ".csv")
    plain = {"data": f"features:{path}", "clients": 3, "rounds": 2, "lr": 0.01, "partition": "iid"}
    settings = tiny(tmp_path / "runs", **plain, backbone="mlp", malicious=1)
    result = run(settings, report=False)
    assert result.summary["clean"]["accuracy"] > 0.6
    with pytest.raises(UserError, match="add --backbone mlp"):
        run(tiny(tmp_path / "runs", **plain), report=False)
    for change, words in (
        ({"attack": "backdoor"}, "attack 'backdoor' needs images"),
        ({"augment": "light"}, "augment changes images"),
        ({"evaluate": "noise"}, "evaluate changes images"),
        ({"tte": 2}, "tte changes images"),
    ):
        with pytest.raises(UserError, match=words):
            run(settings.model_copy(update=change), report=False)


def test_manifest_of_another_hospital_needs_the_federations_classes(tmp_path: Path) -> None:
    federation = DataSpec(PluginSpec.parse("phantom"), image_size=16)
    own = own_data_spec(federation, f"manifest:{patients(tmp_path)}")
    with pytest.raises(UserError, match=r"classes=\['a', 'normal', 'opacity'\]"):
        check_fit(own, ["a", "normal", "opacity"], (1, 16, 16))
    own = own_data_spec(
        federation, f"manifest:{tmp_path / 'records.csv'}(classes=['a', 'normal', 'opacity'])"
    )
    check_fit(own, ["a", "normal", "opacity"], (1, 16, 16))


def test_dicom_and_nifti_are_trained_on(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        label, level = ("low", "high")[number % 2], 900 * (number % 2)
        frame = RAMP.astype(np.uint16) + level + number
        rows.append(
            {"path": dicom(tmp_path / f"{number}.dcm", frame, WindowCenter=600, WindowWidth=1200).name}
        )
        values = np.random.default_rng(number).normal(level, 50, (16, 16, 12)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii.gz")
        rows.append({"path": f"{number}.nii.gz"})
        for row in rows[-2:]:
            row.update(label=label, hospital="AB"[number // 2 % 2])
    table = manifest(tmp_path / "m.csv", rows)
    changes = {"data": f"manifest:{table}(slices=3, window=(0, 1200))", "image_size": 16, "clients": 2}
    result = run(tiny(tmp_path / "runs", **changes, lr=0.01), report=False)
    assert result.summary["clean"]["accuracy"] > 0.9


def test_hospitals_own_table_gives_the_bits_of_its_part_of_the_federation(tmp_path: Path) -> None:
    path = patients(tmp_path)
    federation = DataSpec(
        PluginSpec.parse(f"manifest:{path}"), image_size=16, partition=PluginSpec.parse("site"), hospitals=3
    )
    part = prepare(federation).of_hospital(1)
    rows = [
        {"path": file, "label": part.classes[label], "split": "train"}
        for file, label in zip(part.facts["file"], part.labels, strict=True)
    ]
    own = own_data_spec(federation, f"manifest:{manifest(tmp_path / 'own.csv', rows)}")
    found = own_records(federation, own)
    np.testing.assert_array_equal(found.images, part.images)
    np.testing.assert_array_equal(found.labels, part.labels)

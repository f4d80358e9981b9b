"""Sources of files: folders and manifests, their faults in one report, and what decoding gives."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from federations import tiny
from image_files import bomb, dicom, grey, manifest, patients
from PIL import Image

from fedrobust.commands.program import main
from fedrobust.data.ingest.faults import FaultyRecords
from fedrobust.data.records import Records
from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec


def load(source: str, *, size: int | None = 16, skip_bad: bool = False, root: Path | None = None) -> Records:
    spec = DataSpec(PluginSpec.parse(source), str(root) if root else None, image_size=size, skip_bad=skip_bad)
    return load_records(spec)


def report(source: str) -> list[str]:
    with pytest.raises(FaultyRecords) as raised:
        load(source)
    return raised.value.report


@pytest.mark.parametrize(
    ("places", "facts", "parts"),
    [
        (["a b/1.png", "a b/2.png", "ü/1.png", "ü/2.png"], {}, None),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "Test/b/1.png"], {}, ["test", "train", "val"]),
        (["north/a/1.png", "north/b/1.png", "south/a/1.png", "south/b/1.png"], {"site"}, None),
        (["a/p1/1.png", "a/p2/1.png", "b/p3/1.png", "b/p4/1.png"], {"patient"}, None),
        (
            ["train/n/a/1.png", "train/n/b/1.png", "val/s/a/1.png", "val/s/b/1.png"],
            {"site"},
            ["train", "val"],
        ),
    ],
)
def test_levels_of_a_folder_are_told_apart(
    tmp_path: Path, places: list[str], facts: set[str], parts: list[str] | None
) -> None:
    for number, place in enumerate(places):
        grey(tmp_path / place, number)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    found = load(f"folder:{tmp_path}")
    assert len(found) == 4 and len(found.classes) == 2 and found.images.shape == (4, 1, 16, 16)
    assert set(found.facts) == {"file", "content", *facts}
    assert parts is None or found.parts is not None and sorted(set(found.parts.tolist())) == parts


def test_levels_can_be_named(tmp_path: Path) -> None:
    for number, place in enumerate(["n/a/1.png", "n/b/1.png", "s/a/1.png", "s/b/1.png"]):
        grey(tmp_path / place, number)
    found = load(f"folder:{tmp_path}(levels='class/patient')")
    assert found.classes == ("n", "s") and found.facts["patient"].tolist() == ["a", "b", "a", "b"]
    with pytest.raises(UserError, match="levels='site' must name"):
        load(f"folder:{tmp_path}(levels='site')")


def test_every_column_of_a_manifest_is_a_fact(tmp_path: Path) -> None:
    found = load(f"manifest:{patients(tmp_path)}")
    assert found.classes == ("normal", "opacity") and found.counts().tolist() == [36, 36]
    assert {"site", "patient", "sex", "age", "file", "content"} == set(found.facts)
    assert found.facts["site"][2] == "clinic 1" and found.facts["age"][71] == "55"
    assert found.facts["file"][5] == "images/005.png" and len(found.facts["content"][5]) == 64
    assert found.source == "manifest:records.csv"


@pytest.mark.parametrize("ending", [".tsv", ".jsonl", ".parquet", ".csv"])
def test_tables_of_all_kinds_give_the_same_records(tmp_path: Path, ending: str) -> None:
    path = patients(tmp_path, count=6)
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    other = tmp_path / f"other{ending}"
    if ending == ".parquet":
        table = pandas.DataFrame(rows)
        table["age"] = table["age"].astype(float)
        table.to_parquet(other)
    elif ending == ".jsonl":
        other.write_text("\n".join(json.dumps(row | {"age": int(row["age"])}) for row in rows))
    else:
        mark = "\t" if ending == ".tsv" else ";"
        other.write_text(
            "\ufeff" + mark.join(rows[0]) + "\r\n" + "\r\n".join(mark.join(row.values()) for row in rows)
        )
    assert load(f"manifest:{other}").digest() == load(f"manifest:{path}").digest()


def test_columns_are_mapped_and_files_joined_on_a_key(tmp_path: Path) -> None:
    for number in range(6):
        grey(tmp_path / "data" / f"u{number}" / "scan 1.png", number)
    one = [{"UID": f"u{n}", "PatientID": f"p{n // 2}", "Age": 50.0, "Lesion": n % 2} for n in range(6)]
    manifest(tmp_path / "annotation.csv", one)
    manifest(
        tmp_path / "split.csv", [{"UID": f"u{n}", "Split": "test" if n > 3 else "train"} for n in range(6)]
    )
    options = "join='split.csv', on=UID, path='data/{UID}/scan 1.png', label=Lesion, patient=PatientID"
    found = load(f"manifest:{tmp_path / 'annotation.csv'}({options})")
    assert found.classes == ("0", "1") and found.facts["patient"].tolist() == [
        "p0",
        "p0",
        "p1",
        "p1",
        "p2",
        "p2",
    ]
    assert found.parts is not None and found.parts.tolist() == ["train"] * 4 + ["test"] * 2


def faulty(folder: Path, outside: Path) -> tuple[Path, dict[int, str]]:
    """Write 300 rows with faults of twelve kinds; return the manifest and what each faulty line must say."""
    rows: list[dict[str, object]] = []
    for number in range(300):
        file = grey(folder / f"{number % 3}" / f"{number:03}.png", number, side=12)
        rows.append(
            {"path": file.relative_to(folder), "label": ("a", "b", "c")[number % 3], "pateint": number}
        )
    (folder / "0/000.png").unlink()
    (folder / "1/001.png").write_text("this is text")
    cut = grey(folder / "cut.jpeg", side=64)
    cut.write_bytes(cut.read_bytes()[:-600])
    rows[10]["path"] = "cut.jpeg"
    rows[20]["path"] = grey(folder / "one.png", side=1).name
    rows[30]["label"] = "unheard-of"
    rows[40]["label"] = "NaN"
    rows[50]["path"] = rows[49]["path"]
    rows[60]["path"] = "../outside/x.png"
    rows[70]["path"] = outside / "x.png"
    rows[80]["path"] = bomb(folder / "bomb.png").name
    rows[90]["path"] = dicom(folder / "report.dcm", None).name
    said = {
        2: "no such file",
        3: "no image of a known format",
        12: "damaged or cut short",
        22: "1 x 1 pixels",
        32: "'unheard-of' is unknown",
        42: "the label is missing",
        52: "the same file as line 51",
        62: "climbs out",
        72: "absolute path outside",
        82: "million pixels",
        92: "no pixel data",
        1: "the column 'pateint' is not known; rename it to 'patient'",
    }
    return manifest(folder / "records.csv", rows), said


def test_all_kinds_of_faults_are_in_one_report_and_can_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "inside"
    grey(tmp_path / "outside" / "x.png")
    path, said = faulty(inside, tmp_path / "outside")
    lines = report(f"manifest:{path}")
    assert len(lines) == len(said)
    for number, words in said.items():
        assert any(line.startswith(f"line {number}:") and words in line for line in lines), number
    with pytest.raises(SystemExit) as left:
        main(["simulate", "--data", f"manifest:{path}", "--out", str(tmp_path / "runs")])
    printed = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in printed and all(line in printed for line in lines)
    with pytest.warns(UserWarning, match="12 faults in 300 records are left out"):
        assert len(load(f"manifest:{path}", skip_bad=True)) == 289
    assert not (tmp_path / "runs").exists()


def test_missing_column_is_named_with_the_faults_of_the_rows(tmp_path: Path) -> None:
    rows = [{"path": f"{n}.png", "lable": n % 2} for n in range(8)]
    for number in range(1, 8):
        grey(tmp_path / f"{number}.png", number)
    lines = report(f"manifest:{manifest(tmp_path / 'm.csv', rows)}")
    assert [line.partition(":")[0] for line in lines] == ["line 1", "line 2"]
    assert "'lable' is not known; rename it to 'label'" in lines[0]
    rows = [{"file": "1.png", "label": 0}]
    lines = report(f"manifest:{manifest(tmp_path / 'm.csv', rows)}")
    assert len(lines) == 1 and "no column 'path'" in lines[0] and "(path=file)" in lines[0]


def test_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    grey(tmp_path / "secret.png")
    for number in range(4):
        grey(tmp_path / "in" / "ab"[number % 2] / f"{number}.png", number)
    (tmp_path / "in/a/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in/b/link.png").symlink_to(tmp_path / "in/a/0.png")
    lines = report(f"folder:{tmp_path / 'in'}")
    assert len(lines) == 2 and "leads out of" in lines[0] and "the same file as a/0.png" in lines[1]
    found = load(f"folder:{tmp_path / 'in'}", root=tmp_path, skip_bad=True)
    assert len(found) == 5  # a link inside --data-root is fine


def test_hospital_without_usable_images_and_row_without_hospital_are_faults(tmp_path: Path) -> None:
    rows = [{"path": f"{n}.png", "label": n % 2, "hospital": "x"} for n in range(6)]
    for number in range(4):
        grey(tmp_path / f"{number}.png", number)
    rows[1]["hospital"] = ""
    rows[4]["hospital"] = rows[5]["hospital"] = "far away"
    lines = report(f"manifest:{manifest(tmp_path / 'm.csv', rows)}")
    assert "the hospital is missing" in lines[0]
    assert lines[-1] == "hospital 'far away' has no image that can be used"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: f"folder:{folder / 'none'}", "there is no folder"),
        (lambda folder: f"folder:{folder / 'empty'}", "no image lies in"),
        (lambda folder: f"folder:{folder}", "lie in no class folder"),
        (lambda folder: f"manifest:{folder / 'none.csv'}", "there is no file"),
        (lambda folder: f"manifest:{folder / 'x.png'}", "must end in .csv"),
        (lambda folder: f"manifest:{folder / 'm.csv'}(labl=a)", "no option 'labl'; did you mean 'label'"),
        (lambda folder: f"manifest:{folder / 'm.csv'}(channels=2)", "channels is 2"),
        (lambda folder: "manifest", "needs a path: manifest:PATH"),
    ],
)
def test_source_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, change: Callable[[Path], str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    grey(tmp_path / "x.png")
    (tmp_path / "m.csv").write_text("path,label\nx.png,a\n")
    with pytest.raises(UserError, match=words) as raised:
        load(change(tmp_path))
    assert "\n" not in str(raised.value)


def test_renewed_cache_has_the_pixels_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDROBUST_CACHE", str(tmp_path / "cache"))
    for number in range(6):
        grey(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    source = f"folder:{tmp_path / 'images'}"
    first = load(source)
    assert load(source).digest() == first.digest()
    colour = np.zeros((20, 20, 3), np.uint8)
    colour[:, :, 0] = 200
    Image.fromarray(colour).save(tmp_path / "images/b/3.png")
    second = load(source)
    assert second.images.shape == (6, 3, 16, 16) and second.digest() != first.digest()
    changed = int(np.flatnonzero(second.facts["file"] == "b/3.png")[0])
    assert second.images[changed, 0].min() == 200 and second.images[changed, 1].max() == 0
    kept = [number for number in range(6) if number != changed]
    assert (second.images[kept] == first.images[kept]).all()
    grey(tmp_path / "images/b/3.png", 3)
    assert load(source).digest() == first.digest()
    assert isinstance(first.images, np.memmap) and not first.images.flags.writeable


def test_digest_changes_with_any_byte_label_or_column(tmp_path: Path) -> None:
    path = patients(tmp_path, count=6)
    seen = {load(f"manifest:{path}").digest()}
    image = tmp_path / "images/003.png"
    image.write_bytes(image.read_bytes() + b"\0")  # behind the image's end: the same pixels
    seen.add(load(f"manifest:{path}").digest())
    text = path.read_text()
    for before, after in (("000.png,normal", "000.png,opacity"), ("clinic 2", "clinic 9"), (",F,", ",,")):
        path.write_text(text.replace(before, after, 1))
        seen.add(load(f"manifest:{path}").digest())
    assert len(seen) == 5


@pytest.mark.slow
def test_run_of_a_manifest_by_site_and_its_settings(tmp_path: Path) -> None:
    from fedrobust.runtime.runner import run

    path = patients(tmp_path)
    settings = tiny(
        tmp_path / "runs", data=f"manifest:{path}", clients=3, partition="site", image_size=16, rounds=1
    )
    result = run(settings, report=False)
    assert result.summary["rounds"] == 1 and "skip_bad" not in settings.identity()


def test_cache_shows_its_sources_keeps_to_its_size_and_can_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDROBUST_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):
        for number in range(4):
            grey(tmp_path / name / "ab"[number % 2] / f"{number}.png", number)
        load(f"folder:{tmp_path / name}")

    def shown(*flags: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["cache", *flags])
        assert left.value.code == 0
        return capsys.readouterr().out

    assert "folder:two" in shown() and shown().index("folder:two") < shown().index("folder:one")
    monkeypatch.setenv("FEDROBUST_CACHE_GB", "0")
    load(f"folder:{tmp_path / 'one'}")
    assert "folder:one" in shown() and "folder:two" not in shown()
    assert "1 sources" in shown("--clear") and "0 sources" in shown()
    monkeypatch.setenv("FEDROBUST_CACHE_GB", "lots")
    with pytest.raises(UserError, match="must be a number of gigabytes"):
        load(f"folder:{tmp_path / 'one'}")


def test_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDROBUST_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        grey(tmp_path / "x" / "ab"[number % 2] / f"{number}.png", number)
    expected = load(f"folder:{tmp_path / 'x'}").digest()
    for ending in ("*.bin", "*.json"):
        for file in (tmp_path / "cache/images").glob(ending):
            file.write_bytes(file.read_bytes()[:-100])
        assert load(f"folder:{tmp_path / 'x'}").digest() == expected

"""Who reads a source's files: processes give what threads give, and one that crashes costs one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import dicom, grey
from PIL import Image

from fedrobust.data.ingest import decoder_process, readers
from fedrobust.data.ingest.pixels import How
from fedrobust.data.ingest.reading import Found, Item
from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.plugins import PluginSpec

HOW = How(16, slices=(0,), levels=(0.0, 100.0))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return files of several kinds, three of which give no image."""
    folder = tmp_path / "files"
    for number in range(20):
        grey(folder / f"{number}.png", number)
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(20, 20, 3)).save(folder / "colour.png")
    dicom(folder / "scan.dcm", np.arange(400).reshape(20, 20))
    (folder / "text.png").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "colour.png").read_bytes()[:90])
    return [*sorted(folder.iterdir()), folder / "missing.png", folder / "n\udc80me.png"]


def items(files: list[Path]) -> list[Item]:
    return [Item(str(file), (), 0) for file in files]


def found(files: list[Path], known: str = "") -> list[Found]:
    with readers.readers(items(files), HOW) as made:
        return made.read([(item, known) for item in items(files)])


def same(one: Found, other: Found) -> bool:
    about = [(f.content, f.frames, f.fault, f.lasts, f.unchanged, len(f.images)) for f in (one, other)]
    return about[0] == about[1] and all(map(np.array_equal, one.images, other.images))


def test_processes_find_what_threads_find(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here = found(files)
    monkeypatch.setattr(readers, "MANY", 1)
    there = found(files)
    assert all(map(same, here, there)) and len(here) == len(there) == len(files)
    assert sum(one.fault is not None for one in here) == 4 and not here[-1].lasts
    assert {image.shape for one in there for image in one.images} == {(1, 16, 16), (3, 16, 16)}
    known = there[0].content
    assert [one.unchanged for one in found(files[:2], known)] == [True, False]


def test_decoder_that_crashes_costs_its_file(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found(files)
    # Python imports this module when it starts.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from fedrobust.data.ingest import reading\n"
        "decode = reading.decode\n"
        "def crash(content, name, how):\n"
        "    print('noise between the answers')\n"
        "    if name.endswith(('3.png', 'scan.dcm')):\n"
        "        os.kill(os.getpid(), 11)\n"
        "    return decode(content, name, how)\n"
        "reading.decode = crash\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(readers, "MANY", 1)
    crashed = found(files)
    lost = [
        file.name for file, one, other in zip(files, expected, crashed, strict=True) if not same(one, other)
    ]
    assert lost == ["13.png", "3.png", "scan.dcm"]
    faults = {one.fault for one, other in zip(crashed, expected, strict=True) if not same(one, other)}
    assert faults == {("damaged file", "its decoder crashed (11)")}


@pytest.mark.parametrize("program", ["/bin/false", "/there/is/no/python", ""])
def test_files_are_read_here_where_no_process_starts(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    expected = found(files)
    monkeypatch.setattr(readers, "MANY", 1)
    monkeypatch.setattr(sys, "executable", program)
    with readers.readers(items(files), HOW) as made:
        there = [one for item in items(files) for one in made.read([(item, "")])]
    assert all(map(same, expected, there))


def test_processes_end_with_their_use_and_with_their_input(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MANY", 1)
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(KeyboardInterrupt), readers.readers(items(files), HOW):
        raise KeyboardInterrupt
    assert started and all(process.returncode is not None for process in started)
    command = [sys.executable, "-m", decoder_process.__name__]
    assert subprocess.run(command, input=b"", capture_output=True, check=True).stdout == b"ready\n"


def test_records_are_the_same_bits_and_a_cache_is_renewed_by_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        grey(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", number)
    spec = DataSpec(PluginSpec.parse(f"folder:{tmp_path / 'images'}"), image_size=16)
    digests = []
    for many in (1000, 1):
        monkeypatch.setenv("FEDROBUST_CACHE", str(tmp_path / f"cache {many}"))
        monkeypatch.setattr(readers, "MANY", many)
        grey(tmp_path / "images/a/2.png", 2)
        digests.append(load_records(spec).digest())
        grey(tmp_path / "images/a/2.png", 7)
        digests.append(load_records(spec).digest())
    assert digests[:2] == digests[2:] and digests[0] != digests[1]

"""Hostile files drawn by hypothesis: success or one sentence. `make test-reliability` draws many more."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.reliability.hostile_files import (
    archives,
    attempt,
    read_archive,
    read_settings,
    read_suite,
    settings_files,
    suite_files,
)
from fedrobust.commands.benchmark import _read
from fedrobust.errors import UserError
from fedrobust.settings import Settings, load_settings, read_toml
from fedrobust.suites.suite_files import load_suite

#: The same files every time; the folder of a test is used by all of them.
few = settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@few
@given(settings_files())
def test_settings_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    attempt(lambda: read_settings(content, tmp_path))


@few
@given(suite_files())
def test_suite_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    attempt(lambda: read_suite(content, tmp_path))


@few
@given(archives())
def test_file_of_images_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attempt(lambda: read_archive(content, tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"clients = " + b"9" * 5000, "not valid TOML"),
        (b"x = " + b"[" * 20_000, "brackets or tables in each other"),
        (b"x = " + b"[" * 25 + b"]" * 25, "brackets or tables in each other"),
        (b".".join([b"a"] * 100_000) + b" = 1", "brackets or tables in each other"),
        (b"x" * 200_000 + b" = 1", "there is no setting"),
        (b"# \xff", "not valid TOML"),
        (b"# " + b"x" * 250_001, "has more than 250 KB"),
        (b'out = "a\\u0000b"', "a character that no file can hold"),
        (b'strategy = "' + b"x" * 10_001 + b'"', "10,001 characters long"),
    ],
)
def test_toml_that_python_cannot_read_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load_settings({}, file)
    assert str(file) in str(caught.value)


def test_suite_of_too_many_cells_is_refused(tmp_path: Path) -> None:
    names = [f"axis{number}" for number in range(6)]
    axes = "".join(f"{name} = {list(range(20))}\n" for name in names)
    file = tmp_path / "many.toml"
    data = "".join(f"{{{name}}}" for name in names)
    file.write_text(f'[axes]\n{axes}[base]\ndata = "{data}"\n')
    with pytest.raises(UserError, match="64,000,000 cells, more than the 10,000"):
        load_suite(str(file))


def test_device_without_end_is_no_settings_file() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("this system has no /dev/zero")
    with pytest.raises(UserError, match="has more than"):
        read_toml(Path("/dev/zero"))


def test_name_of_a_folder_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(UserError, match="no file can hold"):
        Settings(data_root=os.fsdecode(b"images \xff"))


def test_value_of_set_that_is_no_toml_is_text() -> None:
    assert _read("rounds=3") == ("rounds", 3)
    assert _read("strategy=krum(f=2)") == ("strategy", "krum(f=2)")
    assert _read("x=" + "[" * 20_000) == ("x", "[" * 20_000)
    assert _read("x=" + "9" * 5000) == ("x", "9" * 5000)

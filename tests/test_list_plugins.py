"""`fedrobust list` names what there is: on one page, by kind, by name, by word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedrobust.commands.list_plugins import catalogue, list_plugins
from fedrobust.errors import UserError
from fedrobust.federation import Attack
from fedrobust.plugins import find, options_of

TOP = Path(__file__).resolve().parents[1]


def listed(capsys: pytest.CaptureFixture[str], *what: str) -> str:
    list_plugins(list(what))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "folder", "apart"), [("attack", "clients", {"hospital"}), ("strategy", "strategies", set())]
)
def test_catalogue_has_every_file_with_a_line(kind: str, folder: str, apart: set[str]) -> None:
    files = {f.stem.replace("_", "-") for f in (TOP / folder).glob("*.py")}
    entries = catalogue()[kind]
    assert set(entries) == files - apart
    assert all(len(line) > 20 and "does not load" not in line for line in entries.values())


def test_catalogue_has_data_partitions_and_backbones() -> None:
    listing = catalogue()
    assert set(listing["data"]) == {
        *("phantom", "medmnist:NAME", "folder:PATH", "manifest:FILE", "hf:PATH", "features:FILE")
    }
    assert {"iid", "dirichlet", "site", "sizes", "pathological", "shards"} == set(listing["partition"])
    assert {"cnn", "resnet18", "resnet50"} <= set(listing["backbone"])


def test_page_of_all_kinds_has_one_line_an_entry_and_no_backbones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = listed(capsys).splitlines()
    kinds = ("attack", "strategy", "data", "partition")
    for kind in kinds:
        for name in catalogue()[kind]:
            assert sum(re.match(rf"  {re.escape(name)} +\S", line) is not None for line in lines) == 1, name
    # The rest is headings and hints.
    entries = sum(len(names) for kind, names in catalogue().items() if kind != "backbone")
    assert len(lines) <= entries + 30
    assert not any("resnet50" in line for line in lines)
    assert any("fedrobust list backbones" in line for line in lines)


@pytest.mark.parametrize("word", ["attack", "attacks", "threat"])
def test_kind_shows_whole_descriptions_of_that_kind_alone(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = " ".join(listed(capsys, word).split())
    assert all(" ".join(line.split()) in text for line in catalogue()["attack"].values())
    assert "trimmed-mean" not in text


def test_backbones_are_listed_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"cnn", "resnet50"} <= set(listed(capsys, "backbones").split())


def test_word_finds_names_and_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(capsys, "krum")
    assert "krum (strategy)" in text
    text = listed(capsys, "attacks", "labels")
    assert "label-flip" in text and "edge-case" in text and "strategies:" not in text


@pytest.mark.parametrize(
    ("what", "hint"),
    [("isolation-forst", "did you mean 'isolation-forest'"), ("xyzzy", "shows what there is")],
)
def test_word_that_finds_nothing_is_one_short_sentence(what: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint) as raised:
        list_plugins([what])
    assert len(str(raised.value)) < 150


@pytest.mark.parametrize("what", ["alie", "alie(z=1)"])
def test_name_shows_options_with_defaults_values_and_meaning(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(listed(capsys, what).split())
    assert text.startswith("alie (attack): Sends the mean of the updates")
    assert "Baruch et al." in text and '--attack "alie(option=value)"' in text
    for option in options_of(find("alie", "clients", (Attack,), "attack")):
        assert f" {option.name}: default " in text and option.allowed in text
    assert "strength: default 1.0" in text


def test_name_of_a_data_source_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(capsys, "phantom")
    assert "images: default 3000" in text and "--data" in text


def test_name_without_options_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "It has no options." in listed(capsys, "bnguard")


def test_own_plug_in_shows_its_file_and_that_it_replaces_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "median.py").write_text(
        "from fedrobust.federation import Defence\n\n\n"
        'class Median(Defence):\n    """Ours [/red].\n\n'
        '    References\n    ----------\n    Us, 2026.\n    """\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "fedrobust", "list", "strategies", "median"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Ours [/red]." in done.stdout and "references\n  Us, 2026." in done.stdout
    assert f"file: {tmp_path / 'strategies' / 'median.py'}" in done.stdout.replace("\n", "")
    assert "in place of the built-in one" in done.stdout

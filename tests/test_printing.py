"""Text from outside is text everywhere: in a terminal, in lists and tables, in sentences."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import suite_results
from rich.table import Table

from fedrobust.commands import program
from fedrobust.printing import LONGEST, PlainConsole, lines, one_line
from fedrobust.suites.tables import print_suite

#: Closes markup that is not open, sets a title, clears the screen, writes backwards, starts a new line.
HOSTILE = "odd [/red] :skull: \x1b]0;owned\x07\x1b[2J\x9b31m \u202ebackwards\r\nfedrobust: all is well"
SENT = ("\x1b]0", "\x1b[2J", "\x9b", "\u202e", "\x07")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: é, ∅, \u200dé", "plain: é, ∅, \u200dé"),
        ("a\nb\r\n\tc", "a b c"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("[/red] :skull: \\", "[/red] :skull: \\"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\x00\x7f\x9b\ud800", r"\x00\x7f\x9b\ud800"),
        (ValueError("x\x07"), r"x\x07"),
    ],
)
def test_one_line_shows_what_a_terminal_would_act_on(text: object, shown: str) -> None:
    assert one_line(text) == shown


def test_one_line_cuts_what_is_no_sentence_and_says_its_length() -> None:
    assert one_line("x" * LONGEST) == "x" * LONGEST
    assert one_line("x" * 5_000_000) == "x" * LONGEST + " ... (5,000,000 characters)"


def test_lines_keep_their_breaks_only() -> None:
    assert lines("a\r\nb\x1b[1A\tc\n") == "a\nb\\x1b[1A    c\n"


def test_plain_console_sends_no_sequences_but_its_own() -> None:
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=200, color_system="standard")
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    console.print(HOSTILE, style="bold")
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert not any(sequence in text for sequence in SENT)
    assert text.count("[/red]") == text.count(":skull:") == 4
    # Its own: bold and the end of it.
    assert "\x1b[1m" in text and "\x1b[0m" in text


def test_suite_table_shows_hostile_labels_and_titles_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    suite = suite_results.results()
    suite["title"] = HOSTILE
    suite["notes"] = [HOSTILE]
    text = str(suite).replace("isolation-forest", "[/b]\\x1b[2J")
    print_suite(suite_results.record(eval(text)))
    out = capsys.readouterr().out
    assert not any(sequence in out for sequence in SENT) and "[/b]" in out and "[/red]" in out


PLUG_IN = """
from fedrobust.federation import Attack


class HostileError(Attack):
    {docstring!r}

    def poison_update(self, update):
        raise ValueError({hostile!r})
"""

SUITE = """
title = {title}
[base]
data = "phantom(images=120, size=16)"
strategy = ["fedavg", "median"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder whose plug-in, suite and name hold what a terminal or rich would act on."""
    here = tmp_path / "study [/b] \x1b[2J 2"
    (here / "clients").mkdir(parents=True)
    (here / "experiments").mkdir()
    text = PLUG_IN.format(docstring=f"Says {HOSTILE}.", hostile=HOSTILE)
    (here / "clients" / "hostile_error.py").write_text(text, encoding="utf-8")
    title = '"' + HOSTILE.encode("unicode_escape").decode().replace(r"\x", r"\u00").replace("\\r", "") + '"'
    (here / "experiments" / "hostile_title.toml").write_text(SUITE.format(title=title), encoding="utf-8")
    monkeypatch.chdir(here)
    return here


def in_terminal(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; return its exit code and what the terminal gets."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"}
    command = subprocess.Popen(
        [sys.executable, "-m", "fedrobust", *arguments],
        cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    received = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # Linux's way to say that the other end is closed.
            break
        if not block:
            break
        received += block
    os.close(ours)
    return command.wait(), received.decode("utf-8", "replace")


@pytest.mark.slow
def test_hostile_error_of_a_hospital_is_text_in_a_terminal(folder: Path) -> None:
    code, text = in_terminal(
        ["simulate", "--clients", "3", "--malicious", "1", "--attack", "hostile-error", "--rounds", "1",
         "--local-epochs", "1", "--networks", "1", "--workers", "1", "--data", "phantom(images=120, size=16)",
         "--out", "out [/b] \x1b[2J 2"],
        folder,
    )  # fmt: skip
    assert code == 0, text
    assert not any(sequence in text for sequence in SENT)
    assert "[/red]" in text and r"\x1b]0;owned\x07" in text and "out [/b]" in text
    # The error's second line would have passed for one of the program's.
    assert not any(line.startswith("fedrobust: all is well") for line in text.splitlines())


def test_lists_and_refusals_show_hostile_texts_as_text(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (
        (["list", "attacks"], 0),
        (["list", "hostile-error"], 0),
        (["benchmark"], 0),
        (["benchmark", "hostile_title", "--dry-run"], 0),
        (["simulate", "--strategy", HOSTILE], 2),
        (["simulate", "--attack", HOSTILE, "--malicious", "1"], 2),
        (["simulate", "--config", HOSTILE], 2),
        (["report", HOSTILE], 2),
        ([HOSTILE], 2),
        (["simulate", f"--{HOSTILE}"], 2),
    ):
        with pytest.raises(SystemExit) as left:
            program.main(arguments)
        out, err = capfd.readouterr()
        assert left.value.code == code, (arguments, err)
        assert not any(sequence in out + err for sequence in SENT), arguments
        if code == 2:
            assert err.count("\n") == 1, arguments

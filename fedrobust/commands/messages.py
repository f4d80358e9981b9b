"""What a command prints on standard error: notes, and the one sentence of a refusal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

import click

from fedrobust.errors import nearest
from fedrobust.printing import one_line
from fedrobust.settings import SYNONYMS

__all__ = ["note", "print_report", "refuse", "show_warning", "usage_sentence"]


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line; those of libraries about themselves are not for the user."""
    if category is UserWarning:
        note(str(message))


def note(sentence: str) -> None:
    """Print a note, one sentence, on standard error."""
    print(f"fedrobust: note: {one_line(sentence)}", file=sys.stderr)


def print_report(lines: Iterable[str]) -> None:
    """Print a line for each fault on standard error."""
    for line in lines:
        print(f"fedrobust: {one_line(line)}", file=sys.stderr)


def usage_sentence(error: click.UsageError) -> str:
    """Return what is wrong with the flags, with the nearest flag there is."""
    known = [flag for p in (error.ctx.command.params if error.ctx else []) for flag in p.opts]
    if isinstance(error, click.NoSuchOption):
        meant = {f"--{word}": f"--{setting}" for word, setting in SYNONYMS.items() if f"--{setting}" in known}
        flag = error.option_name.replace("_", "-")
        return f"there is no flag '{error.option_name}'; {nearest(flag, known, meant)}"
    return error.format_message()


def refuse(sentence: str) -> None:
    """Print what is wrong on standard error, and exit with code 2."""
    print(f"fedrobust: {one_line(sentence)}", file=sys.stderr)
    sys.exit(2)

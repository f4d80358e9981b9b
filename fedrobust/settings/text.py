"""Texts that a setting may hold."""

from __future__ import annotations

import re

__all__ = ["check_text"]

#: NUL ends a path in C; half of a surrogate pair is no Unicode text.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

#: Characters of a value: those of long chains of plug-ins, with room.
_LONGEST_TEXT = 10_000


def check_text(value: object) -> None:
    """Raise `ValueError` for a text, or one of several, that no settings file or path can hold."""
    for text in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(text, str):
            continue
        if _UNWRITABLE.search(text):
            raise ValueError("has a character that no file can hold as text, so it cannot be kept")
        if len(text) > _LONGEST_TEXT:
            raise ValueError(f"is {len(text):,} characters long; {_LONGEST_TEXT:,} is the most")

"""Small words of a run's sentences: numbers, lists, plurals."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["capitalised", "counted", "listed", "plural"]

_WORDS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)


def counted(count: int) -> str:
    """Return a number as a word where it is short."""
    return _WORDS[count] if 0 <= count < len(_WORDS) else str(count)


def listed(parts: Sequence[str]) -> str:
    """Return 'a, b and c'."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def plural(count: int, word: str) -> str:
    """Return a word, with an s unless it is one."""
    return word if count == 1 else word + "s"


def capitalised(text: str) -> str:
    """Return a sentence with its first letter large."""
    return text[:1].upper() + text[1:]

"""The exceptions that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["RunInterrupted", "UserError", "nearest"]


class UserError(Exception):
    """Something the user can put right, stated in one sentence.

    The commands print the sentence without a traceback and exit with code 2. Raise it where the mistake is
    first visible and name three things: what is wrong, where, and what to do about it.
    """


class RunInterrupted(KeyboardInterrupt):
    """A run that the user stopped.

    Attributes
    ----------
    folder : Path
        The files of the unfinished run, from which it can be resumed.
    rounds : int
        How many rounds it has completed, those before an earlier resume included.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        """Keep where the run stands."""
        super().__init__(f"interrupted after {rounds} completed rounds; its files are in {folder}")
        self.folder = folder
        self.rounds = rounds


def nearest(name: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return a hint naming the known words closest to a mistyped one.

    Parameters
    ----------
    name : str
        The word that was not found.
    known : iterable of str
        The words that exist.
    synonyms : mapping of str to str, optional
        Other words that users type, each with what is meant; they come before likeness of letters.

    Returns
    -------
    str
        ``"did you mean 'a' or 'b'?"`` when something is close, else ``"known: a, b, c"``.
    """
    words = sorted(set(known))
    if synonyms and name.lower() in synonyms:
        return f"did you mean '{synonyms[name.lower()]}'?"
    close = difflib.get_close_matches(name, words, n=2, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{word}'" for word in close) + "?"
    return "known: " + ", ".join(words) if words else "none is known"

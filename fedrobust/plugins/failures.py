"""What a plug-in raises, as one sentence with the file and the line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from fedrobust.errors import UserError

__all__ = ["place_of", "reraise_as_user_error"]


@contextmanager
def reraise_as_user_error(what: str) -> Iterator[None]:
    """Raise whatever a plug-in raises as a `UserError`: what failed, as given, then why and where."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {place_of(error)}") from error


def place_of(error: BaseException, file: str | None = None) -> str:
    """Return an error's kind and message, with a file and line.

    Parameters
    ----------
    error : BaseException
    file : str, optional
        The plug-in's file: the line is the last one in it that led to the error. Unless given, and where no
        line of that file did, it is the line that raised the error.
    """
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    words = " ".join(str(error).split())
    text = f": {words}" if words else ""
    return f"{type(error).__name__}{text} ({frame.filename}, line {frame.lineno})"

"""Text from outside, printed as text: names, titles and errors come from other people's files.

Whatever the commands print goes through `one_line`, `lines` or a `PlainConsole`. None of them reads markup,
and what a terminal would act on (escape sequences, control and bidirectional characters) is shown, not sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

__all__ = ["PlainConsole", "lines", "one_line"]

#: Characters that a sentence may have; a longer one, such as an error with a whole array in it, is cut.
LONGEST = 2000

_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# Control characters, those that change the direction of writing, invisible ones, and halves of surrogate
# pairs, which no stream can encode. Joiners stay: scripts and emoji need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def one_line(text: object) -> str:
    r"""Return a text as one line of printable characters, cut if it is longer than any sentence.

    Line breaks and tabs become spaces; other characters that a terminal would act on become escapes, such as
    ``\x1b``.
    """
    return _shown(_BREAKS.sub(" ", _cut(str(text))))


def lines(text: object) -> str:
    """Return a text of several lines with everything but its line breaks as in `one_line`, not cut."""
    return _shown(str(text).replace("\r\n", "\n").replace("\t", "    "))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


def _shown(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


class PlainConsole(Console):
    """A console for which all text is text: no markup, no emoji codes, no escape sequences but its own.

    Parameters
    ----------
    **options
        As for `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        """Turn off what reads texts."""
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the pieces to print, each of them printable."""
        for piece in super().render(renderable, options):
            plain = piece.text if piece.control else _shown(piece.text)
            yield piece if plain == piece.text else Segment(plain, piece.style)

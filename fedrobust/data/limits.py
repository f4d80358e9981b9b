"""How large data may be: files from others are measured by what they declare, before memory is taken."""

from __future__ import annotations

import os

__all__ = ["LARGEST_SIDE", "LONGEST_NAME", "MOST_CLASSES", "gigabytes", "largest_bytes"]

#: Of the machine's memory, the share that a source's arrays may take: they are copied on the way.
_SHARE = 0.25

#: In place of the machine's memory where the system does not tell it.
_ASSUMED_MEMORY = 16 << 30

#: Pixels along the side of an image; `image_size` has the same bound.
LARGEST_SIDE = 512

#: A classifier's frame and a confusion matrix have a row and a column for each class. Labels 0 and 255 fit.
MOST_CLASSES = 256

#: Letters in the name of a class or a site.
LONGEST_NAME = 200


def largest_bytes() -> int:
    """Return how many bytes a source's arrays may have on this machine."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 0
    return int(_SHARE * (memory if memory > 0 else _ASSUMED_MEMORY))


def gigabytes(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / 1e9:,.3g} GB"

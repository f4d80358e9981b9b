"""Test parts of the hospitals' own, taken from the images that they would train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.split import drawn_parts
from fedrobust.seeding import generator

__all__ = ["with_site_tests"]

#: Shares of its images on which a hospital trains and tests.
_SHARES = (0.8, 0.2)

Parts = tuple[NDArray[np.int64], ...]


def with_site_tests(records: Records, hospitals: Parts, seed: int) -> tuple[Parts, Parts]:
    """Return the positions on which each hospital trains, and those on which it tests.

    Drawn class by class, all images of a patient together. A hospital of one image has none to test on.
    """
    drawn = [
        drawn_parts(records, part, _SHARES, generator(seed, "site test", number))
        for number, part in enumerate(hospitals)
    ]
    return tuple(train for train, _ in drawn), tuple(test for _, test in drawn)

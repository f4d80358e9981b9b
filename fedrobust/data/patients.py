"""Patients: several images of one are dealt out together, to parts and to hospitals.

A split or a partition is drawn for patients as if each had one image, and then every image goes with its
patient. So whatever draws it, no patient is trained on in one place and tested on in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError

__all__ = ["Patients", "check_together"]


class Patients:
    """The patients of some records.

    Parameters
    ----------
    records : Records
        An image without the fact ``"patient"`` is a patient of its own.
    index : ndarray of int64, shape (n,)
        Positions in the records, each once.

    Attributes
    ----------
    records : Records
        The same, but each image labelled with its patient's commonest label.
    leaders : ndarray of int64, shape (m,)
        The position of each patient's first image, in the order of `index`; all of it without patients.
    images : ndarray of int64, shape (m,)
        How many images each has.
    """

    def __init__(self, records: Records, index: NDArray[np.int64]) -> None:
        """Group the images."""
        self.records, self.leaders = records, index
        self.images = np.ones(len(index), np.int64)
        self._members: dict[int, NDArray[np.int64]] = {}
        names = records.facts.get("patient")
        if names is None or not (names[index] != "").any():
            return
        codes = _codes(names[index])
        first = np.unique(codes, return_index=True)[1]
        self.leaders, self.images = index[np.sort(first)], np.bincount(codes)[codes[np.sort(first)]]
        votes = np.zeros((int(codes.max()) + 1, len(records.classes)), np.int64)
        np.add.at(votes, (codes, records.labels[index]), 1)
        labels = records.labels.copy()
        labels[index] = votes.argmax(axis=1)[codes]
        self.records = replace(records, labels=labels)
        order = np.argsort(codes, kind="stable")
        blocks = np.split(index[order], np.cumsum(np.bincount(codes))[:-1])
        self._members = {int(block[0]): block for block in blocks if len(block) > 1}

    def all_images(self, leaders: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of all images of some patients, sorted."""
        if not self._members:
            return leaders
        blocks = [self._members.get(int(leader), np.array([leader])) for leader in leaders]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *blocks]))


def check_together(records: Records, index: NDArray[np.int64], column: NDArray[np.str_], what: str) -> None:
    """Refuse patients whose images a column puts into different places.

    Parameters
    ----------
    records : Records
    index : ndarray of int64, shape (n,)
    column : ndarray of str, shape (n,)
        The place of each of these images.
    what : str
        The places in words, and what to do.

    Raises
    ------
    UserError
        Naming some of the patients.
    """
    names = records.facts.get("patient")
    if names is None:
        return
    known = names[index] != ""
    pairs = np.unique(np.stack([names[index][known], column[known].astype(np.str_)], axis=1), axis=0)
    patients, places = np.unique(pairs[:, 0], return_counts=True)
    apart = patients[places > 1]
    if len(apart):
        raise UserError(
            f"{records.source or 'the data'}: {len(apart)} patients have images in several {what} "
            f"({_listed(apart)})"
        )


def _codes(names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return a number for each image's patient; one of its own where the patient is unknown."""
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    unknown = np.flatnonzero(names == "")
    codes[unknown] = codes.max() + 1 + np.arange(len(unknown))
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _listed(names: Iterable[str]) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:3]) + (", ..." if len(texts) > 3 else "")

"""The record of the cross-site matrix, in ``evaluation.json`` and ``summary.json``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fedrobust.results.records.base import Record

__all__ = ["SiteTests"]


class SiteTests(Record):
    """Accuracies on the hospitals' own test parts; None where a hospital has none, or sent no model.

    Attributes
    ----------
    images : tuple of int
        How many each hospital tests on.
    global_model : tuple of float or None
        Of the last global model, by the hospital that it is tested at.
    hospitals : tuple of tuple of float or None
        Of the model that each hospital sent in the last round: a row for each, a column for each hospital
        that it is tested at.
    """

    images: tuple[int, ...]
    global_model: tuple[float | None, ...]
    hospitals: tuple[tuple[float | None, ...], ...] = ()

    @property
    def mean(self) -> float | None:
        """Return the global model's accuracy, averaged over the hospitals."""
        return _mean(self.global_model)

    @property
    def worst(self) -> float | None:
        """Return the global model's accuracy at the hospital where it is lowest."""
        return min((value for value in self.global_model if value is not None), default=None)

    @property
    def at_home(self) -> float | None:
        """Return the mean accuracy of the hospitals' models at the hospitals that sent them."""
        return _mean([row[number] for number, row in enumerate(self.hospitals)])

    @property
    def elsewhere(self) -> float | None:
        """Return their mean accuracy at all other hospitals."""
        return _mean([v for n, row in enumerate(self.hospitals) for m, v in enumerate(row) if m != n])

    @model_validator(mode="after")
    def _one_for_each_hospital(self) -> Self:
        lengths = {len(self.images), len(self.global_model), *(len(row) for row in self.hospitals)}
        if len(lengths) > 1 or self.hospitals and len(self.hospitals) != len(self.images):
            raise ValueError("a row of the cross-site matrix has not one entry for each hospital")
        return self


def _mean(values: list[float | None] | tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

"""What the tables of `benchmarks/generalisation.py` are made of: a run's metrics, and texts of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.generalisation_plan import Federation
from benchmarks.pages import interval


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run; None where undefined.

    Attributes
    ----------
    accuracy, balanced_accuracy, macro_f1 : float
        Means of the last three rounds.
    success : float or None
        Attack success rate, over the same rounds.
    auroc, recall : float or None
        Of detection: over the run, and in the last round.
    attackers : float or None
        A malicious hospital's mean weight in the last round, in multiples of the uniform weight.
    flagged : float or None
        Share of honest hospital-rounds that are flagged.
    lightest : float or None
        The lowest weight of an honest hospital in the last round, in multiples of the uniform weight.
    lost : float or None
        Honest hospitals below half of the uniform weight and below half of their share of the images.
    spread : float or None
        Standard deviation over rounds of an honest hospital's weight in uniform weights, mean over hospitals.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    success: float | None = None
    auroc: float | None = None
    recall: float | None = None
    attackers: float | None = None
    flagged: float | None = None
    lightest: float | None = None
    lost: float | None = None
    spread: float | None = None


#: The runs of a federation, by method.
Methods = Mapping[str, RunMetrics]
Compared = Mapping[Federation, Methods]


def text(values: Iterable[float | None], digits: int = 3, scale: float = 1.0) -> str:
    """Return the mean of the known values and half of its interval, where there is one."""
    mean, half = interval([scale * value for value in values if value is not None])
    if math.isnan(mean):
        return "—"
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def mean_text(values: Iterable[float | None], digits: int = 2) -> str:
    """Return the mean of the known values."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "—"


def short(data: str) -> str:
    """Return the name of data without source and options."""
    return data.removeprefix("medmnist:").partition("(")[0]


def where(compared: Compared, test: Callable[[Federation], bool]) -> Compared:
    """Return the federations that pass a test."""
    return {one: here for one, here in compared.items() if test(one)}


def on(compared: Compared, data: Collection[str]) -> Compared:
    """Return the federations with some data."""
    return where(compared, lambda one: one.data in data)

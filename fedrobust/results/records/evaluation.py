"""The records of ``evaluation.json`` and of the description in ``examples.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from fedrobust.results.records.base import Record, Role
from fedrobust.results.records.robustness import Robustness
from fedrobust.results.records.site_tests import SiteTests

__all__ = [
    "CalibrationBin",
    "ClassMetrics",
    "Evaluation",
    "ExampleRecord",
    "HospitalEvaluation",
    "PartSummary",
]


class CalibrationBin(Record):
    """One bin of confidence: its ends, its images, and their mean confidence and accuracy."""

    low: float
    high: float
    count: int = Field(ge=0)
    confidence: float | None = None
    accuracy: float | None = None


class ClassMetrics(Record):
    """The last model class by class, on one set of test images; the confusion matrix has truth in rows."""

    confusion: tuple[tuple[int, ...], ...] = ()
    sensitivity: tuple[float | None, ...] = ()
    specificity: tuple[float | None, ...] = ()
    precision: tuple[float | None, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()


class HospitalEvaluation(Record):
    """One hospital: the truth about it, its images, and the last model's accuracy for it."""

    number: int
    role: Role
    attack: str | None = None
    images: int | None = None
    counts: tuple[int, ...] | None = None
    missing: Mapping[str, float] | None = None
    accuracy: float | None = None


class PartSummary(Record):
    """One part of the data: images of each class, and the share of images that lack a fact."""

    counts: tuple[int, ...] = ()
    missing: Mapping[str, float] = {}


class ExampleRecord(Record):
    """One pair of ``examples.safetensors``: the hospital, its attack, and the labels before and after."""

    hospital: int
    attack: str
    before: str
    after: str


class Evaluation(Record):
    """The final evaluation: the last model class by class, the hospitals, and the parts of the data."""

    classes: tuple[str, ...]
    clean: ClassMetrics = ClassMetrics()
    noisy: ClassMetrics = ClassMetrics()
    hospitals: tuple[HospitalEvaluation, ...] = ()
    splits: Mapping[str, PartSummary] = {}
    robustness: Robustness | None = None
    site_tests: SiteTests | None = None

    @model_validator(mode="after")
    def _one_for_each_class(self) -> Self:
        parts = (self.clean, self.noisy)
        by_class: list[Sequence[object]] = [
            *(row for part in parts for row in part.confusion),
            *(
                row
                for part in parts
                for row in (part.confusion, part.sensitivity, part.specificity, part.precision)
            ),
            *(hospital.counts or () for hospital in self.hospitals),
            *(split.counts for split in self.splits.values()),
        ]
        if not {len(row) for row in by_class} <= {0, len(self.classes)}:
            raise ValueError(f"a list has not one entry for each of the {len(self.classes)} classes")
        return self

"""The records of a model's evaluations on changed images, in ``evaluation.json`` and ``summary.json``."""

from __future__ import annotations

from pydantic import Field

from fedrobust.results.records.base import Record

__all__ = ["ConditionResult", "EvaluationResult", "GradientRecord", "PictureRecord", "Robustness"]


class _Scores(Record):
    """A model's metrics on changed images; None where undefined.

    Attributes
    ----------
    defence_rate : float or None
        The share of the images classified correctly before that still are.
    drop : float or None
        The combined drop from the unchanged images, in percent.
    """

    accuracy: float | None = None
    macro_f1: float | None = None
    macro_precision: float | None = None
    defence_rate: float | None = None
    drop: float | None = None


class ConditionResult(_Scores):
    """The metrics under one condition, such as a severity.

    Attributes
    ----------
    median_distance, largest_change : float or None
        How far images were moved: the median Euclidean distance, and the largest change of a pixel, in grey
        levels of 255.
    """

    condition: str = ""
    median_distance: float | None = None
    largest_change: float | None = None


class EvaluationResult(_Scores):
    """The means over the conditions of one evaluation, and each of them.

    Attributes
    ----------
    text, name : str
        With and without options.
    kind : str
        ``clean``, ``corruption``, ``white-box``, ``black-box`` or ``transfer``.
    forward_images, gradient_images : int
        Images that went through the model, without and with gradients.
    """

    text: str
    name: str
    kind: str
    norm: str | None = None
    eps: float | None = None
    forward_images: int = 0
    gradient_images: int = 0
    conditions: tuple[ConditionResult, ...] = ()


class GradientRecord(Record):
    """A check of gradients: the share of them that are zero, and of the others those that are wrong."""

    images: int = Field(ge=0)
    zero: float | None = None
    wrong: float | None = None


class PictureRecord(Record):
    """One picture of ``robustness.safetensors``: what was done, and what the model takes the image for.

    Attributes
    ----------
    factor : float
        By what the difference is multiplied.
    """

    evaluation: str
    condition: str = ""
    label: str
    predicted: str
    factor: float = 1.0


class Robustness(Record):
    """The evaluations of the last model on changed images.

    Attributes
    ----------
    images, test_images : int
        Test images used, and how many there are.
    gradients : GradientRecord or None
        None without attacks.
    masking : tuple of str
        Signs of gradient masking, in sentences.
    """

    images: int = Field(ge=0)
    test_images: int = Field(ge=0)
    gradients: GradientRecord | None = None
    masking: tuple[str, ...] = ()
    evaluations: tuple[EvaluationResult, ...] = ()

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return each evaluation's metrics by keys such as ``accuracy@pgd(eps=8)``."""
        found: dict[str, float | None] = {}
        for one in self.evaluations:
            found |= {
                f"accuracy@{one.text}": one.accuracy,
                f"defence@{one.text}": one.defence_rate,
                f"drop@{one.text}": one.drop,
            }
        return found

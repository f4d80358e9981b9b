"""Evaluates a model on changed images, and says what that costs before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.drop import combined_drop
from fedrobust.plugins import reraise_as_user_error
from fedrobust.robustness.base import Evasion
from fedrobust.robustness.plan import NamedEvaluation
from fedrobust.robustness.target import BATCH, Images, Labels, Target
from fedrobust.seeding import generator, globally_seeded, torch_seeded

__all__ = ["Measured", "Step", "estimated_seconds", "measure"]

#: An attack may exceed its eps by this share, which is rounding.
_ROUNDING = 1e-4

#: Images with which the time of a pass is measured, and how often it is.
_TIMED, _TRIES = 32, 4


@dataclass(frozen=True)
class Step:
    """How far an evaluation is: which one, and how many of how many images are done; or a note beforehand."""

    text: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """What one evaluation gave.

    Attributes
    ----------
    named : NamedEvaluation
    conditions : mapping of str to dict
        Each condition's metrics.
    right_before : ndarray of bool, shape (n,)
        Which images the model classifies correctly as they are.
    moved : mapping of str to tuple
        The median Euclidean and the largest distance that images were moved, in grey levels of 255; of an
        attack those that it attacked.
    pictures : mapping of str to ndarray
        The changed images of the conditions that are shown.
    predicted : mapping of str to ndarray of int64, shape (n,)
    forward_images, gradient_images : int
        Images that went through the model, without and with gradients.
    """

    named: NamedEvaluation
    conditions: Mapping[str, Mapping[str, float | None]]
    right_before: NDArray[np.bool_]
    moved: Mapping[str, tuple[float | None, float | None]]
    pictures: Mapping[str, Images] = field(default_factory=dict)
    predicted: Mapping[str, Labels] = field(default_factory=dict)
    forward_images: int = 0
    gradient_images: int = 0

    @property
    def mean(self) -> Mapping[str, float | None]:
        """Return the mean of each metric over the conditions; None where one of them has none."""
        found: dict[str, float | None] = {}
        for key in next(iter(self.conditions.values())):
            values = [metrics[key] for metrics in self.conditions.values()]
            known = [value for value in values if value is not None]
            found[key] = float(np.mean(known)) if len(known) == len(values) else None
        return found


def measure(
    evaluations: Sequence[NamedEvaluation],
    target: Target,
    images: NDArray[np.uint8],
    labels: Labels,
    seed: int,
    tell: Callable[[Step], None] = lambda _: None,
) -> tuple[Measured, ...]:
    """Evaluate a model on images, changed by each of the evaluations.

    Parameters
    ----------
    evaluations : sequence of NamedEvaluation
    target : Target
        The model.
    images : ndarray of uint8, shape (n, channels, height, width)
    labels : ndarray of int64, shape (n,)
    seed : int
        The run's. Results depend on it and on the evaluations' options, not on which others there are.
    tell : callable
        Told of each batch.
    """
    from fedrobust.learners.devices import repeatable

    pixels = images.astype(np.float32) / np.float32(255)
    with repeatable(target.device):
        clean = target.log_probabilities(pixels)
        return tuple(_one(named, target, pixels, labels, clean, seed, tell) for named in evaluations)


def estimated_seconds(
    evaluations: Sequence[NamedEvaluation],
    target: Target,
    images: NDArray[np.uint8],
    labels: Labels,
    right: float | None = None,
) -> tuple[float, tuple[str, ...]]:
    """Return how long the evaluations take, and the texts of those that cannot say it.

    A pass is timed on a few images, as is what an evaluation other than an attack does to them; other
    programs that keep the processor busy count. On these images the share is found, too, that attacks
    change, those that are classified correctly, unless it is given as `right`.
    """
    from fedrobust.learners.devices import repeatable

    batch = images[:_TIMED].astype(np.float32) / np.float32(255)
    with repeatable(target.device):
        forward = _timed(lambda: target.predict(batch)) / len(batch)
        if right is None:
            right = int((target.predict(batch) == labels[:_TIMED]).sum()) / len(batch)
    seconds, unknown = 0.0, []
    for one in evaluations:
        cost = one.evaluation.cost
        if cost is None:
            unknown.append(one.text)
            continue
        changed = len(labels) * (right if one.evaluation.right_only else 1.0)
        # Forward and back: three times the work of a pass forward.
        seconds += changed * forward * (cost.forward + 3 * cost.gradient)
        if not isinstance(one.evaluation, Evasion):
            seconds += changed / len(batch) * _seconds_of_changes(one, target, batch, labels[: len(batch)])
    return seconds, tuple(unknown)


def _seconds_of_changes(named: NamedEvaluation, target: Target, images: Images, labels: Labels) -> float:
    """Return the seconds in which an evaluation changes a few images in all its ways."""
    rng = np.random.default_rng(0)
    before = time.perf_counter()
    for condition in named.evaluation.conditions:
        _changed(named, condition, target, images, labels, rng)
    return time.perf_counter() - before


def _timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call, the median of a few after one that prepares much."""
    call()
    found = []
    for _ in range(_TRIES):
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return float(np.median(found))


def _one(
    named: NamedEvaluation,
    target: Target,
    pixels: Images,
    labels: Labels,
    clean: NDArray[np.float32],
    seed: int,
    tell: Callable[[Step], None],
) -> Measured:
    evaluation = named.evaluation
    before = target.forward_images, target.gradient_images
    right, reference = clean.argmax(axis=1) == labels, _metrics(clean, labels)
    attacked = np.flatnonzero(right) if evaluation.right_only else np.arange(len(labels))
    total = len(attacked) * len(evaluation.conditions)
    conditions, moved, pictures, predictions = {}, {}, {}, {}
    done = 0
    for condition in evaluation.conditions:
        changed = pixels.copy()
        for place, start in enumerate(range(0, len(attacked), BATCH)):
            tell(Step(named.text, done, total))
            batch = attacked[start : start + BATCH]
            with _seeded(seed, named.name, place):
                rng = generator(seed, "evaluation", named.name, place)
                changed[batch] = _changed(named, condition, target, pixels[batch], labels[batch], rng)
            done += len(batch)
        answers = target.log_probabilities(changed)
        found, predicted = _metrics(answers, labels), answers.argmax(axis=1)
        still = (predicted == labels) & right
        conditions[condition] = {
            **found,
            "defence_rate": float(still.sum() / right.sum()) if right.any() else None,
            "drop": combined_drop(reference, found)["combined"],
        }
        predictions[condition] = predicted
        moved[condition] = _distances(changed[attacked] - pixels[attacked])
        if condition in evaluation.shown:
            pictures[condition] = changed
    tell(Step(named.text, total, total))
    counted = target.forward_images - before[0], target.gradient_images - before[1]
    return Measured(named, conditions, right, moved, pictures, predictions, *counted)


def _changed(
    named: NamedEvaluation,
    condition: str,
    target: Target,
    images: Images,
    labels: Labels,
    rng: np.random.Generator,
) -> Images:
    """Return a batch changed by an evaluation, checked and clipped to [0, 1]."""
    given = images.copy()
    with reraise_as_user_error(f"evaluation '{named.text}' fails"):
        found = np.asarray(named.evaluation.changed(condition, target, given, labels, rng))
    if found.shape != images.shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise UserError(
            f"evaluation '{named.text}' must return finite floats of shape {images.shape}, but returns "
            f"{found.dtype} of shape {found.shape}"
        )
    changed = np.clip(found.astype(np.float32), 0, 1)
    _check_distance(named, changed - images)
    return changed


def _check_distance(named: NamedEvaluation, change: Images) -> None:
    """Refuse an attack that moves an image further than it says."""
    evaluation = named.evaluation
    if not isinstance(evaluation, Evasion) or evaluation.eps is None or not len(change):
        return
    flat = 255 * change.reshape(len(change), -1).astype(np.float64)
    far = np.abs(flat).max() if evaluation.norm != "2" else np.linalg.norm(flat, axis=1).max()
    if far > evaluation.eps * (1 + _ROUNDING) + _ROUNDING:
        raise UserError(
            f"evaluation '{named.text}' moves an image by {far:.3f} grey levels, more than its eps of "
            f"{evaluation.eps:g}"
        )


def _metrics(answers: NDArray[np.float32], labels: Labels) -> dict[str, float]:
    found = classification_metrics(np.exp(answers.astype(np.float64)), labels)
    return {
        "accuracy": found["accuracy"],
        "macro_f1": found["macro_f1"],
        "macro_precision": found["macro_precision"],
    }


def _distances(change: Images) -> tuple[float | None, float | None]:
    """Return the median Euclidean distance and the largest change of a pixel, in grey levels."""
    if not len(change):
        return None, None
    flat = 255 * change.reshape(len(change), -1).astype(np.float64)
    return float(np.median(np.linalg.norm(flat, axis=1))), float(np.abs(flat).max())


@contextmanager
def _seeded(seed: int, name: str, place: int) -> Iterator[None]:
    """Seed all global generators, which ART draws from, for one batch of an evaluation."""
    with globally_seeded(seed, "evaluation", name, place), torch_seeded(seed, "evaluation", name, place):
        yield

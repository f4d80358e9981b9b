"""The evaluations of a run: a sample of its test images, all results as its files hold them, and pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.robustness.base import Evasion
from fedrobust.robustness.gradients import check_gradients, masking
from fedrobust.robustness.measure import Measured, Step, estimated_seconds, measure
from fedrobust.robustness.plan import NamedEvaluation, stratified_sample
from fedrobust.robustness.target import Images, Target

__all__ = ["Picture", "Study", "study"]

#: Images that are shown of each condition.
_SHOWN = 2


@dataclass(frozen=True)
class Picture:
    """A test image before and after a change, and what the model takes it for.

    Attributes
    ----------
    original, changed, difference : ndarray of uint8, shape (C, H, W)
        The difference is magnified around grey.
    about : mapping
        The evaluation, the condition, the classes' names, and the factor of the magnification.
    """

    original: NDArray[np.uint8]
    changed: NDArray[np.uint8]
    difference: NDArray[np.uint8]
    about: Mapping[str, object]


@dataclass(frozen=True)
class Study:
    """Everything that the evaluations of a model gave, as ``evaluation.json`` holds it, and pictures."""

    results: Mapping[str, object]
    pictures: Sequence[Picture]


def study(
    evaluations: Sequence[NamedEvaluation],
    target: Target,
    test: Records,
    size: int,
    seed: int,
    tell: Callable[[Step], None] = lambda _: None,
) -> Study:
    """Evaluate a model on a sample of the test images.

    Parameters
    ----------
    evaluations : sequence of NamedEvaluation
    target : Target
    test : Records
    size : int
        Images at most; the classes' shares are kept.
    seed : int
    tell : callable
        Told first of what it will cost, then of each batch.

    Raises
    ------
    UserError
        If an evaluation fails or cannot be had of this model.
    """
    for one in evaluations:
        if one.evaluation.kind == "transfer" and not target.has_substitute:
            raise UserError(f"evaluation '{one.text}' needs a model that imitates this one: leave it out")
    sample = stratified_sample(test.labels, size, seed)
    images, labels = test.images[sample], test.labels[sample]
    attacked = any(isinstance(one.evaluation, Evasion) for one in evaluations)
    if attacked and find_spec("art") is not None:
        # Loading the library takes seconds, which are over when the others are estimated.
        _ = target.art
    seconds, unknown = estimated_seconds(evaluations, target, images, labels)
    more = f", and how long {', '.join(unknown)} will take is not known" if unknown else ""
    of = f"{len(sample)} of {len(test)}" if len(sample) < len(test) else f"all {len(test)}"
    tell(Step("", 0, 0, f"evaluating on {of} test images takes {_duration(seconds)}{more}"))
    measured = measure(evaluations, target, images, labels, seed, tell)
    pixels = images.astype(np.float32) / np.float32(255)
    check = check_gradients(target, pixels, labels) if attacked else None
    signs = masking(check, measured) if check is not None else ()
    for sentence in signs:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    results = {
        "images": len(sample),
        "test_images": len(test),
        "gradients": None if check is None else vars(check),
        "masking": signs,
        "evaluations": [_result(one) for one in measured],
    }
    return Study(results, [p for one in measured for p in _pictures(one, pixels, labels, test.classes)])


def _result(one: Measured) -> dict[str, object]:
    evaluation = one.named.evaluation
    return {
        "text": one.named.text,
        "name": one.named.name,
        "kind": evaluation.kind,
        "norm": getattr(evaluation, "norm", None),
        "eps": getattr(evaluation, "eps", None),
        **one.mean,
        "forward_images": one.forward_images,
        "gradient_images": one.gradient_images,
        "conditions": [
            {
                "condition": condition,
                **metrics,
                **dict(zip(("median_distance", "largest_change"), one.moved[condition], strict=True)),
            }
            for condition, metrics in one.conditions.items()
        ],
    }


def _pictures(
    one: Measured, pixels: Images, labels: NDArray[np.int64], classes: Sequence[str]
) -> list[Picture]:
    """Return pictures of each condition that is shown: misclassified images first, of unlike classes."""
    found = []
    shown = one.named.evaluation.shown
    for condition in shown:
        changed, predicted = one.pictures[condition], one.predicted[condition]
        moved = np.abs(changed - pixels).reshape(len(pixels), -1).max(axis=1)
        turned = one.right_before & (predicted != labels)
        order = sorted(np.flatnonzero(moved > 0).tolist(), key=lambda i: (not turned[i], int(i)))
        first_of_class = {int(labels[i]): i for i in reversed(order)}
        chosen = sorted(first_of_class.values(), key=order.index)
        chosen += [i for i in order if i not in chosen]
        for i in chosen[: _SHOWN if len(shown) == 1 else 1]:
            difference, factor = _magnified(changed[i] - pixels[i])
            found.append(
                Picture(
                    _levels(pixels[i]),
                    _levels(changed[i]),
                    difference,
                    {
                        "evaluation": one.named.text,
                        "condition": condition,
                        "label": classes[int(labels[i])],
                        "predicted": classes[int(predicted[i])],
                        "factor": factor,
                    },
                )
            )
    return found


def _magnified(change: Images) -> tuple[NDArray[np.uint8], float]:
    """Return a change as an image around grey, as strong as it can be, and by what it is multiplied."""
    largest = float(np.abs(change).max())
    factor = 0.5 / largest if largest else 1.0
    return _levels(0.5 + np.float32(factor) * change), round(factor, 1)


def _levels(image: Images) -> NDArray[np.uint8]:
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"

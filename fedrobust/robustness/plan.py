"""What is evaluated, worked out from the settings' text: the plug-ins and the number of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrobust.plugins import EvaluationSpecs, find, instantiate
from fedrobust.robustness.base import Evaluation
from fedrobust.seeding import generator

__all__ = ["NamedEvaluation", "evaluation_class", "named_evaluations", "stratified_sample"]


@dataclass(frozen=True)
class NamedEvaluation:
    """An evaluation, and the text that it was given as.

    Attributes
    ----------
    text, name : str
        With and without the options.
    evaluation : Evaluation
    """

    text: str
    name: str
    evaluation: Evaluation


def evaluation_class(name: str) -> type[Evaluation]:
    """Return the class of an evaluation by its name.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    return find(name, "evaluations", (Evaluation,), "evaluation")


def named_evaluations(specs: EvaluationSpecs) -> tuple[NamedEvaluation, ...]:
    """Return the evaluations of a specification, each one built.

    Raises
    ------
    UserError
        If one is unknown, refuses an option or needs a library that is not installed.
    """
    return tuple(
        NamedEvaluation(
            part.text, part.name, instantiate(evaluation_class(part.name), part.options, part.name)
        )
        for part in specs.parts
    )


def stratified_sample(labels: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Return the places of a sample with the classes' shares kept, ascending; all where there are no more.

    Each class has at least one image if the size allows; what is left after rounding down goes to the
    classes with the largest remainders.
    """
    if len(labels) <= size:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    exact = counts * (size / len(labels))
    taken = np.minimum(np.maximum(np.floor(exact), counts > 0), counts).astype(np.int64)
    while taken.sum() > size:
        taken[taken.argmax()] -= 1
    for label in np.argsort(np.floor(exact) - exact, kind="stable"):
        if taken.sum() == size:
            break
        taken[label] += taken[label] < counts[label]
    order = generator(seed, "evaluate-images").permutation(len(labels))
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(taken)]
    return np.sort(np.concatenate(chosen))

"""The evaluations of a classification model on changed images, at the end of its run or later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fedrobust.data.sources import FederationData
from fedrobust.learners.base import ClassifyingLearner, State
from fedrobust.learners.spec import LearnerSpec
from fedrobust.robustness.measure import Step
from fedrobust.robustness.plan import NamedEvaluation
from fedrobust.robustness.study import Study, study
from fedrobust.robustness.target import Target
from fedrobust.scenario import Scenario
from fedrobust.seeding import derive

if TYPE_CHECKING:
    from torch import nn

__all__ = ["study_of"]

#: Epochs for which the substitute of a transfer attack is trained.
_SUBSTITUTE_EPOCHS = 20


def study_of(
    evaluations: Sequence[NamedEvaluation],
    images: int,
    scenario: Scenario,
    data: FederationData,
    learner: ClassifyingLearner,
    state: State,
    tell: Callable[[Step], None],
) -> Study:
    """Return what evaluations give of a scenario's model on at most so many of its test images."""
    target = Target(
        learner.classifier(state, scenario.views),
        data.records.images.shape[1:],
        len(data.records.classes),
        lambda: _substitute(scenario, data, learner, state),
    )
    return study(evaluations, target, data.part("test"), images, scenario.seed, tell)


def _substitute(
    scenario: Scenario, data: FederationData, learner: ClassifyingLearner, state: State
) -> nn.Module:
    """Return a network that was trained on a model's answers to the validation images.

    It has the model's backbone; all else about the model's training is unknown to who trains it.
    """
    from fedrobust.learners.mutual import MutualLearner

    validation = data.part("val")
    answers = learner.predict(state, validation.images, validation.labels, scenario.views)
    labelled = replace(validation, labels=answers.probabilities.argmax(axis=1))
    spec = LearnerSpec(
        seed=derive(scenario.seed, "substitute"),
        networks=1,
        backbone=scenario.learner.backbone,
        device=scenario.learner.device,
        local_epochs=_SUBSTITUTE_EPOCHS,
    )
    classes, (channels, height, width) = len(validation.classes), validation.images.shape[1:]
    other = MutualLearner(spec, classes, channels, (height, width))
    fitted = other.fit(other.initial(), labelled, round=0, client=0, lr=scenario.lr)
    return other.classifier(fitted.state)

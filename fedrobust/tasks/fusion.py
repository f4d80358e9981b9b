"""An ensemble of finished runs: their models' features, and one classifier that is fitted to them.

A member is a run folder, so a new one joins without any other being trained again; only the classifier is
fitted again, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedrobust.data.sources import FederationData, prepare
from fedrobust.errors import UserError
from fedrobust.learners.base import State
from fedrobust.learners.devices import one_thread
from fedrobust.learners.factory import build_learner
from fedrobust.learners.fusion import Fusion
from fedrobust.learners.mutual import MutualLearner
from fedrobust.results.files import read_tensors
from fedrobust.scenario import Scenario

__all__ = ["Ensemble", "Member", "Part", "fused", "saved_state"]

Part = Literal["val", "train"]

#: Images whose features are computed at a time.
_BATCH = 128

#: Inverse weight of the classifier's penalty: features have unit length, so scikit-learn's 1 is strict.
_C = 10.0
_STEPS = 5000


@dataclass(frozen=True)
class Member:
    """A finished run, and the scenario that its settings stand for."""

    folder: Path
    scenario: Scenario


@dataclass(frozen=True)
class Ensemble:
    """Models joined by their features.

    Attributes
    ----------
    module : Fusion
        From images in [0, 1] to log-probabilities, differentiable.
    data : FederationData
        The data that all members have.
    seed : int
    fitted_on : int
        Images that the classifier was fitted to, attacked ones included.
    """

    module: Fusion
    data: FederationData
    seed: int
    fitted_on: int

    def probabilities(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the classes' probabilities, shape (n, K); floats are in [0, 1]."""
        parts = [self.module(part).exp() for part in _batches(_pixels(images))]
        return torch.cat(parts).double().numpy()


def fused(members: Sequence[Member], part: Part = "val") -> Ensemble:
    """Return the ensemble of runs, its classifier fitted to one part of the data.

    The classifier sees the images as they are and, for each member with adversarial training, as its attack
    leaves them for that member.

    Parameters
    ----------
    members : sequence of Member
    part : "val" or "train"
        The server's validation images, which a server has; or all training images, as if they were pooled.

    Raises
    ------
    UserError
        If the members' data differ, or a model cannot be read.
    """
    _check_same_data(members)
    data = prepare(members[0].scenario.data)
    records = data.part(part)
    networks, sets = [], [_pixels(records.images).numpy()]
    for member in members:
        learner = build_learner(member.scenario.learner, member.scenario.data)
        state = saved_state(member.folder, learner)
        networks += learner.feature_networks(state)
        if member.scenario.learner.adversary is not None:
            sets.append(learner.attacked(state, sets[0], records.labels))
    module = Fusion([network.cpu() for network in networks])
    _fit(module, np.concatenate(sets), np.tile(records.labels, len(sets)), len(records.classes))
    return Ensemble(module, data, members[0].scenario.seed, len(sets) * len(records))


def _fit(module: Fusion, images: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> None:
    """Fit the classifier: logistic regression with balanced classes."""
    from sklearn.linear_model import LogisticRegression

    with one_thread(), torch.no_grad():
        features = torch.cat([module.features(part) for part in _batches(torch.tensor(images))]).numpy()
        model: Any = LogisticRegression(C=_C, max_iter=_STEPS, class_weight="balanced")
        model.fit(features.astype(np.float64), labels)
    weights = torch.zeros(classes, features.shape[1])
    # A class without any image is never predicted.
    biases = torch.full((classes,), -1e3)
    found, intercepts = torch.tensor(model.coef_).float(), torch.tensor(model.intercept_).float()
    if len(model.classes_) == 2:
        # scikit-learn has one row for two classes: the second's logit, where the first's is 0.
        found = torch.cat([torch.zeros_like(found), found])
        intercepts = torch.cat([torch.zeros_like(intercepts), intercepts])
    weights[model.classes_], biases[model.classes_] = found, intercepts
    module.classify_by(weights, biases)


def _check_same_data(members: Sequence[Member]) -> None:
    """Refuse runs of other data, or of another split, whose test images a member may have trained on."""
    first = members[0]
    for other in members[1:]:
        for name, value in _data_of(first).items():
            if (found := _data_of(other)[name]) != value:
                raise UserError(
                    f"{other.folder}: its {name} is {found}, but that of {first.folder} is {value}; an "
                    f"ensemble's members need the same data, split and seed, so that none has trained on the "
                    f"others' test images"
                )


def _data_of(member: Member) -> Mapping[str, object]:
    spec = member.scenario.data
    return {
        "data": spec.source.text,
        "split": spec.split,
        "seed": member.scenario.seed,
        "image-size": spec.image_size,
        "imbalance": spec.imbalance,
    }


def saved_state(folder: Path, learner: MutualLearner) -> State:
    """Return the state in a run's model file."""
    file = folder / "model.safetensors"
    tensors, _ = read_tensors(file)
    layout = learner.layout
    try:
        parameters, buffers = (
            np.concatenate([np.zeros(0, np.float32), *(tensors[layer.name].ravel() for layer in layers)])
            for layers in (layout.parameters, layout.buffers)
        )
    except KeyError as error:
        raise UserError(f"{file}: holds no {error.args[0]}, so it is not the model of its settings") from None
    return State(parameters.astype(np.float32), buffers.astype(np.float32))


def _pixels(images: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    """Return images as floats in [0, 1]."""
    tensor = torch.tensor(images)
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def _batches(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.split(images, _BATCH)

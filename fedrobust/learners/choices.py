"""What a learner may be told besides: the optimiser, pruning, training on attacked images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from fedrobust.errors import UserError, nearest
from fedrobust.plugins import PluginSpec, PositiveFraction, instantiate

__all__ = [
    "ADAM",
    "SGD",
    "Adam",
    "Noise",
    "Optimizer",
    "Perturbation",
    "Pruning",
    "Scaffold",
    "Synthesis",
    "TrainingRule",
    "WorkerMomentum",
    "adversary_of",
    "optimizer_of",
    "pruning_of",
    "synthesis_of",
    "training_rule_of",
]


@dataclass(frozen=True)
class Adam:
    """Adam with torch's defaults."""


ADAM = Adam()


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent; the momentum is the share of the last step that the next one keeps."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


Optimizer = Adam | SGD


@dataclass(frozen=True)
class WorkerMomentum:
    """A hospital sends a moving average of its differences; beta is the share of the last average."""

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.9


@dataclass(frozen=True)
class Scaffold:
    """A hospital corrects its gradients by how they differ from those of all."""


TrainingRule = WorkerMomentum | Scaffold


@dataclass(frozen=True)
class Pruning:
    """Weights, or whole filters of convolutions, that are set to zero and stay there.

    Attributes
    ----------
    ratio : float
        Share of all weights, or of each convolution's filters.
    start : int or None
        First round that trains the pruned model; None: the one after half of the run's rounds.
    filters : bool
    """

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    start: Annotated[int, Field(ge=1)] | None = None
    filters: bool = False


@dataclass(frozen=True)
class Perturbation:
    """An attack by the gradient on the images of a batch, in a ball around each.

    Attributes
    ----------
    eps : float
        Radius in levels of 255: with the norm "inf" the most that a value changes, with "2" the Euclidean
        length of the change.
    steps : int
    step : float or None
        Length of a step, like `eps`; None: 2.5 eps / steps.
    norm : "inf", "2"
    share : float
        Share of each batch that is attacked.
    random_start : bool
        Whether the first step begins at a random point of the ball.
    """

    eps: Annotated[float, Field(ge=0, le=255)] = 8.0
    steps: Annotated[int, Field(ge=1, le=1000)] = 7
    step: Annotated[float, Field(gt=0, le=255)] | None = None
    norm: Literal["inf", "2", 2] = "inf"
    share: PositiveFraction = 1.0
    random_start: bool = True


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on a share of each batch; images are in [0, 1]."""

    std: Annotated[float, Field(ge=0, le=10)] = 0.1
    share: PositiveFraction = 1.0


@dataclass(frozen=True)
class Synthesis:
    """A conditional GAN.

    Attributes
    ----------
    loss : "bce", "hinge"
    r1 : float
        Weight of the penalty on a discriminator that is steep at real images (Mescheder et al., ICML 2018).
    spectral_norm : bool
        Whether the discriminator's layers are normalised.
    gradient_penalty : float
        Weight of the penalty on a discriminator whose slope is not 1 (Gulrajani et al., NeurIPS 2017).
    average_discriminator : bool
        Whether discriminators travel and are averaged too, instead of staying at their hospitals.
    latent : int
        Length of the noise.
    width : int
        Channels of the narrowest hidden layer.
    """

    loss: Literal["bce", "hinge"] = "bce"
    r1: Annotated[float, Field(ge=0, le=1e6)] = 0.1
    spectral_norm: bool = False
    gradient_penalty: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    average_discriminator: bool = False
    latent: Annotated[int, Field(ge=1, le=4096)] = 64
    width: Annotated[int, Field(ge=1, le=1024)] = 32


def synthesis_of(text: str) -> Synthesis | None:
    """Return what a text says of the task: the GAN of ``synthesis``; None for ``classification``."""
    if text == "classification":
        return None
    chosen: Synthesis = _chosen("task", text, {"classification": _no_options, "synthesis": Synthesis})
    return chosen


def optimizer_of(text: str) -> Optimizer:
    """Return the optimiser that a text names; `UserError` if there is none."""
    chosen: Optimizer = _chosen("optimizer", text, {"adam": Adam, "sgd": SGD})
    return chosen


def training_rule_of(text: str, optimizer: Optimizer) -> TrainingRule | None:
    """Return the rule that a text names; None for ``plain``.

    Raises
    ------
    UserError
        If there is none, or it does not fit the hospitals' optimiser.
    """
    if text == "plain":
        return None
    chosen: TrainingRule = _chosen(
        "training-rule", text, {"worker-momentum": WorkerMomentum, "scaffold": Scaffold}
    )
    if isinstance(chosen, Scaffold) and optimizer != SGD(momentum=0):
        raise UserError(
            "--training-rule scaffold is for plain gradient descent, whose steps add up to gradients; add "
            "--optimizer 'sgd(momentum=0)'"
        )
    return chosen


def pruning_of(text: str, rounds: int) -> Pruning | None:
    """Return what a text says of pruning in a run of so many rounds; None for ``none``.

    A number alone is a share of the weights.

    Raises
    ------
    UserError
        If the text says something else.
    """
    if text == "none":
        return None
    if re.fullmatch(r"[-+.\deE]+", text):
        text = f"weights({text})"
    chosen: Pruning = _chosen("prune", text, {"weights": _weights, "filters": _filters})
    if chosen.start is None:
        return replace(chosen, start=rounds // 2 + 1)
    if chosen.start > rounds:
        raise UserError(
            f"--prune '{text}': start is {chosen.start}, but the run has {rounds} rounds; give a start of at "
            f"most {rounds}"
        )
    return chosen


def adversary_of(text: str) -> Perturbation | Noise | None:
    """Return what hospitals do to the images that they train on; None for ``none``; else `UserError`."""
    if text == "none":
        return None
    chosen: Perturbation | Noise = _chosen(
        "adversarial-training", text, {"pgd": Perturbation, "fgsm": _fgsm, "noise": Noise}
    )
    return chosen


def _weights(
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5, start: Annotated[int, Field(ge=1)] | None = None
) -> Pruning:
    return Pruning(ratio, start)


def _filters(
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5, start: Annotated[int, Field(ge=1)] | None = None
) -> Pruning:
    return Pruning(ratio, start, filters=True)


def _no_options() -> None:
    """Return None: the task classification has no options of its own."""


def _fgsm(eps: Annotated[float, Field(gt=0, le=255)] = 8.0, share: PositiveFraction = 1.0) -> Perturbation:
    """Return one step as long as the radius (Goodfellow et al., ICLR 2015)."""
    return Perturbation(eps, steps=1, step=eps, share=share, random_start=False)


def _chosen(setting: str, text: str, known: Mapping[str, Callable[..., Any]]) -> Any:
    """Return what one of the known classes makes of a text ``name(option=value)``."""
    spec = PluginSpec.parse(text)
    if spec.name not in known:
        raise UserError(f"--{setting} '{text}': there is no '{spec.name}'; {nearest(spec.name, known)}")
    return instantiate(known[spec.name], spec.options, f"--{setting} {spec.name}")

"""The learner of a specification, for the images that it will see."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.learners.base import Learner
from fedrobust.learners.choices import Scaffold, WorkerMomentum
from fedrobust.learners.spec import LearnerSpec

if TYPE_CHECKING:
    from fedrobust.learners.gan import GanLearner
    from fedrobust.learners.mutual import MutualLearner

__all__ = ["build_learner", "learner_of"]


#: Sides of the images that a GAN of this size can make.
_LEAST, _MOST = 16, 64


def learner_of(spec: LearnerSpec, data: DataSpec) -> Learner:
    """Return the learner of a task for these data; a process keeps the last one."""
    if spec.synthesis is None:
        return build_learner(spec, data)
    records = prepare(data).records
    if not records.pixels:
        raise UserError(f"{records.source} holds features, and --task synthesis makes images; give images")
    if min(records.images.shape[2:]) < _LEAST or max(records.images.shape[2:]) > _MOST:
        height, width = records.images.shape[2:]
        raise UserError(
            f"{records.source}: images of {height} x {width} pixels, but --task synthesis makes {_LEAST} to "
            f"{_MOST} pixels; add --image-size 28"
        )
    return _gan(spec, *_shape(records))


def build_learner(spec: LearnerSpec, data: DataSpec) -> MutualLearner:
    """Return the learner that classifies these data; a process keeps the last one."""
    if spec.synthesis is not None:
        raise UserError("a generator of --task synthesis classifies nothing; give --task classification")
    records = prepare(data).records
    if not records.pixels and spec.backbone.name != "mlp":
        raise UserError(
            f"{records.source} holds features, which '{spec.backbone.text}' cannot take; add --backbone mlp"
        )
    if not records.pixels and spec.augment:
        raise UserError(f"{records.source} holds features, but augment changes images; leave it out")
    return _learner(spec, *_shape(records))


def _shape(records: Records) -> tuple[int, int, int, int]:
    return len(records.classes), *records.images.shape[1:]


@functools.lru_cache(maxsize=1)
def _learner(spec: LearnerSpec, classes: int, channels: int, height: int, width: int) -> MutualLearner:
    from fedrobust.learners.mutual import MutualLearner
    from fedrobust.learners.remembering import MomentumLearner, ScaffoldLearner

    kinds = {WorkerMomentum: MomentumLearner, Scaffold: ScaffoldLearner}
    kind = MutualLearner if spec.rule is None else kinds[type(spec.rule)]
    return kind(spec, classes, channels, (height, width))


@functools.lru_cache(maxsize=1)
def _gan(spec: LearnerSpec, classes: int, channels: int, height: int, width: int) -> GanLearner:
    from fedrobust.learners.gan import GanLearner

    return GanLearner(spec, classes, channels, (height, width))

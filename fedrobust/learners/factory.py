"""The learner of a specification, for the images that it will see."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.data.spec import DataSpec
from fedrobust.errors import UserError
from fedrobust.learners.choices import Scaffold, WorkerMomentum
from fedrobust.learners.spec import LearnerSpec

if TYPE_CHECKING:
    from fedrobust.learners.mutual import MutualLearner

__all__ = ["build_learner"]


def build_learner(spec: LearnerSpec, data: DataSpec) -> MutualLearner:
    """Return the learner for these data; a process keeps the last one."""
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

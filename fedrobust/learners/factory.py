"""The learner that settings name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fedrobust.data.sources import prepare
from fedrobust.settings import Settings

if TYPE_CHECKING:
    from fedrobust.learners.mutual import MutualLearner

__all__ = ["build_learner"]

#: The settings that a learner depends on, its data's among them.
_LEARNER_SETTINGS = (
    *("seed", "head", "networks", "backbone", "device", "batch_size", "local_epochs", "weight_decay"),
    *("dr_weight", "mutual_weight", "temperature", "data", "data_root", "download", "image_size"),
    *("split", "partition", "clients"),
)


def build_learner(settings: Settings) -> MutualLearner:
    """Return the learner for these settings and their data; a process keeps the last one."""
    return _learner(tuple((key, getattr(settings, key)) for key in _LEARNER_SETTINGS))


@functools.lru_cache(maxsize=1)
def _learner(relevant: tuple[tuple[str, object], ...]) -> MutualLearner:
    from fedrobust.learners.mutual import MutualLearner

    settings = Settings(**dict(relevant))
    records = prepare(settings).records
    height, width = records.images.shape[2:]
    return MutualLearner(settings, len(records.classes), records.images.shape[1], (height, width))

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import learner_of, tiny

from fedrobust import UserError
from fedrobust.data.sources import prepare
from fedrobust.learners.augment import Augmentation
from fedrobust.scenario import Scenario


def test_images_change_a_little_each_its_own_way_and_stay_images() -> None:
    image = torch.zeros(1, 24, 24)
    image[:, 8:16, 8:16] = 0.5
    torch.manual_seed(0)
    changed = Augmentation()(image.expand(20, -1, -1, -1))
    assert changed.shape == (20, 1, 24, 24) and changed.min() >= 0 and changed.max() <= 1
    assert len({one.numpy().tobytes() for one in changed}) == 20
    assert (changed.mean((1, 2, 3)) / image.mean() - 1).abs().max() < 0.4


def test_training_with_it_belongs_to_round_and_hospital(tmp_path: Path) -> None:
    settings = tiny(tmp_path, augment="light", data="phantom(images=120, size=16)")
    learner, records = learner_of(settings), prepare(Scenario.of(settings).data).of_hospital(0)

    def trained(round: int, client: int) -> bytes:
        fitted = learner.fit(learner.initial(), records, round=round, client=client, lr=1e-3)
        return fitted.state.parameters.tobytes()

    assert trained(1, 0) == trained(1, 0)
    plain = learner_of(tiny(tmp_path, data="phantom(images=120, size=16)"))
    without = plain.fit(plain.initial(), records, round=1, client=0, lr=1e-3).state.parameters
    assert not np.array_equal(np.frombuffer(trained(1, 0), np.float32), without)


def test_low_precision_is_for_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--precision bf16 is for a GPU"):
        learner_of(tiny(tmp_path, precision="bf16"))

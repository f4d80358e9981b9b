"""Training rules with memory: worker momentum, and SCAFFOLD as its paper has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import learner_of, tiny
from helpers import restored

from fedrobust import UserError
from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.learners.base import State
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.remembering import MomentumLearner, ScaffoldLearner
from fedrobust.scenario import Scenario

LR = 0.05


def built(folder: Path, **changes: Any) -> tuple[MutualLearner, MutualLearner, list[Records]]:
    """Return the learner with a training rule, the plain one, and equally many records of two hospitals."""
    with_rule, plain = tiny(folder, **changes), tiny(folder, **{**changes, "training_rule": "plain"})
    data = prepare(Scenario.of(plain).data)
    records = [data.of_hospital(number).take(slice(0, 40)) for number in (0, 1)]
    # Different classes, so that the hospitals pull apart.
    records[1] = replace(records[1], labels=(records[1].labels + 1) % len(data.records.classes))
    return learner_of(with_rule), learner_of(plain), records


def test_momentum_sends_the_moving_average(tmp_path: Path) -> None:
    learner, plain, (records, _) = built(tmp_path, training_rule="worker-momentum(beta=0.75)")
    assert isinstance(learner, MomentumLearner) and learner.remembers
    state, memory, average = learner.initial(), {}, None
    for round in (1, 2, 3):
        fitted = learner.fit(state, records, round=round, client=0, lr=LR, memory=memory)
        alone = plain.fit(state, records, round=round, client=0, lr=LR)
        delta = alone.state.parameters - state.parameters
        average = delta if average is None else np.float32(0.75) * average + np.float32(0.25) * delta
        np.testing.assert_allclose(fitted.state.parameters, state.parameters + average, atol=1e-6)
        assert repr(fitted.report) == repr(alone.report)
        state, memory = fitted.state, restored(memory)


def test_scaffold_is_the_paper_s_with_the_server_s_control_variate(tmp_path: Path) -> None:
    learner, plain, hospitals = built(
        tmp_path, training_rule="scaffold", optimizer="sgd(momentum=0)", local_epochs=2
    )
    assert isinstance(learner, ScaffoldLearner)
    ours = reference = learner.initial()
    memories: list[dict[str, Any]] = [{}, {}]
    own = [np.zeros(len(ours.parameters)) for _ in hospitals]
    common, steps = np.zeros(len(ours.parameters)), 2 * 2
    for round in (1, 2, 3):
        sent = [
            learner.fit(ours, records, round=round, client=number, lr=LR, memory=memories[number]).state
            for number, records in enumerate(hospitals)
        ]
        ours = State(np.mean([one.parameters for one in sent], axis=0), sent[0].buffers)
        memories = [restored(memory) for memory in memories]
        # Algorithm 1 of the paper, option II; the server has c.
        trained, fresh = [], []
        for number, records in enumerate(hospitals):
            shift = (common - own[number]).astype(np.float32)
            state = plain.fit(
                *(reference, records),
                round=round,
                client=number,
                lr=LR,
                gradient_hook=lambda parameters, gradient, shift=shift: gradient + shift,
            ).state
            trained.append(state.parameters.astype(np.float64))
            fresh.append(own[number] - common + (reference.parameters - trained[-1]) / (steps * LR))
        common = common + np.mean([new - old for new, old in zip(fresh, own, strict=True)], axis=0)
        own = fresh
        reference = State(np.mean(trained, axis=0).astype(np.float32), reference.buffers)
        moved = np.linalg.norm(reference.parameters - learner.initial().parameters)
        assert np.linalg.norm(ours.parameters - reference.parameters) < 2e-3 * moved, round
    plainly = learner.initial()
    for round in (1, 2, 3):
        states = [plain.fit(plainly, r, round=round, client=n, lr=LR).state for n, r in enumerate(hospitals)]
        plainly = State(np.mean([one.parameters for one in states], axis=0), plainly.buffers)
    assert np.linalg.norm(ours.parameters - plainly.parameters) > 2e-2 * moved


def test_scaffold_takes_what_the_model_moved_in_the_rounds_that_it_missed(tmp_path: Path) -> None:
    learner, plain, (records, _) = built(tmp_path, training_rule="scaffold", optimizer="sgd(momentum=0)")
    start, memory = learner.initial(), {}
    learner.fit(start, records, round=1, client=0, lr=LR, memory=memory)
    later = State(start.parameters - np.float32(0.01), start.buffers)
    shift = np.float32(0.01) / np.float32(memory["path"] * 4) - memory["control"]
    fitted = learner.fit(later, records, round=5, client=0, lr=LR, memory=memory)
    wanted = plain.fit(
        later, records, round=5, client=0, lr=LR, gradient_hook=lambda parameters, g: g + shift
    )
    np.testing.assert_allclose(fitted.state.parameters, wanted.state.parameters, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training_rule": "scaffold"}, "add --optimizer 'sgd\\(momentum=0\\)'"),
        ({"training_rule": "scafold"}, "did you mean 'scaffold'"),
        ({"training_rule": "worker-momentum(beta=1)"}, "beta is 1"),
    ],
)
def test_training_rules_that_do_not_fit(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Scenario.of(tiny(tmp_path, **changes))

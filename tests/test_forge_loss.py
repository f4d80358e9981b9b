from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny
from helpers import make_records, make_updates

from clients.forge_loss import ForgeLoss
from fedrobust.errors import UserError
from fedrobust.federation import ClientMetrics, Role, Update, Updates
from fedrobust.runtime.runner import run
from fedrobust.scenario import Scenario
from strategies.feddetect import FedDetect


def federation(seed: int, n: int = 10) -> Updates:
    """Return a round of hospitals with losses that differ as honest ones do."""
    losses = 0.3 * np.exp(0.25 * np.random.default_rng(seed).standard_normal(n))
    return make_updates(n, d=4, values=[{"last-loss": float(x), "loss": float(2 * x)} for x in losses])


def joined(seed: int, attack: ForgeLoss, attackers: int) -> Updates:
    """Return the round after the last hospitals have colluded."""
    updates = list(federation(seed))
    return Updates([*updates[:-attackers], *attack.collude(updates[-attackers:], updates[:-attackers])])


def flagged(updates: Updates) -> Any:
    return np.asarray(FedDetect(warm_up=0).weigh(updates).flagged)


def test_forge_loss_typical_reports_what_an_honest_training_gave() -> None:
    attack = ForgeLoss()
    attack.bind(honest=make_updates(1, values=[{"loss": 0.25, "class-losses": (0.1, float("nan"))}])[0])
    report = attack.forge_report(ClientMetrics(99, {"loss": 7.0, "class-losses": (3.0, 4.0)}))
    assert report == ClientMetrics(99, attack.honest.report.values)
    assert not attack.colludes and attack.knowledge == "own"
    updates = list(federation(0))
    assert attack.collude(updates[:2], updates[2:]) == updates[:2]


def test_forge_loss_flood_disables_the_verdict() -> None:
    for seed in range(2):
        before, after = flagged(federation(seed)), flagged(joined(seed, ForgeLoss("flood"), 3))
        assert not after.any(), seed
        assert seed != 0 or before.any()


def test_forge_loss_frame_gets_the_victim_flagged_more_often_than_chance() -> None:
    before = after = own = 0
    for seed in range(5):
        before += bool(flagged(federation(seed))[2])
        made = flagged(joined(seed, ForgeLoss("frame", victim=2), 3))
        after += bool(made[2])
        own += bool(made[-3:].any())
    assert after >= before + 2 and own == 0


def test_forge_loss_all_losses_of_a_report_are_scaled_alike_and_nothing_else_changes() -> None:
    updates = list(federation(1))
    values = {**updates[-1].report.values, "class-losses": (0.5, 0.25), "class-counts": (3.0, 4.0)}
    liar: Update = replace(updates[-1], report=ClientMetrics(10, values))
    (made,) = ForgeLoss("flood").collude([liar], updates[:-1])
    factor = made.report.values["last-loss"] / values["last-loss"]
    assert factor != 1
    assert made.report.values["loss"] == pytest.approx(factor * values["loss"])
    assert made.report.values["class-losses"] == pytest.approx((0.5 * factor, 0.25 * factor))
    assert made.report.values["class-counts"] == (3.0, 4.0) and made.report.num_examples == 10
    np.testing.assert_array_equal(made.parameters, liar.parameters)
    assert liar.report.values == values


@pytest.mark.parametrize("values", [{}, {"loss": float("nan")}, {"loss": 0.0}])
def test_forge_loss_without_losses_to_work_on_it_leaves_the_round_unchanged(values: dict[str, float]) -> None:
    updates = list(make_updates(6, values=[dict(values) for _ in range(6)]))
    for attack in (ForgeLoss("flood"), ForgeLoss("frame", victim=4)):
        assert attack.collude(updates[:2], updates[2:]) == updates[:2]


def test_forge_loss_victim_that_does_not_reply_is_left_unchanged() -> None:
    updates = list(federation(0))
    attack = ForgeLoss("frame", victim=0)
    assert attack.collude(updates[1:3], updates[3:]) == updates[1:3]
    # Nor is a colluder.
    assert attack.collude(updates[:2], updates[2:]) == updates[:2]


def test_forge_loss_victim_that_does_not_exist_is_refused() -> None:
    attack = ForgeLoss("frame", victim=10)
    attack.bind(role=Role("forge-loss", hospitals=10))
    with pytest.raises(UserError, match="victim is 10, but the hospitals are 0 to 9"):
        attack.check(make_records())


def test_forge_loss_victim_that_is_malicious_itself_is_refused(tmp_path: Path) -> None:
    settings = tiny(tmp_path, malicious=2, strategy="fedavg")
    bad, *_ = Scenario.of(settings).malicious
    framing = settings.model_copy(update={"attack": f"label-flip + forge-loss(mode=frame, victim={bad})"})
    with pytest.raises(
        UserError, match=f"forge-loss: victim is {bad}, but that hospital is malicious itself"
    ):
        run(framing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "frame"}, "needs a victim"),
        ({"victim": 3}, "victim does not belong to the mode 'typical'"),
    ],
)
def test_forge_loss_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        ForgeLoss(**options)


def test_forge_loss_in_a_run_flood_silences_feddetect(tmp_path: Path) -> None:
    flags = []
    for attack in ("label-flip", "label-flip + forge-loss(mode=flood)"):
        settings = tiny(
            tmp_path, clients=8, malicious=3, attack=attack, strategy="feddetect(warm_up=0)", rounds=3
        )
        result = run(settings)
        assert result.summary["faults"] == 0
        flags.append(sum(len(line["flagged"]) for line in result.rounds))
    assert flags[0] > 0 and flags[1] == 0

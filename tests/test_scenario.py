"""The scenario that settings stand for: frozen, made once, and the same in every process."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from fedrobust.errors import UserError
from fedrobust.pipeline.specs import build_pipeline, with_false_flag_rate
from fedrobust.plugins import PipelineSpec
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings

MIXED = Settings(
    clients=8,
    threat=["label-flip(shift=2):2", "other-scanner:1", "backdoor + boost:1"],
    strategy="nnm | krum(f=2)",
    partition="dirichlet(alpha=0.3)",
    backbone="cnn(width=8)",
    dr_weight=3.0,
    seed=4,
)


def test_scenario_holds_each_setting_where_it_is_used() -> None:
    scenario = Scenario.of(MIXED)
    assert (scenario.seed, scenario.hospitals, scenario.rounds) == (4, 8, MIXED.rounds)
    assert scenario.strategy.names == ("nnm", "krum(f=2)")
    assert scenario.learner.dr_weight == 3.0 and scenario.learner.backbone.options == {"width": 8}
    assert scenario.data.partition.name == "dirichlet" and scenario.data.partition.options == {"alpha": 0.3}
    assert scenario.data.hospitals == 8 and scenario.data.seed == 4
    assert scenario.execution == MIXED.execution()


def test_hospitals_of_threats_are_disjoint_and_benign_ones_are_atypical() -> None:
    scenario = Scenario.of(MIXED)
    flippers, scanner, planter = scenario.threats
    hospitals = [*flippers.hospitals, *scanner.hospitals, *planter.hospitals]
    assert len(set(hospitals)) == 4
    assert scenario.malicious == tuple(sorted((*flippers.hospitals, *planter.hospitals)))
    assert scenario.atypical == scanner.hospitals and not scanner.malicious
    (number,) = planter.hospitals
    assert scenario.threat_of(number) is planter
    assert scenario.threat_of(next(n for n in range(8) if n not in hospitals)) is None


def test_roles_say_what_an_attack_may_know() -> None:
    scenario = Scenario.of(MIXED)
    second = scenario.threats[0].hospitals[1]
    (attack,) = scenario.attacks_of(second)
    role = attack.role
    assert (role.name, role.hospital, role.hospitals, role.member, role.members) == (
        "label-flip",
        second,
        8,
        1,
        2,
    )
    assert role.strategy == "nnm | krum(f=2)" and role.attackers == scenario.malicious
    assert scenario.attacks_of(second)[0] is not attack
    honest = next(n for n in range(8) if scenario.threat_of(n) is None)
    assert scenario.attacks_of(honest) == []


def test_false_flag_rate_is_part_of_the_strategy_that_attacks_see() -> None:
    settings = Settings(malicious=1, strategy="clipping(c=3) | isolation-forest", false_flag_rate=0.2)
    scenario = Scenario.of(settings)
    seen = "clipping(c=3) | isolation-forest(false_flag_rate=0.2)"
    assert scenario.attacks_of(scenario.malicious[0])[0].role.strategy == seen
    assert scenario.strategy.text == settings.strategy


def test_scenario_is_frozen_hashable_and_survives_pickling() -> None:
    scenario = Scenario.of(MIXED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.seed = 5  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(scenario))
    assert copy == scenario == Scenario.of(MIXED) and len({copy, scenario}) == 1
    assert copy.malicious == scenario.malicious
    assert Scenario.of(MIXED.model_copy(update={"seed": 5})) != scenario


def test_run_is_named_without_loading_a_plugin() -> None:
    settings = Settings(clients=3, malicious=1, attack="my.missing:Attack", strategy="my-missing")
    run = RunIdentity.of(settings)
    assert run.digest == settings.digest() and run.folder.name.endswith(f"-{run.digest}")
    assert run.written == settings.model_dump()
    with pytest.raises(UserError, match="no module 'my'"):
        Scenario.of(settings)


def test_attacks_that_nobody_carries_out_are_built_all_the_same() -> None:
    scenario = Scenario.of(Settings(malicious=0, attack="label-flip + boost"))
    assert [attack.role.name for attack in scenario.all_attacks()] == ["label-flip", "boost"]
    assert scenario.notes == (
        "attack 'label-flip + boost' is carried out by nobody: no hospital is malicious",
    )
    assert Scenario.of(Settings()).notes == Scenario.of(MIXED).notes == ()
    with pytest.raises(UserError, match="did you mean 'label-flip'"):
        Scenario.of(Settings(malicious=0, attack="label-flp")).all_attacks()


@pytest.mark.parametrize(
    ("attack", "active"),
    [
        ("backdoor + during(rounds=3-9)", True),
        ("backdoor + during(rounds=4-9)", False),
        ("sleeper(rounds=3) + label-flip", False),
        ("sleeper(rounds=2) + label-flip", True),
        ("sleeper(rounds=2) + label-flip + during(rounds=1-2)", False),
    ],
)
def test_attack_that_no_round_sees_is_said_beforehand(attack: str, active: bool) -> None:
    note = f"attack '{attack}' is active in none of the 3 rounds"
    assert Scenario.of(Settings(threat=(f"{attack}:2",), rounds=3)).notes == (() if active else (note,))


def test_pipeline_of_a_spec_has_its_steps_and_names() -> None:
    pipeline = build_pipeline("nnm | krum(f=1)")
    assert pipeline.names == ("nnm", "krum(f=1)") and len(pipeline.steps) == 1
    pipeline.check(5)
    with pytest.raises(UserError, match="steps followed by one defence"):
        build_pipeline("krum(f=1) | nnm")


def test_rate_is_left_as_the_specification_gives_it() -> None:
    spec = PipelineSpec.parse("isolation-forest(false_flag_rate=0.3)")
    assert with_false_flag_rate(spec, 0.2) is spec
    with pytest.raises(UserError, match="--false-flag-rate 0.2: strategy 'krum' has no option"):
        with_false_flag_rate(PipelineSpec.parse("nnm | krum"), 0.2)

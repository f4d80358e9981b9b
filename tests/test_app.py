"""Flower's apps: messages in and out, and the run config of `flwr run`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from federations import learner_of, tiny
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.commands.run_config import settings_from
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.codec import pack, unpack
from fedrobust.learners.base import State
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

TOP = Path(__file__).resolve().parents[1]


def context(run_config: dict[str, object] | None = None, number: int = 1) -> Context:
    return Context(
        run_id=1,
        node_id=5,
        node_config={"partition-id": number, "num-partitions": 4},
        state=RecordDict(),
        run_config=run_config or {},  # type: ignore[arg-type]
    )


def test_flwr_table_of_settings_equals_the_defaults() -> None:
    table = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    given = table["config"]
    assert {key.replace("-", "_") for key in given} == set(Settings.model_fields)
    assert settings_from(context(given)) == Settings()
    assert table["components"] == {
        "serverapp": "fedrobust.app:server_app",
        "clientapp": "fedrobust.app:client_app",
    }


def test_run_config_overrides() -> None:
    assert settings_from(
        context({"clients": 4, "malicious": 1, "local-epochs": 3, "image-size": 0})
    ) == Settings(clients=4, malicious=1, local_epochs=3)


def test_a_zero_in_the_run_config_is_a_value_where_the_setting_may_be_zero() -> None:
    blank = {"image-size": 0, "temperature": 0.0, "mutual-weight": "", "data-root": ""}
    assert settings_from(context(blank)) == Settings()
    assert settings_from(context({**blank, "mutual-weight": 0.0})) == Settings(mutual_weight=0.0)


def test_attackers_follow_from_the_seed_alone() -> None:
    assert (
        Scenario.of(Settings(malicious=3)).malicious
        == Scenario.of(Settings(malicious=3, strategy="fedavg", rounds=3)).malicious
    )
    assert len({Scenario.of(Settings(malicious=3, seed=seed)).malicious for seed in range(20)}) > 5
    assert Scenario.of(Settings()).malicious == ()
    # With one more attacker the others stay, so that series over their number compare like with like.
    assert set(Scenario.of(Settings(malicious=2)).malicious) < set(
        Scenario.of(Settings(malicious=3)).malicious
    )


def test_attacks_compose_in_order() -> None:
    attacks = Scenario.of(
        Settings(malicious=1, attack="label-flip(shift=2) + backdoor(target=3)")
    ).all_attacks()
    assert [type(attack).__name__ for attack in attacks] == ["LabelFlip", "Backdoor"]


@pytest.mark.parametrize("buffers", [0, 3])
def test_pack_and_unpack(buffers: int) -> None:
    state = State(np.arange(5, dtype=np.float32), np.ones(buffers, np.float32))
    back = unpack(pack(state))
    np.testing.assert_array_equal(back.parameters, state.parameters)
    np.testing.assert_array_equal(back.buffers, state.buffers)


def test_a_client_answers_all_three_kinds_of_message(tmp_path: Path) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    settings = tiny(tmp_path)
    app = make_client_app(Scenario.of(settings))
    start = learner_of(settings).initial()
    content = RecordDict({"arrays": pack(start), "config": ConfigRecord({"lr": 0.001, "server-round": 1})})
    asked = {
        k: app(Message(content, 5, k), context())
        for k in (MessageType.QUERY, MessageType.TRAIN, MessageType.EVALUATE)
    }
    for reply in asked.values():
        assert reply.content["hospital"]["partition-id"] == 1
    trained = asked[MessageType.TRAIN].content
    assert unpack(trained["arrays"]).parameters.shape == start.parameters.shape
    assert not np.array_equal(unpack(trained["arrays"]).parameters, start.parameters)
    assert {"num-examples", "loss", "last-loss", "received-loss", "class-losses"} <= set(trained["metrics"])
    assert 0 <= asked[MessageType.EVALUATE].content["metrics"]["accuracy"] <= 1

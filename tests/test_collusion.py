"""Attacks that see several updates: what each is shown, its effect, and the same bits on every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from federations import Unordered, fake_app, threats_of, tiny
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedrobust import UserError, run
from fedrobust.engines.collusion import CollusionGrid, with_collusion
from fedrobust.engines.local import LocalGrid
from fedrobust.federation import Attack, ClientMetrics, Update
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.scenario import Scenario
from fedrobust.seeding import generator
from fedrobust.settings import Settings

START = np.arange(4, dtype=np.float32)
BUFFERS = np.ones(2, np.float32)


class Spy(Attack):
    """Keeps what it is shown and adds 100 to the colluders' parameters."""

    shown: ClassVar[list[tuple[Sequence[Update], Sequence[Update], float]]] = []

    def __init__(self, knowledge: str = "colluders") -> None:
        self.knowledge = knowledge  # type: ignore[assignment]

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        self.shown.append((colluders, honest, float(self.rng.random())))
        return [replace(update, parameters=update.parameters + 100) for update in colluders]


class Double(Attack):
    """Doubles the colluders' parameters and claims so."""

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        report = ClientMetrics(99, {"loss": 0.5, "parts": (1.0, 2.0)})
        return [replace(u, parameters=2 * u.parameters, report=report) for u in colluders]


class Raises(Attack):
    """Fails."""

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        raise LookupError("no idea")


class Vandal(Attack):
    """Tries to change what an honest hospital sends."""

    knowledge = "all"

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        honest[0].parameters[:] = 0
        return colluders


class Loses(Attack):
    """Returns too few updates."""

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        return colluders[1:]


class Drawn(Attack):
    """Sends the colluders' mean plus random numbers, twice as far from the honest mean."""

    knowledge = "all"

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        mean = np.mean([u.delta for u in colluders], axis=0) - np.mean([u.delta for u in honest], axis=0)
        return [u.with_delta(2 * mean + 0.01 * self.rng.standard_normal(len(mean))) for u in colluders]


def trained(arrays: dict[str, np.ndarray], number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Add the hospital's number + 1 to every parameter."""
    return {"parameters": arrays["parameters"] + number + 1, "buffers": arrays["buffers"]}, {}


def settings(
    attack: str = "test_collusion:Spy", clients: int = 5, malicious: int = 2, **more: Any
) -> Settings:
    return Settings(clients=clients, malicious=malicious, attack=attack, **more)


def exchange(grid: Any, round: int = 1) -> dict[int, Message]:
    """Train one round; return the replies by hospital."""
    arrays = ArrayRecord({"parameters": Array(START), "buffers": Array(BUFFERS)})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1, "server-round": round})})
    asked = [Message(content, node, MessageType.TRAIN) for node in grid.get_node_ids()]
    replies = list(grid.send_and_receive(asked))
    return {reply.metadata.src_node_id - 1: reply for reply in replies}


def wrapped(chosen: Settings, behaviour: Any = trained, kind: type[LocalGrid] = LocalGrid) -> Any:
    Spy.shown.clear()
    grid = with_collusion(kind(fake_app(behaviour), chosen.clients), Scenario.of(chosen))
    assert isinstance(grid, CollusionGrid)
    return grid


def parameters(reply: Message) -> np.ndarray:
    return reply.content["arrays"]["parameters"].numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [LocalGrid, Unordered])
@pytest.mark.parametrize("knowledge", ["colluders", "all"])
def test_attack_sees_the_updates_of_its_knowledge_in_hospital_order(
    kind: type[LocalGrid], knowledge: str
) -> None:
    chosen = settings(f"test_collusion:Spy(knowledge={knowledge})")
    replies = exchange(wrapped(chosen, kind=kind), round=3)
    bad = Scenario.of(chosen).malicious
    ((colluders, honest, drawn),) = Spy.shown
    assert tuple(update.node for update in colluders) == bad
    good = [number for number in range(5) if number not in bad]
    assert [update.node for update in honest] == (good if knowledge == "all" else [])
    for update in (*colluders, *honest):
        np.testing.assert_array_equal(update.parameters, START + update.node + 1)
        np.testing.assert_array_equal(update.global_parameters, START)
        np.testing.assert_array_equal(update.buffers, BUFFERS)
        assert (update.round, update.report) == (3, ClientMetrics(10, {"loss": 1.0}))
    for number, reply in replies.items():
        added = 100 if number in bad else 0
        np.testing.assert_array_equal(parameters(reply), START + number + 1 + added)
        assert reply.content["hospital"]["partition-id"] == number
    assert drawn == generator(0, "collude", 0, 3).random()


def test_honest_updates_cannot_be_changed() -> None:
    chosen = settings("test_collusion:Vandal")
    for number, reply in exchange(wrapped(chosen)).items():
        if number in Scenario.of(chosen).malicious:
            assert "read-only" in reply.error.reason
        else:
            np.testing.assert_array_equal(parameters(reply), START + number + 1)


def test_colluding_attacks_act_in_order_and_may_change_the_report() -> None:
    chosen = settings("test_collusion:Spy + label-flip + test_collusion:Double")
    replies = exchange(wrapped(chosen))
    for number in Scenario.of(chosen).malicious:
        np.testing.assert_array_equal(parameters(replies[number]), 2 * (START + number + 101))
        assert dict(replies[number].content["metrics"]) == {"num-examples": 99, "loss": 0.5, "parts": [1, 2]}


@pytest.mark.parametrize(
    ("attack", "reason"),
    [("Raises", "Raises' fails in collude: LookupError: no idea"), ("Loses", "must return 2 updates")],
)
def test_an_attack_that_fails_costs_its_hospitals_the_round(attack: str, reason: str) -> None:
    chosen = settings(f"test_collusion:{attack}")
    for number, reply in exchange(wrapped(chosen)).items():
        assert reply.has_error() == (number in Scenario.of(chosen).malicious)
        if reply.has_error():
            assert reason in reply.error.reason


def test_unusable_replies_are_hidden_from_attacks() -> None:
    chosen = settings("test_collusion:Spy(knowledge=all)", clients=7, malicious=3)
    bad = Scenario.of(chosen).malicious
    lost, shapeless = bad[:2]
    infinite, uncounted = [number for number in range(7) if number not in bad][:2]

    def behaviour(arrays: dict[str, np.ndarray], number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        if number == lost:
            raise RuntimeError("power cut")
        if number == shapeless:
            return {"parameters": START[:2], "buffers": BUFFERS}, {}
        if number == infinite:
            return {"parameters": np.full(4, np.inf, np.float32), "buffers": BUFFERS}, {}
        if number == uncounted:
            return {"parameters": START, "buffers": BUFFERS}, {"num-examples": float("nan")}
        return trained(arrays, number)

    replies = exchange(wrapped(chosen, behaviour))
    ((colluders, honest, _),) = Spy.shown
    assert [update.node for update in colluders] == [bad[2]]
    assert {infinite, uncounted}.isdisjoint(update.node for update in honest) and len(honest) == 2
    assert replies[lost].has_error() and parameters(replies[shapeless]).shape == (2,)


def test_threats_collude_each_by_itself() -> None:
    spy = "test_collusion:Spy(knowledge=all)"
    chosen = Settings(clients=6, threat=(f"{spy}:2", f"{spy}:1", "label-flip:1"))
    exchange(wrapped(chosen))
    groups = [hospitals for _, hospitals in threats_of(chosen)]
    assert [tuple(u.node for u in colluders) for colluders, _, _ in Spy.shown] == groups[:2]
    honest = set(range(6)) - {number for group in groups for number in group}
    assert all({u.node for u in others} == honest for _, others, _ in Spy.shown)
    assert Spy.shown[0][2] != Spy.shown[1][2]


def test_a_sleeping_chain_does_not_collude() -> None:
    grid = wrapped(settings("sleeper(rounds=2) + test_collusion:Spy"))
    for round in (1, 2, 3):
        exchange(grid, round)
        assert len(Spy.shown) == (round == 3)


def test_other_messages_pass_and_other_attacks_need_no_grid() -> None:
    chosen = settings()
    grid = wrapped(chosen)
    asked = [Message(RecordDict(), node, MessageType.QUERY) for node in grid.get_node_ids()]
    assert len(grid.send_and_receive(asked)) == 5 and not Spy.shown
    assert len(list(grid.pull_messages(grid.push_messages(asked)))) == 5
    plain = LocalGrid(fake_app(trained), 5)
    assert with_collusion(plain, Scenario.of(settings("label-flip"))) is plain
    assert with_collusion(plain, Scenario.of(settings(malicious=0))) is plain
    assert with_collusion(plain, Scenario.of(settings("forge-loss"))) is plain


def test_a_real_federation_refuses_collusion() -> None:
    from flwr.superlink.grid import HttpGrid

    real = HttpGrid.__new__(HttpGrid)
    with pytest.raises(UserError, match="attack 'ipm' needs to see several hospitals' updates"):
        with_collusion(real, Scenario.of(settings("label-flip + ipm")))
    assert with_collusion(real, Scenario.of(settings("label-flip"))) is real


def test_hospitals_may_share_the_nodes_of_flowers_simulation() -> None:
    from flwr.superlink.grid import InMemoryGrid

    class Few(LocalGrid, InMemoryGrid):
        """Two nodes, each of which answers for the hospital of the client assignment."""

    chosen = settings(clients=4)
    with_totals = fake_app(trained, lambda number: {"partition-id": number, "num-partitions": 2})
    client_grid = ClientGrid(with_collusion(Few(with_totals, 2), Scenario.of(chosen)), 4, wait_s=0)
    client_grid.discover()
    assert list(client_grid.get_node_ids()) == [1, 2, 3, 4]
    assert client_grid.busy_s > 0


def test_colluding_attack_without_effect_is_named(tmp_path: Path) -> None:
    base: dict[str, Any] = {"strategy": "median", "malicious": 1}
    with pytest.warns(UserWarning) as said:
        alone = run(tiny(tmp_path, attack="min-max(knowledge=colluders) + label-flip", **base))
    assert alone.summary["no_effect_attacks"] == ["min-max"]
    words = [str(warning.message) for warning in said]
    assert any("min-max: a single colluder has no other update to compare" in text for text in words)
    assert any("'min-max' had no effect" in text for text in words)
    seeing = run(tiny(tmp_path, attack="label-flip + min-max", **base))
    assert seeing.summary["no_effect_attacks"] == []


@pytest.mark.slow
def test_the_same_bits_on_every_engine(tmp_path: Path) -> None:
    attack = "backdoor + test_memory:Remembering + mimic + test_collusion:Drawn"
    engines: list[dict[str, Any]] = [{"workers": 1}, {"workers": 2}, {"engine": "flower", "workers": 2}]
    results = [
        run(tiny(tmp_path / str(place), clients=5, malicious=2, strategy="fedavg", attack=attack, **engine))
        for place, engine in enumerate(engines)
    ]
    honest = run(tiny(tmp_path / "honest", clients=5, strategy="fedavg"))
    for name in ("rounds.jsonl", "model.safetensors"):
        first, *others = [(result.folder / name).read_bytes() for result in results]
        assert others == [first, first] and first != (honest.folder / name).read_bytes()
    assert results[0].summary["faults"] == 0

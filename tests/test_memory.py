"""Memory between rounds: the same wherever a hospital trains and after a kill, bounded and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Cut, Unplugged, tiny
from flwr.app import RecordDict
from helpers import make_records
from test_hospital import BUFFERS, START, FakeLearner

from clients.hospital import Hospital
from fedrobust import UserError, run
from fedrobust.federation import Attack, Records, Update
from fedrobust.federation.memory import Memory, largest_memory, memories_of, pack_memories
from fedrobust.flower.memory import NodeMemory, keep, recall
from fedrobust.results.folder import partial_of
from fedrobust.results.memory_folder import MEMORY, MemoryFolder
from fedrobust.results.records import RoundLine
from fedrobust.scenario import RunIdentity


class Remembering(Attack):
    """Adds the update that it trained in the round before, as often as it has had rounds."""

    def poison_update(self, update: Update) -> Update:
        last = self.memory.get("last", 0 * update.delta)
        self.memory["last"] = update.delta
        self.memory["rounds"] = self.memory.get("rounds", 0) + 1
        return update.with_delta(update.delta + self.memory["rounds"] * last)


class Together(Attack):
    """Lets all send what the first of them would have sent in the round before."""

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        last = self.memory.get("last", colluders[0].delta)
        self.memory["last"] = colluders[0].delta
        return [update.with_delta(last) for update in colluders]


class Forgetful(Attack):
    """Does not find what the class remembers."""


def lines_of(folder: Path) -> tuple[str, bytes]:
    return (folder / "rounds.jsonl").read_text(), (folder / "model.safetensors").read_bytes()


def settings_of(out: Path, **changes: Any) -> Any:
    threat = ("test_memory:Remembering:1", "test_memory:Together:2")
    same = {"strategy": "fedavg", "training_rule": "worker-momentum(beta=0.5)"}
    return tiny(out, clients=3, rounds=3, threat=threat, **same, **changes)


def test_memory_travels_with_the_hospital_and_survives_a_kill(tmp_path: Path) -> None:
    whole = run(settings_of(tmp_path / "here"), report=False)
    pooled = run(settings_of(tmp_path / "pool", workers=2), report=False)
    assert lines_of(whole.folder) == lines_of(pooled.folder)
    for last in (1, 2):
        cut = settings_of(tmp_path / f"cut{last}")
        with pytest.raises(Unplugged):
            run(cut, [Cut(last)], report=False)
        # What a round leaves that was begun and cut off is not what it finds when it is repeated.
        store = MemoryFolder(partial_of(RunIdentity.of(cut).folder))
        owners = [path.name for path in (store.partial / MEMORY).iterdir()]
        assert len(owners) == 4 and "threat-1" in owners
        for owner in owners:
            store.write(owner, last + 1, b"unreadable")
        assert lines_of(run(cut, resume=True, report=False).folder) == lines_of(whole.folder)
    assert not (whole.folder / MEMORY).exists()
    sizes = [json.loads(line)["memory_bytes"] for line in lines_of(whole.folder)[0].splitlines()]
    model = len(lines_of(whole.folder)[1])
    # An average of each learner, an update of the first attack, and one of the two others together.
    assert all(4 * model < size < 6 * model for size in sizes)


def test_memory_that_is_gone_is_not_resumed_without(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "runs")
    with pytest.raises(Unplugged):
        run(settings, [Cut(1)], report=False)
    partial = partial_of(RunIdentity.of(settings).folder)
    for place in (partial / MEMORY / "threat-1", partial / MEMORY):
        place.rename(tmp_path / place.name)
        with pytest.raises(UserError, match="keep what they remember"):
            run(settings, resume=True, report=False)


@pytest.mark.parametrize("place", ["h", "."])
def test_memory_behind_a_link_or_damaged_is_refused(tmp_path: Path, place: str) -> None:
    store, outside = MemoryFolder(tmp_path / "run"), tmp_path / "outside"
    line = RoundLine(round=1, memory_bytes=4)
    outside.mkdir()
    (tmp_path / "run").mkdir()
    store.write("h", 1, b"kept")
    store.check([line])
    file = store.partial / MEMORY / "h" / "1"
    file.write_bytes(file.read_bytes()[:-1] + b"s")
    for use in (lambda: store.check([line]), lambda: store.read("h", 2)):
        with pytest.raises(UserError, match="1 is damaged"):
            use()
    linked = store.partial / MEMORY / place
    shutil.move(linked, tmp_path / "aside")
    linked.symlink_to(outside)
    for use in (lambda: store.check([line]), lambda: store.read("h", 2), lambda: store.write("h", 2, b"a")):
        with pytest.raises(UserError, match="is a symbolic link"):
            use()
    assert not any(outside.iterdir())


def test_memory_comes_back_as_it_was() -> None:
    kept: dict[str, Memory] = {
        "learner": {
            "m": np.arange(6, dtype=np.float32).reshape(2, 3),
            "n": np.array(True),
            "k": np.float64(2),
        },
        "behaviour-0": {"words": ["a", {"b": None}], "empty": np.zeros((0, 4), np.int8)},
        "nobody": {},
    }
    found = memories_of(pack_memories(kept, 10_000))
    assert found.keys() == kept.keys() and found["behaviour-0"]["words"] == ["a", {"b": None}]
    assert found["learner"]["k"] == 2.0
    for owner, name in (("learner", "m"), ("learner", "n"), ("behaviour-0", "empty")):
        array = found[owner][name]
        assert array.dtype == kept[owner][name].dtype and np.array_equal(array, kept[owner][name])
        assert array.shape == kept[owner][name].shape and array.flags.writeable
    assert memories_of(b"") == {}


def test_memory_is_bounded_and_holds_numbers_and_json_only() -> None:
    assert largest_memory(10) == 1 << 26 and largest_memory(1 << 24) == 1 << 27
    with pytest.raises(UserError, match=r"takes 4,0.. bytes; at most 4,000"):
        pack_memories({"learner": {"m": np.zeros(1000, np.float32)}}, 4000)
    for value, named in ((object(), "object"), (np.array(["a"], object), "ndarray"), ({1, 2}, "set")):
        with pytest.raises(UserError, match=f"a {named} as 'x'"):
            pack_memories({"behaviour-0": {"x": value}}, 4000)
    with pytest.raises(UserError, match="a key is a text"):
        pack_memories({"behaviour-0": {1: 2}}, 4000)  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", ["folder", "node"])
def test_memory_of_a_repeated_round_is_that_of_the_round_before(tmp_path: Path, kind: str) -> None:
    store = MemoryFolder(tmp_path) if kind == "folder" else NodeMemory(RecordDict())
    assert recall(store, "h", 1) == {} and keep(store, "h", 1, {"learner": {}}, 100) == 0
    for round in (1, 4):
        assert keep(store, "h", round, {"learner": {"round": round}}, 100) > 0
    assert recall(store, "h", 5) == {"learner": {"round": 4}}
    assert recall(store, "other", 5) == {}
    if kind == "folder":
        assert recall(store, "h", 4) == {"learner": {"round": 1}}
        keep(store, "h", 6, {"learner": {"round": 6}}, 100)
        assert sorted(path.name for path in (tmp_path / MEMORY / "h").iterdir()) == ["4", "6"]
    # What is forgotten stays forgotten.
    assert keep(store, "h", 7, {"learner": {}}, 100) == 0 and recall(store, "h", 8) == {}


def test_memory_needs_a_place() -> None:
    with pytest.raises(UserError, match="all machines of the Ray cluster share"):
        MemoryFolder(Path("nowhere")).write("h", 1, b"")
    with pytest.raises(UserError, match="num-supernodes"):
        NodeMemory(RecordDict(), shared=True).write("h", 1, b"")


def test_memory_of_an_attack_by_itself_is_its_own() -> None:
    one, other = Forgetful(), Forgetful()
    one.memory["x"] = 1
    assert one.memory == {"x": 1} and other.memory == {}


class Counting(FakeLearner):
    """Remembers how often it has trained, and on which labels first."""

    remembers = True

    def fit(self, *given: Any, memory: Memory, **more: Any) -> Any:
        memory["rounds"] = memory.get("rounds", 0) + 1
        memory.setdefault("first", int(given[1].labels.sum()))
        return super().fit(*given, **more)


class Comparing(Attack):
    """Poisons records from round 3 on, and asks for the honest update."""

    needs_honest = True

    def is_active(self, round: int) -> bool:
        return round > 2

    def poison_records(self, records: Records) -> Records:
        return replace(records, labels=0 * records.labels)


def test_memory_of_the_honest_training_that_an_attack_compares_with_is_apart() -> None:
    records = make_records(12)
    hospital = Hospital(0, records, Counting(), [Comparing()])
    for round in range(1, 5):
        hospital.fit(START, BUFFERS, round, 0.01)
        hospital.memory = memories_of(pack_memories(hospital.memory, 10_000))
    honest = int(records.labels.sum())
    # The attacker builds on what it learned while it was honest, and so does what it compares with.
    assert hospital.memory["learner"] == {"rounds": 4, "first": honest}
    assert hospital.memory["compared-learner"] == {"rounds": 4, "first": honest}


def test_before_the_first_round_nothing_has_to_be_remembered(tmp_path: Path) -> None:
    MemoryFolder(tmp_path).check([])
    (tmp_path / MEMORY).symlink_to(tmp_path)
    with pytest.raises(UserError, match="symbolic link"):
        MemoryFolder(tmp_path).check([])

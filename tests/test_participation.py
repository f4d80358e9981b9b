"""Who takes part in a round: how many are asked, which, and who does not answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Cut, Unplugged, tiny

from fedrobust import Settings, UserError, run
from fedrobust.federation.participation import Participation, TakingPart
from fedrobust.flower.hosted_strategy import build_strategy
from fedrobust.reports.run.notes import notes
from fedrobust.reports.run.round_tables import hospitals_table
from fedrobust.results import finished_run
from fedrobust.results.finished_run import read_run

N = 40
IMAGES = np.arange(1, N + 1)


def asked(round: int = 1, images: np.ndarray = IMAGES, **options: Any) -> tuple[int, ...]:
    return Participation(N, **options).of(round, images).asked


def test_all_take_part_unless_it_is_said() -> None:
    assert Participation(N).is_complete and asked() == tuple(range(N))
    for options in ({"share": 0.5}, {"per_round": 3}, {"availability": "dropout(rate=0)"}):
        assert not Participation(N, **options).is_complete  # type: ignore[arg-type]


@pytest.mark.parametrize("sampling", ["uniform", "size", "cyclic"])
def test_so_many_are_asked_and_the_seed_decides_which(sampling: str) -> None:
    options: dict[str, Any] = {"share": 0.25, "sampling": sampling}
    drawn = [asked(round, **options) for round in range(1, 6)]
    assert all(len(one) == len(set(one)) == 10 and list(one) == sorted(one) for one in drawn)
    assert drawn == [asked(round, **options) for round in range(1, 6)]
    assert len(set(drawn)) > 3 and asked(seed=1, **options) != drawn[0]
    assert asked(per_round=10, sampling=sampling) == drawn[0]
    assert len(asked(share=0.001, sampling=sampling)) == 1


def test_in_turn_everyone_is_asked_equally_often() -> None:
    counts = np.zeros(N, int)
    for round in range(1, 11):
        for one in asked(round, per_round=12, sampling="cyclic"):
            counts[one] += 1
    assert set(counts) == {3}


def test_by_size_a_large_hospital_is_asked_more_often() -> None:
    images = np.where(np.arange(N) < 4, 900, 100)
    often = sum(
        one < 4 for round in range(1, 201) for one in asked(round, images, per_round=4, sampling="size")
    )
    # Drawn one by one without replacement: near half of the draws.
    assert 0.4 < often / 800 < 0.52
    evenly = sum(one < 4 for round in range(1, 201) for one in asked(round, images, per_round=4))
    assert 0.06 < evenly / 800 < 0.14


def test_late_and_leaving_hospitals() -> None:
    late = [set(asked(round, availability="late(share=0.25, round=3)")) for round in (1, 2, 3, 9)]
    assert [len(one) for one in late] == [30, 30, 40, 40] and late[0] == late[1]
    gone = [set(asked(round, availability="leaving(share=0.25, round=3)")) for round in (2, 3, 9)]
    assert [len(one) for one in gone] == [40, 30, 30] and gone[1] == gone[2]
    both = Participation(N, availability="late(0.25, round=2) + leaving(0.25, round=2)")
    assert len(both.of(1, IMAGES).asked) == len(both.of(2, IMAGES).asked) == 30
    assert both.of(1, IMAGES).asked != both.of(2, IMAGES).asked
    # Those that are there fill the round.
    assert all(
        len(asked(1, per_round=20, sampling=s, availability="late(share=0.5)")) == 20
        for s in ("cyclic", "size")
    )  # type: ignore[arg-type]


def test_dropout_and_stragglers_do_not_answer() -> None:
    drops = Participation(N, availability="dropout(rate=0.25)")
    absent = [drops.of(round, IMAGES).absent for round in range(1, 101)]
    assert 0.2 < sum(map(len, absent)) / (100 * N) < 0.3
    assert {why for one in absent for why in one.values()} == {"dropped out"} and absent[0] != absent[1]
    assert drops.of(7, IMAGES) == Participation(N, availability="dropout(rate=0.25)").of(7, IMAGES)
    slow = Participation(N, availability="stragglers(deadline=1.5, spread=0)")
    assert set(slow.of(1, IMAGES).absent) == {h for h in range(N) if IMAGES[h] > 1.5 * np.median(IMAGES)}
    spread = Participation(N, availability="stragglers(deadline=2, spread=0.5)")
    missed = [set(spread.of(round, np.full(N, 9)).absent) for round in range(1, 31)]
    counts = np.array([sum(h in one for one in missed) for h in range(N)])
    # A slow hospital is slow in most rounds.
    assert 0 < counts.mean() < 8 and counts.max() > 12 and (counts == 0).sum() > 8


def test_what_is_asked_for_is_checked() -> None:
    for changes, words in (
        ({"per_round": 5}, "per-round = 5 is more than clients = 4"),
        ({"per_round": 2, "participation": 0.5}, "give one or the other"),
        ({"participation": 0.0}, r"a number in \(0, 1\]"),
        ({"sampling": "by-size"}, "sampling"),
    ):
        with pytest.raises(UserError, match=words):
            Settings(clients=4, **changes)  # type: ignore[arg-type]
    for text, words in (
        ("dropuot", "did you mean 'dropout'"),
        ("dropout(share=1)", "no option 'share'"),
        ("late(round=0)", "round"),
        ("dropout +", "something is missing"),
    ):
        with pytest.raises(UserError, match=words):
            Participation(4, availability=text)
    assert Settings().identity().keys().isdisjoint({"participation", "per_round", "sampling", "availability"})
    assert Settings(participation=0.5).identity()["participation"] == 0.5


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_a_run_says_who_took_part_and_has_the_same_bits_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "clients": 8,
        "rounds": 4,
        "malicious": 2,
        "per_round": 5,
        "availability": "dropout(rate=0.3) + late(share=0.25, round=3)",
        "strategy": "foolsgold",
    }
    whole = run(tiny(tmp_path / "here", **options))
    cut = tiny(tmp_path / "cut", **options)
    with pytest.raises(Unplugged):
        run(cut, [Cut(2)], report=False)
    again = run(cut, resume=True)
    pooled = run(tiny(tmp_path / "pool", workers=2, **options), report=False)
    for other in (again, pooled):
        for name in ("rounds.jsonl", "verdicts.jsonl", "model.safetensors"):
            assert (whole.folder / name).read_bytes() == (other.folder / name).read_bytes()
    plan = Participation(8, 0, per_round=5, availability=options["availability"])
    verdicts = [json.loads(line) for line in (whole.folder / "verdicts.jsonl").read_text().splitlines()]
    for line, verdict in zip(lines(whole.folder), verdicts, strict=True):
        part = plan.of(line["round"], np.full(8, 21))
        assert tuple(line["asked"]) == part.asked and len(part.asked) == 5
        assert {one["hospital"]: one["reason"] for one in line["absent"]} == dict(part.absent)
        assert set(verdict["hospitals"]) == set(part.asked) - set(part.absent)
        assert line["faults"] == []
    found = read_run(whole.folder)
    drops = sum(len(line["absent"]) for line in lines(whole.folder))
    (note,) = [one for one in notes(found) if "Each round asked" in one]
    assert note.startswith(f"Each round asked 5 of 8 hospitals; of 20 in all, {drops} dropped out")
    rows = {row[0]: row for row in hospitals_table(found).rows}
    assert sum(int(str(row[3])) for row in rows.values()) == 20 - drops and len(rows) == 8
    # Weights are multiples of those of whom an update was expected, not of all.
    assert sum(found.weights.values()) == pytest.approx(len(verdicts[-1]["hospitals"]))
    assert found.summary.detection.failed == ()
    # Of very many hospitals a page shows the malicious ones, and who took part most often.
    monkeypatch.setattr(finished_run, "_MOST_LISTED", 3)
    few = read_run(whole.folder)
    often = max((n for n in rows if n not in few.malicious), key=lambda n: few.rounds_taken_part[n])
    assert {one.number for one in few.listed} >= few.malicious and len(few.listed) == 3
    assert few.rounds_taken_part[few.listed[-1].number] == few.rounds_taken_part[often]
    assert any("show 3 of the 8 hospitals" in one for one in notes(few))


def test_a_round_without_enough_hospitals_keeps_the_model(tmp_path: Path) -> None:
    nobody = run(tiny(tmp_path / "nobody", availability="dropout(rate=1)", strategy="fedavg"), report=False)
    assert [line["not_kept"] for line in lines(nobody.folder)] == ["no hospital sent a usable update"] * 2
    # Flower's strategies wait for as many nodes as they were told; here there will not be more.
    waiting = "flwr.serverapp.strategy:FedAvg(min_available_nodes=4)"
    late = tiny(tmp_path / "late", availability="late(share=0.5, round=2)", strategy=waiting)
    kept = [line["not_kept"] for line in lines(run(late, report=False).folder)]
    assert kept == ["no hospital sent a usable update", None]


def test_taking_part_by_itself() -> None:
    assert TakingPart((1, 2)).absent == {}


def test_options_are_checked_against_the_number_asked_but_those_of_an_oracle() -> None:
    assert build_strategy("oracle(malicious=[0, 7])", 8, asked=3)
    with pytest.raises(UserError, match="there is no hospital 8"):
        build_strategy("oracle(malicious=[8])", 8, asked=3)
    assert build_strategy("multi-krum(f=2)", 8)
    with pytest.raises(UserError, match="multi-krum"):
        build_strategy("multi-krum(f=2)", 8, asked=3)
    with pytest.raises(UserError, match="waits for min_available_nodes=4 hospitals, but there are 3"):
        build_strategy("flwr.serverapp.strategy:FedAvg(min_available_nodes=4)", 8, asked=3)

"""The plan and the page of the benchmark on data without tuning, on made-up results; no run is made."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.generalisation import ADAPTIVE_PLUGINS
from benchmarks.generalisation_metrics import RunMetrics
from benchmarks.generalisation_page import page, rank_table
from benchmarks.generalisation_plan import (
    ADAPTIVE,
    ATTACKS,
    BENIGN,
    DATA,
    HELD_OUT,
    METHODS,
    NONE,
    OURS,
    TUNED,
    TWO_CLASSES,
    Federation,
    Key,
    Selection,
    grid,
    plan,
    settings_of,
)
from fedrobust.scenario import Scenario

PAIRS = len(DATA) * (len(BENIGN) + len(ATTACKS)) - len(TWO_CLASSES)
PLANNED = list(plan())
PLAIN = RunMetrics(0.7, 0.6, 0.5, 0.2, 0.9, 0.5, 0.4, 0.01, 0.8, 1.0, 0.05)


@pytest.fixture
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ADAPTIVE_PLUGINS))


def made_up(keys: list[Key]) -> dict[Key, RunMetrics]:
    """Return metrics of these runs; the later in `METHODS`, the worse, and all worse under attack."""
    found = {}
    for key in keys:
        lost = 0.01 * METHODS.index(key.method) + 0.001 * (key.federation.malicious + key.federation.seed)
        found[key] = replace(PLAIN, macro_f1=0.5 - lost, balanced_accuracy=0.6 - lost, accuracy=0.7 - lost)
    return found


def table(text: str, title: str, head: str) -> list[dict[str, str]]:
    """Return the rows of the table with this first column, in the section of this title."""
    lines = text.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [dict(zip(rows[0], cells, strict=True)) for cells in rows[2:]]


def test_every_first_part_of_the_grid_is_a_balanced_sample() -> None:
    order = grid()
    assert len(order) == len(set(order))
    for passes in (1, 2, 6):
        part = order[: passes * PAIRS]
        assert set(Counter((one.data, one.threat) for one in part).values()) == {passes}
        rounds, partitions = Counter(one.rounds for one in part), Counter(one.partition for one in part)
        assert max(rounds.values()) - min(rounds.values()) <= 0.1 * len(part)
        assert max(partitions.values()) - min(partitions.values()) <= 0.1 * len(part)
    second = {(one.data, one.threat): one for one in order[PAIRS : 2 * PAIRS]}
    for first in order[:PAIRS]:
        after = second[first.data, first.threat]
        assert first.rounds != after.rounds and first.partition != after.partition
        assert first.seed != after.seed


def test_methods_of_a_federation_run_one_after_another() -> None:
    keys = [key for key in PLANNED if key.part == "grid"]
    for start in range(0, 30 * len(METHODS), len(METHODS)):
        block = keys[start : start + len(METHODS)]
        assert {key.federation for key in block} == {block[0].federation}
        assert tuple(key.method for key in block) == METHODS


def test_selection_keeps_the_order() -> None:
    keys = PLANNED
    asked = Selection(parts=["grid"], data=DATA[2:3], methods=["fedavg"], seeds=[11])
    chosen = [key for key in keys if asked.takes(key)]
    places = {key: place for place, key in enumerate(keys)}
    assert chosen and chosen == sorted(chosen, key=places.__getitem__)
    assert {(key.part, key.federation.data, key.method) for key in chosen} == {("grid", DATA[2], "fedavg")}
    assert all(Selection().takes(key) for key in keys[:5])


@pytest.mark.usefixtures("_plugins")
def test_every_threat_is_carried_out_by_as_many_hospitals_as_the_plan_says() -> None:
    once = {(key.part, key.federation.threat, key.federation.rounds): key for key in PLANNED}
    for key in once.values():
        scenario = Scenario.of(settings_of(key, "data", "runs"))
        assert len(scenario.malicious) == key.federation.malicious
        assert "{" not in "".join(threat.attacks.text for threat in scenario.threats)
        if key.federation.threat in BENIGN[1:]:
            assert [len(threat.hospitals) for threat in scenario.threats] == [1]


def test_sleeper_wakes_within_the_run() -> None:
    sleepers = {key.federation.rounds: key for key in PLANNED if "sleeper" in key.federation.threat}
    assert settings_of(sleepers[5], None, "runs").attack == "sleeper(rounds=2) + sign-flip"
    assert settings_of(sleepers[25], None, "runs").attack == "sleeper(rounds=12) + sign-flip"


def test_equal_values_share_their_rank() -> None:
    one = Federation(DATA[0], "none", 0, "iid", 5, 10)
    runs = {name: PLAIN for name in METHODS} | {OURS: replace(PLAIN, macro_f1=0.6)}
    runs["fedavg"] = replace(PLAIN, macro_f1=PLAIN.macro_f1 + 1e-12)
    found = rank_table({one: runs}, "macro_f1")
    assert found[OURS] == [1.0]
    assert {tuple(found[name]) for name in METHODS if name != OURS} == {((2 + len(METHODS)) / 2,)}


def test_page_shows_each_metric_in_its_column() -> None:
    planned = PLANNED
    found = made_up([key for key in planned if key.part != "grid"])
    part = [key for key in planned if key.part == "grid"][: 2 * PAIRS * len(METHODS)]
    text = page({**found, **made_up([*part[:-2], part[-1]])}, planned, "## Notes\n")
    # The last federation lacks a method.
    assert f"show the {2 * PAIRS - 1} that all" in text.replace("\n", " ")
    assert f"the others the {2 * PAIRS} that" in text.replace("\n", " ")
    more = table(text, "Compared in more federations", "where")
    # Ours is first of the methods, FedAvg second, centered clipping third, the server's step last.
    assert more[0]["federations"] == str(2 * PAIRS)
    assert more[0]["macro F1, minus fedavg"] == "1.0 ± 0.0"
    assert more[0]["balanced accuracy, minus centered-clipping"] == "2.0 ± 0.0"
    assert more[0]["macro F1, minus fedavg &#124; server-step"] == f"{len(METHODS) - 1}.0 ± 0.0"
    assert sum(int(row["federations"]) for row in more[1:3]) == 2 * PAIRS
    assert sum(int(row["federations"]) for row in more[-2:]) == 2 * PAIRS
    best = table(text, "Ranks of all methods", "method")[0]
    assert (best["method"], best["mean rank in macro F1"]) == (OURS, "1.00 ± 0.00")
    first = table(text, "Compared with the better plain rule", "data")[0]
    assert (first["threats"], first["the better plain rule"], first["below"]) == (
        "nobody malicious",
        "fedavg",
        "",
    )
    assert float(first["ours"]) - float(first["its macro F1"]) == pytest.approx(0.01, abs=0.0011)
    assert first["difference, points"].startswith("1.0")
    benign = table(text, "No malicious hospital", "data")[0]
    assert (benign["flagged, %"], benign["lightest"], benign["movement, iid"]) == ("1.00", "0.80", "0.05")
    caught = table(text, "Detection by the default defence", "threat")[0]
    assert (caught["recall"], caught["attackers' weight"]) == ("0.500 ± 0.000", "0.40 ± 0.00")
    tuned = table(text, "Backdoors on the tuned data", "data")[0]
    # A trigger succeeds in a fifth of the images, which is more than rarely.
    assert (tuned["seeds"], tuned["success, ours"], tuned["of them at most 0.15"]) == (
        "3",
        "0.200 ± 0.000",
        "0",
    )
    # FedAvg without attack has 1 point less, and two malicious hospitals cost 0.2.
    assert tuned["below FedAvg without attack, points"] == "-0.8 ± 0.0"
    adaptive = table(text, "Attackers who know the rule", "data")
    assert {row["attack"] for row in adaptive} == set(ADAPTIVE)
    assert {row["damage, ours"] for row in adaptive} == {"0.3 ± 0.0"}
    assert text.endswith("\n## Notes\n") and "Not run." not in text


def test_damage_by_attack_is_paired_with_that_to_the_other_method() -> None:
    found = {}
    for key in PLANNED:
        if key.part == "adaptive" and key.federation.threat in (NONE, "drift"):
            # Ours loses 10 points, the other method 30, and 2 more with each seed.
            lost = 0.1 if key.method == OURS else 0.1 + 0.02 * key.federation.seed
            accuracy = 0.9 if key.federation.threat == NONE else 0.9 - lost
            found[key] = replace(PLAIN, accuracy=accuracy)
    # Of one federation the attacked run is missing, of another the run without an attack.
    theirs = [key for key in found if key.method != OURS]
    del found[next(key for key in theirs if key.federation.threat == "drift")]
    del found[[key for key in theirs if key.federation.threat == NONE][-1]]
    (row,) = table(page(found, PLANNED, ""), "Attackers who know the rule", "attack")
    assert (row["attack"], row["federations"]) == ("drift", "10")
    # Three federations of seed 10, four of 11 and three of 12.
    differences = np.array([20.0] * 3 + [22.0] * 4 + [24.0] * 3)
    assert row["damage, difference"].split(" ± ")[0] == f"{-differences.mean():.1f}"
    half = 2.262 * differences.std(ddof=1) / np.sqrt(10)
    assert float(row["damage, difference"].split(" ± ")[1]) == pytest.approx(half, abs=0.06)
    assert row["accuracy, ours"] == "0.800"
    assert row["accuracy, centered-clipping"] == f"{0.8 - differences.mean() / 100:.3f}"


def test_page_without_runs_says_so() -> None:
    assert page({}, PLANNED, "").count("Not run.") == 9


def test_prose_and_columns_of_the_page_are_those_of_its_script() -> None:
    kept = (Path(__file__).resolve().parents[1] / "docs" / "generalisation.md").read_text().splitlines()
    planned = PLANNED
    made = page(made_up(planned[: 400 * len(METHODS)]), planned, "").splitlines()
    heads = ("| data |", "| threat |", "| attack |", "| method | m", "| method | f")
    lines = [line for line in made if line and (not line.startswith("|") or line.startswith(heads))]
    first = made.index("## Ranks of all methods")
    varying = ("All data, ", "Held-out data, ")
    body = [line for line in lines if line in made[first:] and not line.startswith(varying)]
    if "Not run." not in kept:
        assert [line for line in body if line not in kept] == []


def test_data_are_either_tuned_or_held_out() -> None:
    assert not set(TUNED) & set(HELD_OUT) and set(DATA) == {*TUNED, *HELD_OUT}
    assert np.all([data in DATA for data in TWO_CLASSES])

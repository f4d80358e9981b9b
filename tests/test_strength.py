"""An attack's knowledge and budget: the documented table is the code's; `strength` is a share of the way."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from helpers import make_updates

from clients.alie import Alie
from clients.fang import Fang
from clients.forge_loss import ForgeLoss
from clients.free_rider import FreeRider
from clients.ipm import Ipm
from clients.mimic import Mimic
from clients.min_max import MinMax
from clients.min_sum import MinSum
from clients.rop import Rop
from clients.sparse import Sparse
from fedrobust.attacks.strength import part_way
from fedrobust.commands.list_plugins import catalogue
from fedrobust.federation import Attack, Behaviour, ClientMetrics, Role, Update
from fedrobust.plugins import find

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "attacks.md").read_text()
ATTACKS = sorted(catalogue()["attack"])
COLLUDING: list[Callable[..., Attack]] = [
    lambda **o: Alie(z=1.0, knowledge="all", **o),
    lambda **o: Alie(z="optimal", against="median", **o),
    Ipm,
    lambda **o: Ipm("optimal", against="krum", **o),
    MinMax,
    MinSum,
    Mimic,
    Fang,
    lambda **o: Fang(against="krum", **o),
    Rop,
    Sparse,
]


def rows(section: str) -> dict[str, list[list[str]]]:
    """Return the cells of each attack's rows in a part of the page; an unnamed row is the last one's."""
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 3 or set(line) <= set("|- "):
            continue
        name = cells[0].strip("`") or name
        found.setdefault(name, []).append(cells[1:])
    return found


EVERYWHERE = rows(PAGE)
TABLE = rows(PAGE.partition("## What each knows")[2].partition("\n## ")[0])


def kind(name: str) -> type[Behaviour]:
    found: type[Behaviour] = find(name, "clients", (Behaviour,), "attack")
    return found


def test_attack_table_has_every_attack_once() -> None:
    assert sorted(set(TABLE) - {"attack"}) == ATTACKS
    assert all(len(TABLE[name]) == 1 for name in ATTACKS)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_table_knowledge_is_that_of_the_code(name: str) -> None:
    words = re.findall(r"own|colluders|all", TABLE[name][0][0])
    attack = kind(name)
    if not issubclass(attack, Attack):
        assert words == ["own"] and not attack.malicious
        return
    assert words[0] == attack.knowledge == attack().knowledge
    takes = inspect.signature(attack).parameters
    if "knowledge" in takes:
        assert {attack(knowledge=word).knowledge for word in words} == set(words) == {"all", "colluders"}  # type: ignore[call-arg]
    elif name != "forge-loss":
        assert len(words) == 1
    assert set(words) <= set(get_args(get_type_hints(Attack)["knowledge"]))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_table_budget_is_an_option_and_every_option_is_documented(name: str) -> None:
    takes = inspect.signature(kind(name)).parameters
    modes = {"pairwise"}
    budget = set(re.findall(r"`([\w-]+)`", TABLE[name][0][1])) - modes
    assert budget <= set(takes)
    assert budget or not kind(name).malicious
    text = " ".join(
        cell for n in {name, "backdoor" if name == "dba" else name} for r in EVERYWHERE[n] for cell in r
    )
    assert [option for option in takes if not re.search(rf"\b{option}\b", text)] == []


def test_catalogue_names_attacks_that_see_other_updates() -> None:
    listed = catalogue()["attack"]
    assert listed["mimic"].endswith("Sees all updates.")
    assert listed["alie"].endswith("Sees its colluders' updates.")
    assert "Sees" not in listed["label-flip"]


@pytest.mark.parametrize("make", COLLUDING)
def test_collude_strength_is_the_share_of_the_way(make: Callable[..., Attack]) -> None:
    updates = make_updates(9, d=500, buffers=3, seed=2)
    colluders, honest = updates[:3], updates[3:]

    def sent(**options: Any) -> list[Update]:
        attack = make(**options)
        attack.bind(role=Role("test", hospitals=9, members=3))
        attack.bind(rng=np.random.default_rng(4))
        return list(attack.collude(colluders, honest))

    searching = getattr(make(), "search", None) is not None
    for own, forged, half in zip(colluders, sent(), sent(strength=0.5), strict=True):
        assert half.report is own.report
        if searching:  # the search tries updates of this strength, so the number may differ
            assert not np.array_equal(half.parameters, forged.parameters)
            continue
        middle = (own.parameters.astype(float) + forged.parameters) / 2
        np.testing.assert_allclose(half.parameters, middle, atol=1e-5)
        np.testing.assert_allclose(half.buffers, (own.buffers + forged.buffers) / 2, atol=1e-5)
    assert all(
        np.array_equal(a.parameters, b.parameters) for a, b in zip(sent(), sent(strength=1), strict=True)
    )


def test_free_rider_strength_leaves_a_part_of_its_training() -> None:
    old = np.array([5.0, 6.0], np.float32)
    update = replace(make_updates(1, buffers=2)[0], global_buffers=old)
    made = FreeRider(strength=0.75).poison_update(update)
    np.testing.assert_allclose(made.delta, 0.25 * update.delta, atol=1e-6)
    np.testing.assert_allclose(made.buffers, 0.25 * update.buffers + 0.75 * old, atol=1e-6)


def test_forge_loss_strength_moves_losses_in_part() -> None:
    attack = ForgeLoss(strength=0.25)
    typical = ClientMetrics(
        10, {"loss": 1.0, "class-losses": (1.0, 2.0), "class-counts": (5.0, 5.0), "last-loss": 3.0}
    )
    attack.bind(honest=replace(make_updates(1)[0], report=typical))
    true = ClientMetrics(10, {"loss": 5.0, "class-losses": (np.nan, 6.0), "class-counts": (0.0, 10.0)})
    forged = attack.forge_report(true).values
    assert forged["loss"] == 4.0 and forged["class-losses"] == (1.0, 5.0)
    assert forged["class-counts"] == (5.0, 5.0) and forged["last-loss"] == 3.0


def test_forge_loss_strength_moves_joint_losses_in_part() -> None:
    updates = make_updates(8, values=[{"loss": 1.0 + 0.1 * n, "last-loss": 1.0 + 0.1 * n} for n in range(8)])

    def reported(**options: Any) -> list[float]:
        sent = ForgeLoss("flood", **options).collude(updates[:3], updates[3:])
        return [float(u.report.values["last-loss"]) for u in sent]  # type: ignore[arg-type]

    true = [float(u.report.values["last-loss"]) for u in updates[:3]]
    np.testing.assert_allclose(reported(strength=0.5), (np.array(true) + reported()) / 2)


def test_part_way_strength_of_1_is_the_forged_update_and_inputs_stay() -> None:
    own, forged = make_updates(2, buffers=2)
    assert part_way(own, forged, 1) is forged
    before = own.parameters.copy(), forged.parameters.copy()
    part_way(own, forged, 0.3)
    np.testing.assert_array_equal(own.parameters, before[0])
    np.testing.assert_array_equal(forged.parameters, before[1])


@pytest.mark.parametrize("make", COLLUDING)
def test_collude_strength_of_0_sends_the_own_updates(make: Callable[..., Attack]) -> None:
    updates = make_updates(9, d=500, buffers=3, seed=2)
    attack = make(strength=0.0)
    attack.bind(role=Role("test", hospitals=9, members=3), rng=np.random.default_rng(4))
    made = attack.collude(updates[:3], updates[3:])
    assert all(one is own for one, own in zip(made, updates[:3], strict=True))

"""Attacks in chains: each changes something, joins with others, and follows from the seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federations import learner_of, tiny

from clients.hospital import Hospital
from fedrobust.data.sources import prepare
from fedrobust.federation import Update
from fedrobust.learners.base import State
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

#: Every attack that needs no colluders, with what it takes to change something.
CHAINS = [
    "label-flip",
    "label-flip(mode=pairwise, source=0, target=1)",
    "label-flip(mode=look-alike)",
    "random-labels",
    "label-noise(rate=0.5)",
    "image-noise",
    "image-noise(kind=salt-and-pepper)",
    "image-noise(kind=contrast)",
    "backdoor",
    "dba",
    "edge-case",
    "sign-flip",
    "gaussian",
    "boost",
    "free-rider",
    "free-rider(noise=0.01)",
    "label-flip + neurotoxin",
    "boost + constrain",
    "label-flip + constrain(alpha=0.5)",
    "constrain(measure=cosine, alpha=0.3) + boost",
    "label-flip + forge-loss",
    "forge-size",
    "sleeper(rounds=1) + label-flip",
]


def sent(folder: Path, chain: str, seed: int = 0, round: int = 2) -> tuple[Update, tuple[str, ...]]:
    """Return what an attacker sends and the names of its attacks that changed nothing."""
    settings: Settings = tiny(folder, malicious=1, attack=chain, seed=seed)
    (number,) = Scenario.of(settings).malicious
    attacks = Scenario.of(settings).attacks_of(number)
    records = prepare(Scenario.of(settings).data).of_hospital(number)
    learner = learner_of(settings)
    start: State = learner.initial()
    hospital = Hospital(number, records, learner, attacks, seed)
    return hospital.fit(start.parameters, start.buffers, round, 0.01), hospital.no_effect


def same(one: Update, other: Update) -> bool:
    return bool(
        np.array_equal(one.parameters, other.parameters)
        and np.array_equal(one.buffers, other.buffers)
        and repr(one.report) == repr(other.report)
    )


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_changes_something_and_joins_with_others(chain: str, tmp_path: Path) -> None:
    honest, _ = sent(tmp_path, "label-flip + sleeper(rounds=9)")
    alone, no_effect = sent(tmp_path, chain)
    assert set(no_effect) <= {"sleeper"} and not same(alone, honest)
    again, _ = sent(tmp_path, chain)
    assert same(alone, again)
    joined, no_effect = sent(tmp_path, f"{chain} + sign-flip(scale=2) + forge-size(factor=3)")
    # A plain free rider leaves no difference to negate.
    assert set(no_effect) <= ({"sign-flip"} if chain == "free-rider" else {"sleeper"})
    np.testing.assert_allclose(joined.delta, -2 * alone.delta, atol=1e-5)
    assert joined.report.num_examples == 3 * alone.report.num_examples


def test_chain_attack_that_finds_nothing_to_change_is_named(tmp_path: Path) -> None:
    # The loss is honest already; the update is within the bound; the class is not there to be flipped.
    for chain, name in (
        ("sign-flip + forge-loss", "forge-loss"),
        ("forge-size + constrain(bound=5)", "constrain"),
        ("gaussian + sleeper(rounds=1)", "sleeper"),
    ):
        assert sent(tmp_path, chain)[1] == (name,)


@pytest.mark.parametrize(
    "chain",
    [
        "label-flip(share=0)",
        "label-flip(mode=pairwise, source=0, target=1, share=0)",
        "random-labels(share=0)",
        "label-noise(rate=0)",
        "image-noise(share=0)",
        "image-noise(std=0)",
        "image-noise(kind=salt-and-pepper, amount=0)",
        "backdoor(share=0)",
        "dba(share=0)",
        "edge-case(share=0)",
        "free-rider(strength=0)",
        "free-rider(noise=1, strength=0)",
        "forge-loss(strength=0)",
        "label-flip(share=0) + forge-loss(strength=0)",
    ],
)
def test_chain_attack_budget_of_0_sends_what_an_honest_hospital_sends(chain: str, tmp_path: Path) -> None:
    honest, _ = sent(tmp_path, "label-flip + sleeper(rounds=9)")
    update, no_effect = sent(tmp_path, chain)
    assert same(update, honest) and len(no_effect) == chain.count(" + ") + 1

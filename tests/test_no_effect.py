"""A step or a defence that changes nothing is found out, at next to no cost."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Cut, Unplugged, tiny
from helpers import make_updates

import fedrobust.federation.updates
from fedrobust import run
from fedrobust.federation import Defence, PreAggregation, Updates, Vector, Verdict
from fedrobust.federation.mixed import Mixed
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.pipeline.no_effect import NoEffectMonitor
from strategies.fedavg import FedAvg

IMAGES = [10, 20, 30, 40, 50, 60, 70]


def without_effect(spec: str, *rounds: Updates) -> list[str]:
    """Return what a pipeline's monitor names after rounds."""
    strategy = build_strategy(spec, len(rounds[0]))
    assert isinstance(strategy, HostedStrategy)
    monitor = strategy.monitor
    for updates in rounds:
        seen = updates
        for place, step in enumerate(strategy.steps):
            before, seen = seen, step.transform(seen)
            monitor.record_step(place, before, seen)
        parameters, verdict = strategy.defence.combine(seen)
        monitor.record_defence(strategy.defence, seen, parameters, verdict)
    return monitor.no_effect


@pytest.mark.parametrize(
    "spec",
    [
        *("multi-krum(f=0)", "trimmed-mean(f=0)", "dnc(f=0)", "norm-clipping(limit=1e9)"),
        *("centered-clipping(tau=1e9)", "rlr(threshold=0)"),
    ],
)
@pytest.mark.parametrize("chunk", [64, 1 << 16])
def test_monitor_rule_that_gives_the_plain_mean_is_named(
    spec: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", chunk)
    # As many parameters far from zero as close to it: rounding is that of the large ones.
    updates = make_updates(7, d=1000, seed=1, num_examples=IMAGES)
    assert without_effect(spec, updates, make_updates(7, d=1000, seed=2, round=2)) == [spec]


@pytest.mark.parametrize(
    "spec",
    [
        *("median", "trimmed-mean(f=1)", "krum(f=0)", "multi-krum(f=1)", "norm-clipping", "flame(noise=0)"),
        *("centered-clipping", "geometric-median", "dos"),
    ],
)
def test_monitor_rule_with_an_effect_is_not_named(spec: str) -> None:
    assert without_effect(spec, make_updates(7, d=1000, seed=1, num_examples=IMAGES)) == []


class _ByImages(Defence):
    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        return updates.mean(updates.num_examples), Verdict(np.ones(len(updates)))


class _Nudge(Defence):
    def __init__(self, size: float, place: int) -> None:
        self.size, self.place = size, place

    def combine(self, updates: Updates) -> tuple[Vector, Verdict]:
        mean = updates.mean(np.ones(len(updates)))
        mean[self.place] += self.size * float(np.linalg.norm(mean))
        return mean, Verdict(np.ones(len(updates)))


def is_named(defence: Defence, updates: Updates) -> bool:
    monitor = NoEffectMonitor(["it"], defence)
    monitor.record_defence(defence, updates, *defence.combine(updates))
    return monitor.no_effect == ["it"]


def test_monitor_mean_weighted_by_reported_images_is_plain() -> None:
    updates = make_updates(7, d=500, num_examples=IMAGES)
    assert is_named(_ByImages(), updates)
    assert not is_named(_Nudge(0.01, 499), updates)


@pytest.mark.parametrize("place", [0, 999])
def test_monitor_only_rounding_counts_as_no_effect(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", 64)
    updates = make_updates(5, d=1000)
    assert is_named(_Nudge(3e-7, place), updates)
    assert not is_named(_Nudge(1e-5, place), updates)


def test_monitor_unchanged_model_is_no_plain_mean() -> None:
    class ZeroWeights(Defence):
        def weigh(self, updates: Updates) -> Verdict:
            return Verdict(np.zeros(len(updates)))

    assert not is_named(ZeroWeights(), make_updates())


def test_monitor_fedavg_is_never_named() -> None:
    updates = make_updates(7, d=100, num_examples=IMAGES)
    assert without_effect("fedavg", updates) == []
    assert without_effect("clipping(c=1e9) | fedavg", updates) == ["clipping(c=1e9)"]


@pytest.mark.parametrize(
    ("step", "nothing"),
    [
        *(("clipping(c=1e9)", True), ("clipping(c=1.0)", False), ("nnm(f=0)", False), ("arc(f=0)", True)),
        *(("arc(f=1)", False), ("bucketing(s=1)", True), ("bucketing(s=2)", False)),
    ],
)
def test_monitor_steps_with_and_without_effect(step: str, nothing: bool) -> None:
    updates = make_updates(7, d=300, seed=4)
    found = without_effect(f"{step} | median", updates)
    assert (step in found) is nothing
    # Behind another step it is compared with what that one made.
    behind = without_effect(f"nnm(f=1) | {step} | median", updates)
    assert (step in behind) is nothing and "nnm(f=1)" not in behind


def test_monitor_two_parts_of_one_name_are_distinguished() -> None:
    found = without_effect("clipping(c=5.0) | clipping(c=5.0) | median", make_updates(7, d=300, seed=4))
    assert found == ["clipping(c=5.0) (part 2)"]


class _Own(PreAggregation):
    def __init__(self, change: Any) -> None:
        self.change = change

    def transform(self, updates: Updates) -> Updates:
        return Updates([self.change(update) for update in updates], updates.seed)


@pytest.mark.parametrize(
    ("change", "nothing"),
    [
        (lambda u: u, True),
        (lambda u: u.with_delta(1.0 * u.delta), True),
        (lambda u: u.with_delta((1 + 1e-4 * (u.node == 4)) * u.delta), False),
        (lambda u: replace(u, report=replace(u.report, num_examples=1)), False),
        (lambda u: replace(u, buffers=u.buffers + 1), False),
        (lambda u: replace(u, node=u.node + 1), False),
    ],
)
def test_monitor_user_step_with_and_without_effect(
    change: Any, nothing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", 64)
    step, defence = _Own(change), FedAvg()
    for updates in (
        make_updates(5, d=300, buffers=2),
        Mixed(make_updates(5, d=300, buffers=2), np.diag([1, 1, 1, 0.5, 1])),
    ):
        monitor = NoEffectMonitor(["own", "fedavg"], defence)
        monitor.record_step(0, updates, step.transform(updates))
        assert (monitor.no_effect == ["own"]) is nothing


def test_monitor_fewer_updates_are_an_effect() -> None:
    updates = make_updates(5)
    monitor = NoEffectMonitor(["own", "fedavg"], FedAvg())
    monitor.record_step(0, updates, Updates(list(updates)[:4]))
    assert monitor.no_effect == []


def test_monitor_part_with_an_effect_is_not_compared_again() -> None:
    class Once(Updates):
        compared = 0

        def block(self, part: slice, *, absolute: bool = False) -> Vector:
            type(self).compared += absolute
            return super().block(part, absolute=absolute)

    first, later = (Once(list(make_updates(7, d=400, seed=s)), 0) for s in (1, 2))
    defence = _Nudge(0.1, 0)
    monitor = NoEffectMonitor(["it"], defence)
    monitor.record_defence(defence, first, *defence.combine(first))
    assert monitor.no_effect == [] and Once.compared == 1
    monitor.record_defence(defence, later, *defence.combine(later))
    assert Once.compared == 1


def test_monitor_effect_is_found_in_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", 64)

    class Counted(Updates):
        compared = 0

        def block(self, part: slice, *, absolute: bool = False) -> Vector:
            type(self).compared += absolute
            return super().block(part, absolute=absolute)

    updates = Counted(list(make_updates(5, d=64 * 100)), 0)
    parameters = updates.global_parameters.copy()
    monitor = NoEffectMonitor(["it"], _ByImages())
    monitor.record_defence(_ByImages(), updates, parameters, Verdict(np.ones(5)))
    # Two threads may each have begun one.
    assert monitor.no_effect == [] and Counted.compared <= 4


@pytest.mark.parametrize("malicious", [0, 1])
def test_run_names_parts_without_effect(tmp_path: Path, malicious: int) -> None:
    spec = "clipping(c=1e9) | trimmed-mean(f=0)"
    with pytest.warns(UserWarning) as caught:
        result = run(tiny(tmp_path, strategy=spec, malicious=malicious, attack="sign-flip"))
    messages = [str(warning.message) for warning in caught]
    ending = "" if malicious else ", as can happen where nobody is malicious"
    assert (
        "strategy 'trimmed-mean(f=0)' had no effect in this run: each round's model was the plain mean"
        + ending
        in messages
    )
    assert (
        "step 'clipping(c=1e9)' had no effect in this run: it returned each round's updates as they were"
        + ending
        in messages
    )
    assert result.summary["no_effect_steps"] == ["clipping(c=1e9)", "trimmed-mean(f=0)"]
    assert all(line["no_effect_steps"] == result.summary["no_effect_steps"] for line in result.rounds)


@pytest.mark.parametrize("spec", ["median", "fedavg", "flwr.serverapp.strategy:FedMedian"])
def test_run_with_effects_has_no_note(tmp_path: Path, spec: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = run(tiny(tmp_path, strategy=spec))
    assert result.summary["no_effect_steps"] == []


#: Changes something in round 1 only; it stands in a module that `--strategy` reaches by name.
class Early(Defence):
    """Keeps the model in the first round and is the plain mean later."""

    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(np.full(len(updates), float(updates.round > 1)))


@pytest.mark.parametrize(
    ("spec", "named"), [("test_no_effect:Early", []), ("trimmed-mean(f=0)", ["trimmed-mean(f=0)"])]
)
def test_resumed_run_counts_rounds_before_the_interruption(
    tmp_path: Path, spec: str, named: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        unbroken = run(tiny(tmp_path / "unbroken", strategy=spec, rounds=3))
        settings = tiny(tmp_path / "cut", strategy=spec, rounds=3)
        with pytest.raises(Unplugged):
            run(settings, [Cut(1)])
        resumed = run(settings, resume=True)
    assert resumed.summary["no_effect_steps"] == unbroken.summary["no_effect_steps"] == named
    lines = (resumed.folder / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["no_effect_steps"] for line in lines] == [named] * 3
    assert (resumed.folder / "rounds.jsonl").read_bytes() == (unbroken.folder / "rounds.jsonl").read_bytes()

"""What holds for every rule of the catalogue, whatever it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_updates, restored
from references import differences
from server_images import QuadraticServerData

import fedrobust.federation.updates
from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Updates, Vector, Verdict
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy

#: Rules that use updates only, with options that make each act on few hospitals.
RULES = [
    *("median", "trimmed-mean(f=2)", "krum(f=1)", "multi-krum(f=2)", "bulyan(f=1)", "geometric-median"),
    *(
        "centered-clipping",
        "centered-clipping(iterations=3)",
        "norm-clipping(noise=0.01)",
        "dnc(b=20)",
        "norm-clipping(limit=previous)",
    ),
    *("signguard(share=0.5)", "signguard(feature='cosine')", "signguard(feature='distance')", "foolsgold"),
    *("flame", "rlr", "fldetector(window=1)", "dos", "fltrust", "zeno(b=2)", "foundation-fl", "align-ins"),
    *("caf(f=2)", "smea(f=2)", "gas", "freqfed", "mda(f=2)", "meamed(f=2)", "snowball"),
]
STEPS = ["nnm(f=2)", "bucketing", "clipping(c=5.0)", "arc(f=2)"]
#: Rules that do not know the global model: their result moves with the updates.
MOVING = ("median", "trimmed-mean", "krum", "multi-krum", "bulyan", "geometric-median")


def pipeline(spec: str, hospitals: int = 9) -> HostedStrategy:
    made = build_strategy(spec, hospitals)
    assert isinstance(made, HostedStrategy)
    if made.defence.server_share:
        made.defence.server = QuadraticServerData(np.array(3.0))
    return made


def run(strategy: HostedStrategy, updates: Updates) -> tuple[Vector, Verdict]:
    """Apply a pipeline to one round."""
    seen = updates
    for step in strategy.steps:
        seen = step.transform(seen)
    parameters, verdict = strategy.defence.combine(seen)
    return parameters, seen.trace(verdict).checked(len(updates))


def rounds(count: int = 4, n: int = 9, d: int = 200, buffers: int = 0, seed: int = 0) -> Iterator[Updates]:
    """Yield rounds of one federation whose global model moves on by the mean."""
    base = make_updates(1, d, seed).global_parameters
    for number in range(1, count + 1):
        drawn = make_updates(n, d, seed + number, round=number, buffers=buffers)
        updates = Updates(
            [replace(u, parameters=base + u.delta, global_parameters=base) for u in drawn], seed
        )
        yield updates
        base = updates.mean(np.ones(n))


ALL = [*RULES, *(f"{step} | {rule}" for step in STEPS for rule in ("median", "multi-krum(f=1)", "dos"))]


@pytest.mark.parametrize("spec", ALL)
def test_rule_leaves_updates_unchanged_and_ignores_buffers(spec: str) -> None:
    one, other = pipeline(spec), pipeline(spec)
    for updates in rounds(n=9, d=300, buffers=4):
        wild = Updates(
            [replace(u, buffers=np.full(4, 10.0**u.node, np.float32)) for u in updates], updates.seed
        )
        kept = [(u.parameters.copy(), u.buffers.copy(), u.global_parameters.copy()) for u in updates]
        found, verdict = run(one, updates)
        assert found.dtype == np.float32 and found.shape == (300,) and np.isfinite(found).all()
        for update, (parameters, buffers, base) in zip(updates, kept, strict=True):
            np.testing.assert_array_equal(update.parameters, parameters)
            np.testing.assert_array_equal(update.buffers, buffers)
            np.testing.assert_array_equal(update.global_parameters, base)
        again, other_verdict = run(other, wild)
        np.testing.assert_array_equal(again, found)
        np.testing.assert_array_equal(other_verdict.weight, verdict.weight)
        found[:] = 0
        np.testing.assert_array_equal(updates[0].parameters, kept[0][0])


@pytest.mark.parametrize("spec", ALL)
def test_rule_in_small_chunks_gives_the_same_result(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pipeline(spec), pipeline(spec)
    for updates in rounds(n=9, d=301, buffers=4):
        complete, verdict = run(one, updates)
        with monkeypatch.context() as patch:
            patch.setattr(fedrobust.federation.updates, "CHUNK", 16)
            patch.setattr(Updates.deltas, "__defaults__", (16,))
            # A new `Updates`, as inner products are kept within one.
            parts, other_verdict = run(other, Updates(list(updates), updates.seed))
        np.testing.assert_allclose(parts, complete, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(other_verdict.weight, verdict.weight, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(other_verdict.score, verdict.score, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(other_verdict.flagged, verdict.flagged)


# Bulyan's last choices are between pairs that are each other's nearest: a tie, which the hospitals' order
# decides.
# Buckets are drawn by number.
@pytest.mark.parametrize(
    "spec",
    [
        *(rule for rule in RULES if not rule.startswith("bulyan")),
        *(f"{step} | {rule}" for step in STEPS if step != "bucketing" for rule in ("median", "dos")),
    ],
)
def test_rule_with_renumbered_hospitals_gives_the_same_result(spec: str) -> None:
    order = np.random.default_rng(5).permutation(9)
    one, other = pipeline(spec), pipeline(spec)
    for updates in rounds(n=9, d=200):
        renamed = Updates([replace(u, node=int(order[u.node])) for u in updates], updates.seed)
        (first, verdict), (second, other_verdict) = run(one, updates), run(other, renamed)
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            np.asarray(other_verdict.weight)[order], verdict.weight, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize(
    "spec",
    [
        *(rule for rule in RULES if rule.startswith(MOVING)),
        *(f"{step} | median" for step in STEPS if step.startswith(("nnm", "bucketing"))),
    ],
)
def test_rule_of_translated_updates_is_translated(spec: str) -> None:
    updates = make_updates(9, d=200, seed=3)
    shifted = Updates([update.with_delta(update.delta + 2) for update in updates])
    np.testing.assert_allclose(
        run(pipeline(spec), shifted)[0], run(pipeline(spec), updates)[0] + 2, atol=1e-5
    )


@pytest.mark.parametrize("spec", ALL)
def test_rule_of_equal_updates_returns_them(spec: str) -> None:
    update = make_updates(1, d=50)[0]
    updates = Updates([replace(update, node=node) for node in range(9)])
    strategy = pipeline(spec)
    if isinstance(strategy.defence, Defence) and strategy.defence.__class__.__name__ == "FoolsGold":
        # To it equal updates are one attacker's: the global model stays.
        np.testing.assert_array_equal(run(strategy, updates)[0], update.global_parameters)
        return
    found, verdict = run(strategy, updates)
    noisy = "norm-clipping" in spec or "flame" in spec
    wanted = update.parameters
    if spec == "fltrust":
        own = 0.1 * (3.0 - update.global_parameters)
        wanted = update.global_parameters + update.delta * np.linalg.norm(own) / np.linalg.norm(update.delta)
    if "clipping(c=5.0)" in spec:
        wanted = update.global_parameters + update.delta * (5 / np.linalg.norm(update.delta))
    np.testing.assert_allclose(found, wanted, atol=0.1 if noisy else 2e-6)
    choosing = (
        "krum",
        "bulyan",
        "dnc",
        "nnm",
        "bucketing",
        "zeno",
        "gas",
        "mda",
        "smea",
        "foundation",
        "snowball",
    )
    if not any(chooses in spec for chooses in choosing):
        np.testing.assert_allclose(np.asarray(verdict.weight) / np.sum(verdict.weight), 1 / 9, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("spec", [*RULES, *(f"{step} | median" for step in STEPS)])
def test_rule_with_few_replies_stays_bounded(spec: str, n: int) -> None:
    strategy = pipeline(spec, hospitals=9)
    for updates in rounds(n=9, d=60):
        few = Updates(list(updates[:n]), updates.seed)
        found, _ = run(strategy, few)
        deltas = differences(few)
        moved = found - few.global_parameters.astype(np.float64)
        # Nothing leaves the ball around the global model that the longest update spans; noise is small.
        assert np.linalg.norm(moved) <= 1.1 * np.linalg.norm(deltas, axis=1).max() + 0.2


@pytest.mark.parametrize("spec", RULES)
def test_rule_after_restart_gives_the_same_bits(spec: str) -> None:
    straight, broken = pipeline(spec), pipeline(spec)
    for updates in rounds(count=5, n=9, d=120):
        wanted, verdict = run(straight, updates)
        state = restored(broken.defence.state())
        broken = pipeline(spec)
        broken.defence.load_state(state)
        found, other_verdict = run(broken, updates)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(other_verdict.score, verdict.score)


@pytest.mark.parametrize(
    ("name", "f", "most"),
    [
        *(("trimmed-mean", 5, 4), ("krum", 4, 3), ("multi-krum", 4, 3), ("bulyan", 2, 1), ("dnc", 5, 4)),
        *(("nnm", 5, 4), ("arc", 5, 4)),
    ],
)
def test_too_large_f_is_refused_before_the_run(name: str, f: int, most: int) -> None:
    rest = " | median" if name in ("nnm", "arc") else ""
    build_strategy(f"{name}(f={most}){rest}", 10)
    with pytest.raises(UserError, match=rf"{name}: f={f} does not fit 10 hospitals.*give f={most} or less"):
        build_strategy(f"{name}(f={f}){rest}", 10)
    with pytest.raises(UserError, match=f"{name}: f is -1"):
        build_strategy(f"{name}(f=-1){rest}", 10)
    with pytest.raises(UserError, match=f"{name}: f is 1.5"):
        build_strategy(f"{name}(f=1.5){rest}", 10)


def test_rule_after_bucketing_is_checked_against_the_number_of_groups() -> None:
    build_strategy("bucketing | krum(f=1)", 10)
    with pytest.raises(UserError, match="krum: f=2 does not fit 5 hospitals"):
        build_strategy("bucketing | krum(f=2)", 10)


@pytest.mark.parametrize(
    ("spec", "most"), [("krum(f=3)", 1), ("multi-krum(f=3)", 1), ("trimmed-mean(f=4)", 2), ("bulyan(f=1)", 0)]
)
def test_too_few_replies_use_and_name_the_largest_f(spec: str, most: int) -> None:
    updates = make_updates(5, d=30, seed=2)
    found, verdict = run(pipeline(spec, 11), updates)
    name = spec.partition("(")[0]
    np.testing.assert_array_equal(found, run(pipeline(f"{name}(f={most})", 11), updates)[0])
    assert all("only 5 replied" in words and f"f={most} instead" in words for words in verdict.why or [])


@pytest.mark.parametrize(
    "spec",
    [
        *("geometric-median(nu=0)", "geometric-median(iterations=-1)", "centered-clipping(tau=0)"),
        *("centered-clipping(start='zero')", "centered-clipping(iterations=0)", "norm-clipping(limit=-1)"),
        *("norm-clipping(noise=-1)", "dnc(c=0)", "dnc(b=0)", "dnc(iterations=0)", "signguard(lower=2)"),
        *("signguard(share=0)", "signguard(feature='x')", "foolsgold(confidence=0)", "flame(noise=-1)"),
        *("rlr(threshold=-1)", "fldetector(window=0)", "multi-krum(m=0)"),
        *("bucketing(s=0) | median", "clipping(c=0) | median"),
    ],
)
def test_invalid_options_are_refused_by_name(spec: str) -> None:
    with pytest.raises(UserError, match=spec.partition("(")[0]):
        build_strategy(spec, 10)


def test_every_strategy_file_is_tested_here() -> None:
    from fedrobust.commands.list_plugins import catalogue

    tried = {spec.partition("(")[0] for spec in [*RULES, *STEPS]}
    # Tests of their own: what reads more than updates, a repair, rules that sparsify what they average
    # (fedseca, lasa), and one that averages around a hospital of a given number (monna).
    others = {"fedavg", "feddetect", "isolation-forest", "oracle", "audit", "bnguard"}
    others |= {"csft", "fine-pruning", "server-step", "skymask", "backdoor-indicator", "fedredefense"}
    others |= {"fedseca", "lasa", "monna"}
    assert set(catalogue()["strategy"]) - others == tried


def test_steps_are_pre_aggregations() -> None:
    for step in STEPS:
        assert all(isinstance(made, PreAggregation) for made in pipeline(f"{step} | median").steps)

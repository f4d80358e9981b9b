from __future__ import annotations

import random
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from helpers import make_records, make_updates

import fedrobust.federation.updates
from fedrobust.federation import Attack, ClientMetrics, Defence, PreAggregation, Update, Updates, Verdict


def wide(updates: Updates) -> np.ndarray:
    """Return all parameters in float64, shape (n, d)."""
    return np.stack([update.parameters for update in updates]).astype(np.float64)


# --- Update


def test_update_delta_and_with_delta_are_inverse() -> None:
    update = make_updates(1)[0]
    np.testing.assert_array_equal(update.delta, update.parameters - update.global_parameters)
    other = update.with_delta([0.5] * 40)
    assert other.parameters.dtype == np.float32
    np.testing.assert_array_equal(other.parameters, update.global_parameters + np.float32(0.5))
    assert other.report is update.report and other.node == update.node and other.round == update.round
    np.testing.assert_allclose(update.with_delta(update.delta).parameters, update.parameters, atol=1e-6)


def test_with_delta_leaves_the_given_arrays_unchanged() -> None:
    update = make_updates(1)[0]
    kept = update.parameters.copy(), update.global_parameters.copy()
    other = update.with_delta(np.zeros(40))
    other.parameters[:] = 9
    np.testing.assert_array_equal(update.parameters, kept[0])
    np.testing.assert_array_equal(update.global_parameters, kept[1])


def test_update_and_metrics_are_frozen() -> None:
    update = make_updates(1)[0]
    with pytest.raises(FrozenInstanceError):
        update.node = 3
    with pytest.raises(FrozenInstanceError):
        update.report.num_examples = 3


# --- Updates


def test_updates_are_ordered_by_hospital() -> None:
    listed = list(
        make_updates(8, nodes=[10, 2, 33, 1, 7, 20, 0, 5], num_examples=[10, 2, 33, 1, 7, 20, 0, 5])
    )
    random.Random(0).shuffle(listed)
    updates = Updates(listed, seed=6)
    assert updates.nodes == (0, 1, 2, 5, 7, 10, 20, 33)
    assert [update.node for update in updates] == list(updates.nodes)
    np.testing.assert_array_equal(updates.num_examples, updates.nodes)
    assert updates.num_examples.dtype == np.float64
    assert len(updates) == 8 and updates.seed == 6
    assert updates[2].node == 2 and updates[-1].node == 33
    assert [update.node for update in updates[1:3]] == [1, 2]


def test_updates_order_of_arrival_changes_no_bit() -> None:
    updates = make_updates(7, d=1000, buffers=3)
    listed = list(updates)
    random.Random(3).shuffle(listed)
    again = Updates(listed)
    weight = np.arange(1, 8) / 3
    np.testing.assert_array_equal(again.mean(weight), updates.mean(weight))
    np.testing.assert_array_equal(again.mean_buffers(weight), updates.mean_buffers(weight))
    np.testing.assert_array_equal(again.gram(), updates.gram())


def test_updates_have_the_round_and_global_parameters_of_the_replies() -> None:
    updates = make_updates(3, round=4)
    assert updates.round == 4
    assert updates.global_parameters is updates[0].global_parameters


def test_updates_without_any_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one update"):
        Updates([])


def test_updates_two_of_one_hospital_are_refused() -> None:
    updates = make_updates(3)
    with pytest.raises(ValueError, match=r"two updates are of one hospital: \[0, 1, 1, 2\]"):
        Updates([*updates, updates[1]])


@pytest.mark.parametrize("name", ["parameters", "buffers"])
def test_updates_of_different_shapes_are_refused(name: str) -> None:
    updates = list(make_updates(3, buffers=4))
    updates[1] = replace(updates[1], **{name: getattr(updates[1], name)[:-1]})
    with pytest.raises(ValueError, match="same shape"):
        Updates(updates)


@pytest.mark.parametrize("chunk", [1, 7, 40, 64, 1000])
def test_deltas_in_chunks_are_the_deltas(chunk: int) -> None:
    updates = make_updates(5)
    wanted = np.stack([update.delta for update in updates])
    found = np.full_like(wanted, np.nan)
    for part, block in updates.deltas(chunk):
        assert block.dtype == np.float32 and block.shape[1] <= chunk
        found[:, part] = block
    np.testing.assert_array_equal(found, wanted)


def test_block_changed_by_the_caller_changes_no_update() -> None:
    updates = make_updates(3)
    kept = wide(updates)
    for _, block in updates.deltas(16):
        block[:] = 0
    np.testing.assert_array_equal(wide(updates), kept)


@pytest.fixture(params=[None, 16], ids=["one chunk", "small chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the usual chunk, and with one that the vectors do not fit in."""
    if request.param is not None:
        monkeypatch.setattr(fedrobust.federation.updates, "CHUNK", request.param)
        # `deltas` has taken the number as its default.
        monkeypatch.setattr(Updates.deltas, "__defaults__", (request.param,))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("n", [1, 2, 9])
def test_gram_and_norms_are_those_of_the_deltas_in_float64(n: int) -> None:
    updates = make_updates(n, d=83)
    deltas = np.stack([update.delta for update in updates]).astype(np.float64)
    np.testing.assert_allclose(updates.gram(), deltas @ deltas.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(updates.norms(), np.linalg.norm(deltas, axis=1), rtol=1e-12)
    assert updates.gram().dtype == np.float64 and updates.norms().shape == (n,)


def test_gram_small_updates_of_a_large_model_keep_their_digits() -> None:
    base = np.full(4096, 1000.0, np.float32)
    steps = np.array([0.25, -0.5, 0.125], np.float32)
    updates = Updates([Update(k, base + step, ClientMetrics(1), base) for k, step in enumerate(steps)])
    np.testing.assert_allclose(updates.gram(), 4096 * np.outer(steps, steps), rtol=1e-12)


def test_gram_changed_by_the_caller_changes_no_later_one() -> None:
    updates = make_updates(3)
    kept = updates.gram().copy()
    updates.gram()[:] = 0
    np.testing.assert_array_equal(updates.gram(), kept)
    np.testing.assert_array_equal(updates.norms(), np.sqrt(np.diagonal(kept)))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize(
    "weight", [[1, 1, 1, 1, 1], [0.1, 3, 0, 2, 5], [0, 0, 7, 0, 0], [1e-9, 2e-9, 0, 0, 0]]
)
def test_mean_is_the_weighted_mean_in_float64(weight: list[float]) -> None:
    updates = make_updates(5, d=83, buffers=21)
    made = updates.mean(weight)
    assert made.dtype == np.float32 and made.shape == (83,)
    wanted = np.average(wide(updates), axis=0, weights=weight).astype(np.float32)
    # Sums of float32 numbers often lie halfway between two: rounding in float64 decides then.
    np.testing.assert_array_max_ulp(made, wanted, 1)
    buffers = np.stack([update.buffers for update in updates]).astype(np.float64)
    np.testing.assert_allclose(
        updates.mean_buffers(weight), np.average(buffers, axis=0, weights=weight), rtol=1e-6
    )


def test_mean_sums_in_float64() -> None:
    # In float32 the sum of 2000 such numbers is off by far more than one last place.
    values = np.random.default_rng(0).random(2000).astype(np.float32) + 1000
    base = np.zeros(1, np.float32)
    updates = Updates([Update(k, values[k : k + 1], ClientMetrics(1), base) for k in range(2000)])
    assert updates.mean(np.ones(2000))[0] == np.float32(values.astype(np.float64).mean())


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_mean_hospital_of_weight_0_does_not_affect_it(poison: float) -> None:
    updates = list(make_updates(4, d=50, buffers=3))
    clean = Updates(updates).mean([1, 0, 2, 3]), Updates(updates).mean_buffers([1, 0, 2, 3])
    bad = np.full(50, poison, np.float32), np.full(3, poison, np.float32)
    updates[1] = replace(updates[1], parameters=bad[0], buffers=bad[1])
    poisoned = Updates(updates)
    np.testing.assert_array_equal(poisoned.mean([1, 0, 2, 3]), clean[0])
    np.testing.assert_array_equal(poisoned.mean_buffers([1, 0, 2, 3]), clean[1])
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(poisoned.mean([1, 1, 2, 3])).any()


def test_mean_of_no_buffers_is_empty() -> None:
    assert make_updates(3).mean_buffers([1, 1, 1]).shape == (0,)


def test_mean_without_a_weight_for_each_hospital_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        make_updates(3).mean([1, 1])


# --- what hospitals report


def test_reported_scalars_are_a_column() -> None:
    updates = make_updates(3, values=[{"loss": 1.5}, {"loss": 2}, {"loss": 0.25}], nodes=[2, 0, 1])
    reported = updates.reported("loss")
    assert reported.dtype == np.float64
    np.testing.assert_array_equal(reported, [2, 0.25, 1.5])


def test_reported_lists_are_a_table() -> None:
    updates = make_updates(2, values=[{"class-losses": (1.0, 2.0, 3.0)}, {"class-losses": (4.0, 5.0, 6.0)}])
    np.testing.assert_array_equal(updates.reported("class-losses"), [[1, 2, 3], [4, 5, 6]])


def test_reported_missing_value_is_nan() -> None:
    updates = make_updates(3, values=[{}, {"loss": 2.0}, {"loss": float("nan")}])
    np.testing.assert_array_equal(updates.reported("loss"), [np.nan, 2, np.nan])
    np.testing.assert_array_equal(updates.reported("no such thing"), [np.nan] * 3)
    updates = make_updates(3, values=[{}, {"class-losses": (1.0, 2.0)}, {"class-losses": (3.0, 4.0)}])
    np.testing.assert_array_equal(updates.reported("class-losses"), [[np.nan, np.nan], [1, 2], [3, 4]])


@pytest.mark.parametrize("hospital", [0, 2])
@pytest.mark.parametrize("value", [(9.0, 9.0), (9.0,), ()])
def test_reported_list_among_scalars_is_nan_for_that_hospital_only(
    hospital: int, value: tuple[float, ...]
) -> None:
    values: list[dict[str, Any]] = [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}]
    values[hospital] = {"loss": value}
    wanted = np.array([1.0, 2.0, 3.0])
    wanted[hospital] = np.nan
    np.testing.assert_array_equal(make_updates(3, values=values).reported("loss"), wanted)


@pytest.mark.parametrize("hospital", [0, 2])
@pytest.mark.parametrize("value", [9.0, (9.0,), (9.0, 9.0, 9.0), ()])
def test_reported_short_list_is_nan_for_that_hospital_only(
    hospital: int, value: float | tuple[float, ...]
) -> None:
    values: list[dict[str, Any]] = [{"class-losses": (1.0, 2.0)} for _ in range(3)]
    values[hospital] = {"class-losses": value}
    wanted = np.array([[1.0, 2.0]] * 3)
    wanted[hospital] = np.nan
    np.testing.assert_array_equal(make_updates(3, values=values).reported("class-losses"), wanted)


# --- Verdict


def test_verdict_checked_fills_missing_columns() -> None:
    verdict = Verdict([1, 2, 0]).checked(3)
    assert isinstance(verdict.weight, np.ndarray) and verdict.weight.dtype == np.float64
    np.testing.assert_array_equal(verdict.weight, [1, 2, 0])
    assert np.isnan(np.asarray(verdict.score)).all() and np.shape(verdict.score) == (3,)
    assert np.asarray(verdict.flagged).tolist() == [False] * 3 and list(verdict.why or []) == [""] * 3


def test_verdict_checked_keeps_given_columns() -> None:
    verdict = Verdict([1, 2], [0.5, -1], [0, 1], ["", "far off"]).checked(2)
    np.testing.assert_array_equal(verdict.score, [0.5, -1])
    assert np.asarray(verdict.flagged).dtype == bool and np.asarray(verdict.flagged).tolist() == [False, True]
    assert verdict.why == ["", "far off"]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict([1, 1]), r"weight has shape \(2,\), but 3 hospitals"),
        (Verdict(1.0), r"weight has shape \(\)"),
        (Verdict([[1, 1, 1]]), "weight has shape"),
        (Verdict([1, np.nan, 1]), "finite and not negative"),
        (Verdict([1, np.inf, 1]), "finite and not negative"),
        (Verdict([1, -0.1, 1]), "finite and not negative"),
        (Verdict([1, 1, 1], score=[1, 2]), r"score has shape \(2,\)"),
        (Verdict([1, 1, 1], flagged=[True]), r"flagged has shape \(1,\)"),
        (Verdict([1, 1, 1], why=["a", "b"]), r"why has shape \(2,\)"),
    ],
)
def test_verdict_of_other_length_is_refused(verdict: Verdict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verdict.checked(3)


def test_verdict_checked_is_a_copy() -> None:
    weight, score, flagged = np.array([1.0, 2.0]), np.array([0.5, 0.25]), np.array([True, False])
    checked = Verdict(weight, score, flagged).checked(2)
    # A rule may reuse its own arrays in the next round.
    weight[:], score[:], flagged[:] = 0, 0, False
    np.testing.assert_array_equal(checked.weight, [1, 2])
    np.testing.assert_array_equal(checked.score, [0.5, 0.25])
    assert np.asarray(checked.flagged).tolist() == [True, False]


# --- Defence


class Fixed(Defence):
    """Gives the weights, or the verdict, that it was made with."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def weigh(self, updates: Updates) -> Any:
        return self.given


@pytest.mark.parametrize(
    "given", [[1, 0, 3], np.array([1, 0, 3]), Verdict([1, 0, 3]), Verdict([1, 0, 3], flagged=[0, 1, 0])]
)
def test_defence_weights_become_the_weighted_mean(given: Any) -> None:
    updates = make_updates(3)
    parameters, verdict = Fixed(given).combine(updates)
    np.testing.assert_array_equal(parameters, updates.mean([1, 0, 3]))
    np.testing.assert_array_equal(verdict.weight, [1, 0, 3])
    assert np.shape(verdict.score) == np.shape(verdict.flagged) == (3,)


def test_defence_all_weights_0_keep_the_global_model() -> None:
    updates = make_updates(3)
    parameters, verdict = Fixed([0, 0, 0]).combine(updates)
    np.testing.assert_array_equal(parameters, updates.global_parameters)
    parameters[:] = 0  # a copy, not the model itself
    assert updates.global_parameters.any() and not np.any(verdict.weight)


def test_defence_weights_of_other_length_are_refused() -> None:
    with pytest.raises(ValueError, match="weight has shape"):
        Fixed([1, 1]).combine(make_updates(3))


def test_defence_leaves_the_updates_unchanged() -> None:
    updates = make_updates(4, buffers=2)
    kept = wide(updates), updates.global_parameters.copy(), updates[1].buffers.copy()
    made, _ = Fixed([1, 2, 3, 4]).combine(updates)
    made[:] = 0
    updates.gram()
    updates.mean_buffers([1, 2, 3, 4])[:] = 0
    np.testing.assert_array_equal(wide(updates), kept[0])
    np.testing.assert_array_equal(updates.global_parameters, kept[1])
    np.testing.assert_array_equal(updates[1].buffers, kept[2])


def test_defence_one_hospital_alone_is_the_new_model() -> None:
    updates = make_updates(1)
    np.testing.assert_array_equal(Fixed([5]).combine(updates)[0], updates[0].parameters)


def test_defence_without_overrides_is_an_error() -> None:
    class Empty(Defence):
        pass

    with pytest.raises(NotImplementedError, match="Empty overrides neither weigh nor combine"):
        Empty().combine(make_updates(2))
    assert Empty().state() == {} and Empty.trusts == frozenset()


def test_step_without_transform_is_an_error() -> None:
    with pytest.raises(TypeError, match="transform"):
        PreAggregation()  # type: ignore[abstract]


def test_attack_without_overrides_has_no_effect() -> None:
    attack, records, update = Attack(), make_records(), make_updates(1)[0]
    assert attack.poison_records(records) is records
    assert attack.poison_update(update) is update
    assert attack.forge_report(update.report) is update.report
    assert attack.trigger(records) is None
    assert Attack.knowledge == "own"


# --- what the defences compute with


@pytest.mark.usefixtures("chunks")
def test_updates_blocks_combinations_and_coordinates_are_the_definitions() -> None:
    updates = make_updates(4, d=83)
    deltas = np.stack([update.delta for update in updates])
    np.testing.assert_array_equal(updates.block(slice(3, 40)), deltas[:, 3:40])
    np.testing.assert_array_equal(updates.block(slice(3, 40), absolute=True), wide(updates)[:, 3:40])
    np.testing.assert_array_equal(updates.take(np.array([5, 80, 2])), deltas[:, [5, 80, 2]])
    made = updates.combination([0.5, 0, -1, 0.1])
    wanted = updates.global_parameters + np.array([0.5, 0, -1, 0.1]) @ deltas.astype(np.float64)
    np.testing.assert_allclose(made, wanted, atol=1e-6)
    np.testing.assert_array_equal(
        updates.by_coordinate(lambda block: block.max(axis=0)), wide(updates).max(axis=0)
    )
    moved = updates.by_coordinate(lambda block: block.max(axis=0), absolute=False)
    np.testing.assert_allclose(moved, updates.global_parameters + deltas.max(axis=0), atol=1e-6)


@pytest.mark.usefixtures("chunks")
def test_norms_before_and_after_gram_are_the_same() -> None:
    first, second = make_updates(5, d=83), make_updates(5, d=83)
    second.gram()
    np.testing.assert_allclose(first.norms(), second.norms(), rtol=1e-14)


def test_combination_that_sums_to_1_leaves_the_global_model_out() -> None:
    updates = list(make_updates(3, d=20))
    base = np.full(20, np.inf, np.float32)
    with np.errstate(invalid="ignore"):
        lost = Updates([replace(update, global_parameters=base) for update in updates])
        np.testing.assert_allclose(
            lost.combination([0.1, 0.2, 0.7]), Updates(updates).mean([1, 2, 7]), rtol=1e-6
        )


def test_check_by_default_accepts_any_number() -> None:
    Defence().check(1)

    class Same(PreAggregation):
        def transform(self, updates: Updates) -> Updates:
            return updates

    assert Same().check(7) == 7


def test_trace_of_plain_updates_returns_the_verdict() -> None:
    verdict = Verdict([1, 2, 3])
    assert make_updates(3).trace(verdict) is verdict

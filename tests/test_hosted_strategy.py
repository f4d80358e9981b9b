"""The Flower strategy that hosts defences, beside Flower's own on the same messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from federations import Unordered, fake_app
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg
from flwr.serverapp.strategy import FedMedian, Strategy

from fedrobust.engines.local import LocalGrid
from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Updates, Verdict
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.compat import identify_process
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy, is_buffer
from fedrobust.pipeline.pipeline import Pipeline
from strategies.fedavg import FedAvg

MODEL = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer.bias": np.zeros(2, np.float32),
    "norm.running_mean": np.zeros(3, np.float32),
    "norm.num_batches_tracked": np.array(7, np.int64),
}


Behaviour = Callable[[dict[str, np.ndarray], int], Any]


def one_round(
    strategy: Strategy, hospitals: int = 5, instead: Mapping[int, Behaviour] | None = None
) -> dict[str, np.ndarray]:
    """Run one round in which every hospital adds noise of its own and claims 10 * (1 + number) images."""

    def behaviour(arrays: dict[str, np.ndarray], number: int) -> Any:
        if instead and number in instead:
            return instead[number](arrays, number)
        draw = np.random.default_rng(number)
        moved = {
            name: value + draw.standard_normal(value.shape).astype(np.float32)
            if value.dtype.kind == "f"
            else np.asarray(value + 100 * number)
            for name, value in arrays.items()
        }
        return moved, {"num-examples": 10 * (1 + number)}

    arrays = ArrayRecord({name: Array(value) for name, value in MODEL.items()})
    client_grid = ClientGrid(Unordered(fake_app(behaviour), hospitals), hospitals)
    client_grid.discover()
    client_grid.set_expected_shapes(arrays)
    messages = strategy.configure_train(1, arrays, ConfigRecord({"lr": 0.1}), client_grid)
    fresh, metrics = strategy.aggregate_train(1, client_grid.send_and_receive(messages))
    assert fresh is not None and metrics is not None
    return {name: array.numpy() for name, array in fresh.items()}


def test_fedavg_agrees_with_flower_fedavg_and_keeps_counters() -> None:
    ours, flowers = (
        one_round(HostedStrategy(Pipeline(FedAvg()))),
        one_round(FlowerFedAvg(fraction_evaluate=0.0)),
    )
    for name in ("layer.weight", "layer.bias", "norm.running_mean"):
        np.testing.assert_allclose(ours[name], flowers[name], rtol=1e-6)
        assert ours[name].dtype == np.float32 and ours[name].shape == MODEL[name].shape
    assert ours["norm.num_batches_tracked"] == 7


def test_distances_see_parameters_only() -> None:
    seen: list[Updates] = []

    class Look(Defence):
        def weigh(self, updates: Updates) -> Verdict:
            seen.append(updates)
            return Verdict(np.ones(len(updates)))

    one_round(HostedStrategy(Pipeline(Look())))
    assert seen[0].nodes == (0, 1, 2, 3, 4)
    assert seen[0][0].parameters.shape == (8,)
    assert seen[0][0].buffers.shape == (3,)
    assert [u.report.num_examples for u in seen[0]] == [10, 20, 30, 40, 50]


def test_running_statistics_follow_the_weights() -> None:
    class OnlyTwo(Defence):
        def weigh(self, updates: Updates) -> list[float]:
            return [1.0 if node == 2 else 0.0 for node in updates.nodes]

    draw = np.random.default_rng(2)
    expected = {
        n: v + draw.standard_normal(v.shape).astype(np.float32)
        for n, v in MODEL.items()
        if v.dtype.kind == "f"
    }
    got = one_round(HostedStrategy(Pipeline(OnlyTwo())))
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6)


def at_minus_500(arrays: dict[str, np.ndarray], number: int) -> Any:
    """Leave the parameters, and forge the running statistics."""
    return {n: v - np.float32(500) if "running" in n else v for n, v in arrays.items()}, {}


@pytest.mark.parametrize("spec", ["median", "trimmed-mean(f=1)", "nnm(f=1) | median"])
def test_coordinate_rule_resists_the_running_statistics_of_one_hospital(
    spec: str,
) -> None:
    honest = one_round(build_strategy(spec, 5))["norm.running_mean"]
    forged = one_round(build_strategy(spec, 5), instead={3: at_minus_500})["norm.running_mean"]
    assert np.abs(forged - honest).max() < 5
    carried = one_round(HostedStrategy(Pipeline(FedAvg())), instead={3: at_minus_500})["norm.running_mean"]
    assert np.abs(carried).min() > 40


def test_the_median_of_running_statistics_is_that_of_each() -> None:
    drawn = [np.random.default_rng(number) for number in range(5)]
    rows = [{n: d.standard_normal(v.shape) for n, v in MODEL.items() if v.dtype.kind == "f"} for d in drawn]
    sent = np.array([row["norm.running_mean"] for row in rows])
    for spec, wanted in (
        ("median", np.median(sent, axis=0)),
        ("trimmed-mean(f=1)", np.sort(sent, axis=0)[1:4].mean(axis=0)),
    ):
        np.testing.assert_allclose(one_round(build_strategy(spec, 5))["norm.running_mean"], wanted, rtol=1e-5)


def test_numbers_of_another_type_are_numbers() -> None:
    def whole(arrays: dict[str, np.ndarray], number: int) -> Any:
        return {n: np.asarray(v + 1).astype(np.int64) for n, v in arrays.items()}, {"num-examples": 20}

    seen: list[Updates] = []

    class Look(Defence):
        def weigh(self, updates: Updates) -> Verdict:
            seen.append(updates)
            return Verdict(np.ones(len(updates)))

    one_round(HostedStrategy(Pipeline(Look())), instead={1: whole})
    np.testing.assert_array_equal(seen[0][1].parameters, [1, 2, 3, 4, 5, 6, 1, 1])
    np.testing.assert_array_equal(seen[0][1].buffers, [1, 1, 1])


def test_a_claimed_loss_that_is_no_number_leaves_the_others_mean() -> None:
    strategy = HostedStrategy(Pipeline(FedAvg()))
    said: list[Any] = []
    aggregate = strategy.aggregate_train

    def keep(number: int, replies: Any) -> Any:
        said.append(aggregate(number, replies))
        return said[-1]

    strategy.aggregate_train = keep  # type: ignore[method-assign]
    one_round(strategy, instead={0: lambda arrays, number: (arrays, {"loss": float("nan")})})
    assert said[0][1]["loss"] == 1.0


def test_no_weight_at_all_keeps_the_model() -> None:
    class Nobody(Defence):
        def weigh(self, updates: Updates) -> Verdict:
            return Verdict(np.zeros(len(updates)))

    got = one_round(HostedStrategy(Pipeline(Nobody())))
    for name, value in MODEL.items():
        np.testing.assert_array_equal(got[name], value)


def test_steps_come_before_the_defence() -> None:
    class Freeze(PreAggregation):
        def transform(self, updates: Updates) -> Updates:
            return Updates([u.with_delta(np.zeros_like(u.parameters)) for u in updates], updates.seed)

    got = one_round(HostedStrategy(Pipeline(FedAvg(), (Freeze(),))))
    np.testing.assert_array_equal(got["layer.weight"], MODEL["layer.weight"])


@pytest.mark.parametrize("weight", [[1.0], [-1.0] * 5, [float("nan")] * 5])
def test_an_impossible_verdict_is_refused(weight: list[float]) -> None:
    class Wrong(Defence):
        def weigh(self, updates: Updates) -> Verdict:
            return Verdict(weight)

    with pytest.raises(ValueError, match="weight"):
        one_round(HostedStrategy(Pipeline(Wrong())))


def test_build_strategy() -> None:
    assert isinstance(build_strategy("feddetect(warm_up=2)", 10), HostedStrategy)
    plain = build_strategy("flwr.serverapp.strategy:FedMedian", 10)
    assert type(plain) is FedMedian
    assert plain.fraction_evaluate == 0.0
    assert build_strategy("flwr.serverapp.strategy:FedMedian", 1).min_train_nodes == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="did you mean 'warm_up'"):
        build_strategy("feddetect(warmup=2)", 10)
    with pytest.raises(UserError, match="pipeline"):
        build_strategy("fedavg | feddetect", 10)
    with pytest.raises(UserError, match="did you mean 'feddetect'"):
        build_strategy("feddetct", 10)


@pytest.mark.parametrize(
    ("name", "dtype", "buffer"),
    [
        ("parameters", "float32", False),
        ("buffers", "float32", True),
        ("bn.running_var", "float32", True),
        ("bn.num_batches_tracked", "int64", True),
        ("bn.weight", "float32", False),
        ("running_mean_head.weight", "float32", False),
    ],
)
def test_is_buffer(name: str, dtype: str, buffer: bool) -> None:
    assert is_buffer(name, dtype) is buffer


@pytest.mark.parametrize(
    "step", ["nnm(f=1)", "bucketing", "clipping(c=0.5)", "arc(f=2)", "bucketing | nnm(f=1)"]
)
def test_after_a_step_the_verdict_is_on_the_hospitals(step: str) -> None:
    strategy = build_strategy(f"{step} | multi-krum(f=0, m=2)", 6)
    assert isinstance(strategy, HostedStrategy)
    fresh = one_round(strategy, hospitals=6)
    assert strategy.verdict is not None and strategy.nodes == tuple(range(6))
    weight = np.asarray(strategy.verdict.weight)
    assert weight.shape == (6,) and weight.any() and np.shape(strategy.verdict.flagged) == (6,)
    # Running statistics are the mean of the hospitals' own, with those weights.
    sent = []
    for number in range(6):
        draw = np.random.default_rng(number)
        sent.append(
            [draw.standard_normal(v.shape).astype(np.float32) for v in MODEL.values() if v.dtype.kind == "f"]
        )
    statistics = np.average([vectors[2] for vectors in sent], axis=0, weights=weight)
    np.testing.assert_allclose(fresh["norm.running_mean"], statistics, atol=1e-6)


class Rated(Defence):
    """A defence that takes a false flag rate."""

    def __init__(self, false_flag_rate: float = 0.01, other: str = "x") -> None:
        self.false_flag_rate, self.other = false_flag_rate, other

    def weigh(self, updates: Updates) -> Verdict:
        return Verdict(np.ones(len(updates)))


@pytest.mark.parametrize(
    ("options", "rate", "wanted"),
    [
        ("", None, (0.01, "x")),
        ("", 0.2, (0.2, "x")),
        ("(other='a | b')", 0.2, (0.2, "a | b")),
        ("(false_flag_rate=0.3)", 0.2, (0.3, "x")),
    ],
)
@pytest.mark.parametrize("steps", ["", "clipping(c=3) | "])
def test_a_false_flag_rate_reaches_the_last_step(
    steps: str, options: str, rate: float | None, wanted: tuple[float, str]
) -> None:
    spec = f"{steps}test_hosted_strategy:Rated{options}"
    strategy = build_strategy(spec, 5, 0, rate)
    assert isinstance(strategy, HostedStrategy)
    assert (strategy.defence.false_flag_rate, strategy.defence.other) == wanted  # type: ignore[attr-defined]
    # Messages name what the user wrote.
    assert strategy.monitor.names[-1] == f"test_hosted_strategy:Rated{options}"


@pytest.mark.parametrize("spec", ["krum", "clipping | median", "flwr.serverapp.strategy:FedMedian"])
def test_false_flag_rate_that_no_step_takes_is_refused(spec: str) -> None:
    build_strategy(spec, 5)
    with pytest.raises(
        UserError, match="--false-flag-rate 0.2: strategy '.*' has no option false_flag_rate"
    ) as caught:
        build_strategy(spec, 5, false_flag_rate=0.2)
    assert "\n" not in str(caught.value)


def test_the_default_strategy_takes_a_false_flag_rate() -> None:
    strategy = build_strategy("isolation-forest", 5, false_flag_rate=0.2)
    assert isinstance(strategy, HostedStrategy)
    assert strategy.defence.false_flag_rate == 0.2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spec", ["test_hosted_strategy:WritesHere", "test_hosted_strategy:ShrinksHere | median"]
)
def test_rule_cannot_write_to_the_received_updates(spec: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        one_round(build_strategy(spec, 5))


class WritesHere(Defence):
    def weigh(self, updates: Updates) -> Verdict:
        for update in updates:
            update.parameters[:] *= 0.5
        return Verdict(np.ones(len(updates)))


class ShrinksHere(PreAggregation):
    def transform(self, updates: Updates) -> Updates:
        for update in updates:
            update.parameters[:] = update.global_parameters
        return updates


class Returns(Defence):
    """Returns what a test wants."""

    def __init__(self, what: str = "") -> None:
        self.what = what

    def combine(self, updates: Updates) -> Any:
        mean, verdict = updates.mean(np.ones(len(updates))), Verdict(np.ones(len(updates)))
        return {
            "long": (np.concatenate([mean, np.zeros(7)]), verdict),
            "short": (mean[:-1], verdict),
            "stacked": (np.stack([mean]), verdict),
            "complex": (mean + 1j, verdict),
            "texts": (["a"] * len(mean), verdict),
            "bare": mean,
            "weights": (mean, np.ones(len(updates))),
            "list": (mean.tolist(), verdict),
        }[self.what]


class Drops(PreAggregation):
    """Leaves out a hospital."""

    def transform(self, updates: Updates) -> Updates:
        return Updates(list(updates)[1:])


class Looks(PreAggregation):
    """Checks and says nothing."""

    def check(self, hospitals: int) -> Any:
        assert hospitals > 3, "too few"

    def transform(self, updates: Updates) -> Updates:
        return updates


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "Returns(what=long)",
            r"Returns: combine returned parameters of shape \(15,\).*but the model has 8 real numbers",
        ),
        ("Returns(what=short)", r"Returns: combine returned parameters of shape \(7,\)"),
        ("Returns(what=stacked)", r"Returns: combine returned parameters of shape \(1, 8\)"),
        ("Returns(what=complex)", "type complex"),
        ("Returns(what=texts)", "type <U1"),
        ("Returns(what=bare)", "Returns: combine must return the new parameters and a Verdict"),
        ("Returns(what=weights)", "Returns: combine must return the new parameters and a Verdict"),
        (
            "Drops | median",
            r"Drops: transform returned the updates of the hospitals \[1, 2, 3, 4\] for those of \[0, 1",
        ),
    ],
)
def test_invalid_return_value_of_a_part_is_refused(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        one_round(build_strategy(f"test_hosted_strategy:{spec}", 5))


def test_a_list_of_numbers_will_do() -> None:
    listed = one_round(build_strategy("test_hosted_strategy:Returns(what=list)", 5))
    for name, value in one_round(build_strategy("multi-krum(f=0)", 5)).items():
        np.testing.assert_array_equal(listed[name], value)


@pytest.mark.parametrize("rest", ["krum", "nnm | multi-krum", "median"])
def test_step_whose_check_returns_nothing_keeps_the_number_of_hospitals(rest: str) -> None:
    one_round(build_strategy(f"test_hosted_strategy:Looks | {rest}", 5))
    with pytest.raises(
        UserError, match=r"Looks: check fails: AssertionError: too few .*test_hosted_strategy.py, line \d+"
    ):
        build_strategy(f"test_hosted_strategy:Looks | {rest}", 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("min_available_nodes=20", r"waits for min_available_nodes=20 hospitals, but there are 5"),
        ("min_train_nodes=6", r"waits for min_train_nodes=6 hospitals, but there are 5"),
        ("fraction_evaluate=0.5, min_evaluate_nodes=9", r"min_evaluate_nodes=9 hospitals, but there are 5"),
    ],
)
def test_a_flower_strategy_that_waits_for_more_hospitals_than_there_are_is_refused(
    options: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        build_strategy(f"flwr.serverapp.strategy:FedAvg({options})", 5)


class OwnConstructor(FlowerFedAvg):
    """A strategy with a constructor of its own, which takes no option of FedAvg's."""

    def __init__(self, warm_up: int = 1) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.warm_up = warm_up


class OwnStart(FlowerFedAvg):
    """A strategy that runs the rounds itself."""

    def start(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


def test_a_flower_strategy_of_the_users_own_is_built_with_the_options_that_it_takes() -> None:
    built = build_strategy("test_hosted_strategy:OwnConstructor(warm_up=3)", 5)
    assert isinstance(built, OwnConstructor) and built.warm_up == 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("test_hosted_strategy:OwnStart", r"has a start\(\) of its own, which a run here would not call"),
        ("flwr.serverapp.strategy:FedXgbBagging", "joins trees, which no learner here trains"),
    ],
)
def test_a_flower_strategy_that_cannot_run_here_is_refused(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_strategy(spec, 5)


def test_update_of_a_node_without_a_number_belongs_to_its_sender() -> None:
    identify_process()
    strategy = build_strategy("fedavg", 3)
    assert isinstance(strategy, HostedStrategy)
    arrays = ArrayRecord({name: Array(value) for name, value in MODEL.items()})
    grid = LocalGrid(fake_app(lambda a, number: (a, {})), 3)
    messages = list(strategy.configure_train(1, arrays, ConfigRecord({"lr": 0.1}), grid))
    replies = list(grid.send_and_receive(messages))
    for reply in replies:
        del reply.content["hospital"]
    strategy.aggregate_train(1, replies[2:])
    assert strategy.nodes == (2,)

"""Defences and attacks in somebody else's Flower app: its own model, data, names and metrics."""

from __future__ import annotations

import logging
import pickle
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import Unordered
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Result

import fedrobust
from fedrobust.engines.local import LocalGrid
from fedrobust.errors import UserError
from fedrobust.federation import Attack, ClientMetrics, GradientHook, Update
from fedrobust.flower.apps.checked_strategy import AppStrategy

#: What a node's reply becomes: gets the honest content and the node's partition id, may raise.
Twist = Callable[[RecordDict, int], RecordDict]


def model() -> torch.nn.Sequential:
    """Return somebody's model: running statistics, an integer counter, float16 and float64 beside float32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3))
    net[0].half()
    net[2].double()
    return net


def start() -> ArrayRecord:
    return ArrayRecord(model().state_dict())


def trained(arrays: ArrayRecord, number: int) -> ArrayRecord:
    """Return what a node makes of a model: nearly the same step for all, the counter counts."""
    draw = np.random.default_rng(number)
    moved = {}
    for name, array in arrays.items():
        values = array.numpy()
        step = 0.5 + 0.05 * draw.standard_normal(values.shape)
        moved[name] = (values + (step if values.dtype.kind == "f" else number + 1)).astype(values.dtype)
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in moved.items()})


def app(
    twist: Twist | None = None, *, judge: Twist | None = None, mods: Sequence[Any] = (), named: bool = True
) -> ClientApp:
    """Return a ClientApp as Flower's tutorials write it; `named` nodes say their partition id.

    `twist` changes replies to training, `judge` those to evaluation.
    """
    made = ClientApp(mods=list(mods))

    @made.train()
    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        assert message.content["config"]["lr"] == 0.1
        metrics: dict[str, Any] = {"train_loss": 1.0 + number, "num-examples": 10 * (1 + number)}
        if named:
            metrics["partition-id"] = number
        content = RecordDict(
            {"arrays": trained(message.content["arrays"], number), "metrics": MetricRecord(metrics)}
        )
        return Message(twist(content, number) if twist else content, reply_to=message)

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        metrics: dict[str, Any] = {"eval_loss": float(number), "num-examples": 10 * (1 + number)}
        content = RecordDict({"metrics": MetricRecord(metrics)})
        return Message(judge(content, number) if judge else content, reply_to=message)

    return made


def run(
    strategy: Any,
    client: ClientApp | None = None,
    *,
    nodes: int = 6,
    rounds: int = 1,
    arrays: ArrayRecord | None = None,
    grid: type[LocalGrid] = Unordered,
) -> Result:
    return strategy.start(
        grid=grid(client or app(), nodes),
        initial_arrays=arrays or start(),
        num_rounds=rounds,
        train_config=ConfigRecord({"lr": 0.1}),
    )


def numbers(arrays: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in arrays.items()}


def test_fedavg_equals_flower_fedavg_but_for_counters() -> None:
    ours, flowers = run(fedrobust.strategy("fedavg"), rounds=3), run(FedAvg(), rounds=3)
    before, mine, theirs = numbers(start()), numbers(ours.arrays), numbers(flowers.arrays)
    assert list(mine) == list(theirs) == list(before)
    for name, value in mine.items():
        assert value.dtype == before[name].dtype and value.shape == before[name].shape
        if name.endswith("num_batches_tracked"):
            assert value == before[name]
        else:
            np.testing.assert_allclose(value, theirs[name], rtol=2e-3 if value.dtype == np.float16 else 1e-6)
    for ours_said, theirs_said in (
        (ours.train_metrics_clientapp, flowers.train_metrics_clientapp),
        (ours.evaluate_metrics_clientapp, flowers.evaluate_metrics_clientapp),
    ):
        assert list(ours_said) == list(theirs_said) == [1, 2, 3]
        for name in ("train_loss", "eval_loss"):
            for one, other in zip(ours_said.values(), theirs_said.values(), strict=True):
                assert (name in one) == (name in other)
                np.testing.assert_allclose(one.get(name, 0), other.get(name, 0))
    assert "partition-id" not in ours.train_metrics_clientapp[1]


def test_the_verdict_is_in_the_metrics_and_finds_the_attacker() -> None:
    client = app(mods=[fedrobust.attack("sign-flip", nodes=[4])])
    strategy = fedrobust.strategy("multi-krum(f=1)")
    said = run(strategy, client, rounds=2).train_metrics_clientapp[2]
    assert said["hospitals"] == [0, 1, 2, 3, 4, 5]
    assert said["flagged"] == [0, 0, 0, 0, 1, 0]
    assert said["weights"] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.0, 0.2])
    assert int(np.argmax(said["scores"])) == 4
    assert strategy.verdict is not None and strategy.nodes == (0, 1, 2, 3, 4, 5) and strategy.failures == []


def test_a_pipeline_and_a_file_of_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app(mods=[fedrobust.attack("gaussian(std=9)", nodes=[1])])
    piped = run(fedrobust.strategy("nnm | krum(f=1)"), client)
    assert piped.train_metrics_clientapp[1]["weights"][1] == 0
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "only_last.py").write_text(
        "from fedrobust.federation import Defence\n\n\nclass OnlyLast(Defence):\n"
        "    def weigh(self, updates):\n        return [n == max(updates.nodes) for n in updates.nodes]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = run(fedrobust.strategy("only-last"))
    expected = numbers(trained(start(), 5))
    for name, value in numbers(mine.arrays).items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(
                value, expected[name], rtol=1e-3 if value.dtype == np.float16 else 1e-6
            )


def test_a_list_of_arrays_has_numbers_for_names() -> None:
    arrays = ArrayRecord([np.zeros((2, 3), np.float32), np.ones(4, np.float64)])
    result = run(fedrobust.strategy("median"), arrays=arrays)
    assert list(result.arrays) == ["0", "1"]
    expected = np.median([trained(arrays, number)["1"].numpy() for number in range(6)], axis=0)
    np.testing.assert_allclose(result.arrays["1"].numpy(), expected, rtol=1e-6)


def test_model_of_integers_is_refused() -> None:
    arrays = ArrayRecord([np.array([[0, 0, 0]]), np.array([0])])
    with pytest.raises(UserError, match="no floating-point numbers, so there is nothing to aggregate"):
        run(fedrobust.strategy("fedavg"), arrays=arrays)


def test_array_of_integers_that_nodes_train_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrays = ArrayRecord([np.zeros((1, 3)), np.array([0])])
    client = app(lambda content, _: _changed(content, "1", np.array([0.5])))
    with caplog.at_level(logging.WARNING):
        result = run(fedrobust.strategy("fedavg"), client, arrays=arrays, rounds=2)
    logged = [line for line in caplog.messages if "'1' holds integers" in line]
    assert len(logged) == 1 and "give initial_arrays of floats" in logged[0]
    assert result.arrays["1"].numpy() == [0] and result.arrays["0"].numpy().all()


def test_arrays_of_the_other_byte_order_are_trained() -> None:
    arrays = ArrayRecord({"a": Array(np.zeros(3, ">f4"))})
    result = run(fedrobust.strategy("median"), arrays=arrays)
    expected = np.median([trained(arrays, number)["a"].numpy() for number in range(6)], axis=0)
    np.testing.assert_allclose(result.arrays["a"].numpy(), expected, rtol=1e-6)
    assert result.arrays["a"].dtype == ">f4"


def _changed(content: RecordDict, name: str, values: np.ndarray) -> RecordDict:
    content["arrays"][name] = Array(values)
    return content


def _crash(content: RecordDict) -> RecordDict:
    raise RuntimeError("no disk")


def _metric(content: RecordDict, **values: Any) -> RecordDict:
    content["metrics"].update({name.replace("_", "-"): value for name, value in values.items()})
    return content


def _without(content: RecordDict, record: str, name: str) -> RecordDict:
    del content[record][name]
    return content


def _unreadable(content: RecordDict) -> RecordDict:
    content["arrays"]["2.bias"] = Array("float64", (3,), "numpy.ndarray", b"rubbish")
    return content


def _lying_shape(content: RecordDict) -> RecordDict:
    array = Array(np.zeros(2))
    content["arrays"]["2.bias"] = Array(array.dtype, (3,), array.stype, array.data)
    return content


FAULTS: dict[str, tuple[Callable[[RecordDict], RecordDict], str]] = {
    "crash": (_crash, "no disk"),
    "nan": (lambda c: _changed(c, "2.bias", np.full(3, np.nan)), "NaN"),
    "infinite statistics": (lambda c: _changed(c, "1.running_var", np.full(6, np.inf, np.float32)), "NaN"),
    "shape": (lambda c: _changed(c, "2.bias", np.zeros(4)), "shapes"),
    "another name": (lambda c: _changed(c, "more", np.zeros(4)), "names"),
    "a name less": (lambda c: _without(c, "arrays", "2.bias"), "names"),
    "text": (lambda c: _changed(c, "2.bias", np.array(["a", "b", "c"])), "not numbers"),
    "huge": (lambda c: _changed(c, "2.bias", np.full(3, 1e30)), "absurdly"),
    "beyond float32": (lambda c: _changed(c, "2.bias", np.full(3, 1e300)), "absurdly"),
    "unreadable": (_unreadable, "cannot be read"),
    "lying shape": (_lying_shape, "holds"),
    "no arrays": (lambda c: RecordDict({"metrics": c["metrics"]}), "exactly one ArrayRecord"),
    "no metrics": (lambda c: RecordDict({"arrays": c["arrays"]}), "one MetricRecord"),
    "no size": (lambda c: _without(c, "metrics", "num-examples"), "num-examples"),
    "size zero": (lambda c: _metric(c, num_examples=0), "num-examples"),
    "size nan": (lambda c: _metric(c, num_examples=float("nan")), "num-examples"),
    "size list": (lambda c: _metric(c, num_examples=[1, 2]), "num-examples"),
    "another metric": (lambda c: _metric(c, more=1.0), "metrics"),
    "a metric less": (lambda c: _without(c, "metrics", "train_loss"), "metrics"),
}


@pytest.mark.parametrize("spec", ["median", "flwr.serverapp.strategy:FedAvg"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_node_the_round(fault: str, spec: str, caplog: pytest.LogCaptureFixture) -> None:
    change, words = FAULTS[fault]

    def twist(content: RecordDict, number: int) -> RecordDict:
        return change(content) if number == 2 else content

    strategy = fedrobust.strategy(spec)
    with caplog.at_level(logging.WARNING, "flwr"):
        result = run(strategy, app(twist))
    assert strategy.nodes == (0, 1, 3, 4, 5)
    assert [failure.client for failure in strategy.failures] == [3] and words in strategy.failures[0].reason
    warned = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "round 1" in r.getMessage()
    ]
    assert len(warned) == 1 and "node 3" in warned[0] and words in warned[0]
    assert all(np.isfinite(value).all() for value in numbers(result.arrays).values())
    assert not np.array_equal(result.arrays["2.bias"].numpy(), start()["2.bias"].numpy())


def test_round_without_usable_replies_keeps_the_model() -> None:
    strategy = fedrobust.strategy("median")
    kept = start()
    messages = strategy.configure_train(
        1, kept, ConfigRecord({"lr": 0.1}), grid := LocalGrid(app(lambda c, _: _crash(c)), 4)
    )
    assert strategy.aggregate_train(1, grid.send_and_receive(messages)) == (None, None)
    assert len(strategy.failures) == 4 and strategy.verdict is None


class Flaky(LocalGrid):
    """Loses node 1's reply and brings node 2's twice."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        return [*replies[1:], *replies[1:2]]


def test_a_missing_and_a_doubled_reply(caplog: pytest.LogCaptureFixture) -> None:
    strategy = fedrobust.strategy("median", fraction_evaluate=0)
    with caplog.at_level(logging.WARNING, "flwr"):
        strategy.start(Flaky(app(), 5), start(), num_rounds=1, train_config=ConfigRecord({"lr": 0.1}))
    assert len(strategy.nodes) == 4
    assert [failure.reason for failure in strategy.failures] == ["no reply in time"]
    assert any("replies twice" in record.getMessage() for record in caplog.records)


class SuperLinkAnswers(LocalGrid):
    """Answers for node 3 as a SuperLink does when a node is gone: under another sender."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        asked = list(messages)
        for place, message in enumerate(asked):
            message.metadata.__dict__["_message_id"] = f"m{place}"
        replies = list(super().send_and_receive(asked, timeout=timeout))
        for reply in replies:
            if reply.has_error():
                reply.metadata.__dict__["_src_node_id"] = 1
        return replies


def test_an_error_that_the_superlink_sends_is_named_by_the_node_that_was_asked() -> None:
    def twist(content: RecordDict, number: int) -> RecordDict:
        return _crash(content) if number == 2 else content

    strategy = fedrobust.strategy("median")
    run(strategy, app(twist), grid=SuperLinkAnswers)
    assert [failure.client for failure in strategy.failures] == [3] and strategy.nodes == (0, 1, 3, 4, 5)


def test_federated_evaluation_survives_faults_and_can_be_left_out() -> None:
    def judge(content: RecordDict, number: int) -> RecordDict:
        if number == 0:
            raise RuntimeError("no data")
        return _without(content, "metrics", "num-examples") if number == 1 else content

    broken = app(judge=judge)
    said = run(fedrobust.strategy("median"), broken).evaluate_metrics_clientapp[1]
    weights = np.array([30, 40, 50, 60])
    assert said["eval_loss"] == pytest.approx((weights * [2, 3, 4, 5]).sum() / weights.sum())
    quiet = run(fedrobust.strategy("median", fraction_evaluate=0.0), broken)
    assert not quiet.evaluate_metrics_clientapp


def test_the_options_of_fedavg() -> None:
    strategy = fedrobust.strategy(
        "median",
        fraction_train=0.5,
        train_metrics_aggr_fn=lambda contents, key: MetricRecord({"n": len(contents)}),
    )
    said = run(strategy).train_metrics_clientapp[1]
    assert said["n"] == 3 and len(said["hospitals"]) == 3
    plain = fedrobust.strategy("flwr.serverapp.strategy:FedMedian(fraction_train=0.5)", min_train_nodes=4)
    run(plain)
    assert len(plain.nodes) == 4 and plain.verdict is None
    keyed = fedrobust.strategy("fedavg", weighted_by_key="train_loss")
    assert run(keyed).train_metrics_clientapp[1]["weights"] == pytest.approx(np.arange(1, 7) / 21)


def test_repeated_runs_give_the_same_bits_whatever_the_global_generators_say() -> None:
    results = []
    for seed in (1, 2):
        random.seed(seed)
        client = app(mods=[fedrobust.attack("gaussian", nodes=[0], seed=3)])
        before = random.getstate()
        results.append(run(fedrobust.strategy("bucketing | median", fraction_train=0.7), client, rounds=3))
        assert random.getstate() == before
    for name, value in numbers(results[0].arrays).items():
        assert value.tobytes() == results[1].arrays[name].numpy().tobytes()
    assert str(results[0].train_metrics_clientapp) == str(results[1].train_metrics_clientapp)


def test_replies_in_any_order_give_the_same_bits() -> None:
    client = app(mods=[fedrobust.attack("gaussian", nodes=[0])])
    one, other = (run(fedrobust.strategy("fedavg"), client, grid=grid) for grid in (LocalGrid, Unordered))
    for name, value in numbers(one.arrays).items():
        assert value.tobytes() == other.arrays[name].numpy().tobytes()


def test_nodes_that_do_not_say_a_partition_id_go_by_their_own_id() -> None:
    strategy = fedrobust.strategy("median")
    run(strategy, app(named=False))
    assert strategy.nodes == (1, 2, 3, 4, 5, 6)


def test_a_stolen_partition_id_costs_its_owner_nothing() -> None:
    def twist(content: RecordDict, number: int) -> RecordDict:
        # Node 2 says that it is number 0, in each round.
        return _metric(content, partition_id=0) if number == 1 else content

    strategy = fedrobust.strategy("fldetector(window=1)")
    result = run(strategy, app(twist), rounds=4)
    assert strategy.failures == [] and len(set(strategy.nodes)) == 6
    assert {2, 3, 4, 5} < set(strategy.nodes)
    said = [result.train_metrics_clientapp[number]["hospitals"] for number in (1, 4)]
    assert said[0] == said[1]


def test_history_is_kept_by_partition_id() -> None:
    def twist(content: RecordDict, number: int) -> RecordDict:
        content["metrics"]["train_loss"] = 50.0 if number == 3 else 1.0 + 0.01 * number
        return content

    strategy = fedrobust.strategy("isolation-forest")
    said = run(strategy, app(twist), nodes=8, rounds=5).train_metrics_clientapp[5]
    assert said["hospitals"][said["flagged"].index(1)] == 3 and sum(said["flagged"]) == 1
    assert strategy.verdict is not None and "robust z-score" in list(strategy.verdict.why or ())[3]


def test_rule_on_losses_warns_when_no_node_reports_any(caplog: pytest.LogCaptureFixture) -> None:
    def twist(content: RecordDict, number: int) -> RecordDict:
        return _without(content, "metrics", "train_loss")

    with caplog.at_level(logging.WARNING, "flwr"):
        run(fedrobust.strategy("isolation-forest"), app(twist))
    assert any("none reports" in record.getMessage() for record in caplog.records)


def test_a_fraction_that_draws_too_few_nodes_is_named() -> None:
    strategy = fedrobust.strategy("multi-krum(f=2)", fraction_train=0.5, min_available_nodes=8)
    with pytest.raises(UserError, match=r"\(fraction_train=0.5 draws 4 of 8 nodes for round 1; raise it"):
        run(strategy, nodes=8)


def test_a_metric_that_is_nan_at_one_node_is_the_mean_of_the_others() -> None:
    def twist(content: RecordDict, number: int) -> RecordDict:
        content["metrics"]["train_loss"] = float("nan") if number == 1 else 1.0
        return content

    metrics = run(fedrobust.strategy("median"), app(twist)).train_metrics_clientapp[1]
    assert metrics["train_loss"] == pytest.approx(1.0)


def test_a_complex_array_is_named_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    arrays = ArrayRecord({"a": Array(np.zeros(3)), "b": Array(np.zeros(2, np.complex64))})
    with caplog.at_level(logging.WARNING):
        result = run(fedrobust.strategy("fedavg"), arrays=arrays)
    assert any("array 'b' holds complex numbers (complex64)" in line for line in caplog.messages)
    assert result.arrays["a"].numpy().all() and not result.arrays["b"].numpy().any()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("krum(f=3)", r"f.*6 nodes; if more are to come"),
        ("nnm(f=4) | median", r"6 nodes"),
    ],
)
def test_options_are_held_against_the_number_of_nodes(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(fedrobust.strategy(spec))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("krumm", "did you mean 'krum'"),
        ("median(x=1)", "no option 'x'"),
        ("fedavg | median", "a pipeline is"),
        ("fltrust", r"needs labelled images .* server="),
        ("zeno", r"needs labelled images .* server="),
    ],
)
def test_mistake_in_a_strategy_is_refused_at_once(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fedrobust.strategy(spec)


def test_an_option_that_a_flower_strategy_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "narrow_minded.py").write_text(
        "from flwr.serverapp.strategy import FedAvg\n\n\nclass Narrow(FedAvg):\n"
        "    def __init__(self, fraction_train: float = 1.0):\n        super().__init__(fraction_train)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(fedrobust.strategy("narrow_minded:Narrow", fraction_train=0.5), AppStrategy)
    with pytest.raises(UserError, match="no option 'min_train_nodes'"):
        fedrobust.strategy("narrow_minded:Narrow", min_train_nodes=3)
    with pytest.raises(UserError, match="use it as it is"):
        fedrobust.strategy("flwr.serverapp.strategy:FedXgbBagging")


class Images:
    """Somebody's images: the loss is the distance from a point that honest training moves towards."""

    labels = np.zeros(5, np.int64)

    def losses(
        self, parameters: np.ndarray, buffers: np.ndarray, images: np.ndarray | None = None
    ) -> np.ndarray:
        return np.full(5, float(np.square(parameters - 100).mean()))[
            : None if images is None else len(images)
        ]

    def trained(
        self, parameters: np.ndarray, buffers: np.ndarray, round: int, epochs: int | None = None
    ) -> Any:
        from fedrobust.federation import ClientMetrics, Update

        return Update(-1, parameters + np.float32(0.5), ClientMetrics(5), parameters, buffers, round, buffers)


@pytest.mark.parametrize("spec", ["fltrust", "zeno(b=1)"])
def test_rule_that_needs_server_images_gets_them(spec: str) -> None:
    client = app(mods=[fedrobust.attack("sign-flip", nodes=[4])])
    said = run(fedrobust.strategy(spec, server=Images()), client).train_metrics_clientapp[1]
    assert said["flagged"] == [0, 0, 0, 0, 1, 0]


def no_effect_notes(caplog: pytest.LogCaptureFixture, strategy: Any, **options: Any) -> list[str]:
    """Return what is said of parts that had no effect in a run."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flwr"):
        run(strategy, **options)
    return [r.getMessage() for r in caplog.records if "had no effect" in r.getMessage()]


def test_parts_that_changed_nothing_are_named_once_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    plain = fedrobust.strategy("norm-clipping(limit=1e9)")
    said = "fedrobust: strategy 'norm-clipping(limit=1e9)' had no effect in this run"
    for _ in range(2):
        (note,) = no_effect_notes(caplog, plain, rounds=3)
        assert note.startswith(said) and caplog.records[-1].getMessage() == note
    (note,) = no_effect_notes(caplog, fedrobust.strategy("clipping(c=1e9) | fedavg"))
    assert note.startswith("fedrobust: step 'clipping(c=1e9)' had no effect in this run")
    assert no_effect_notes(caplog, fedrobust.strategy("nnm | multi-krum(f=1)")) == []
    assert no_effect_notes(caplog, fedrobust.strategy("fedavg")) == []
    assert no_effect_notes(caplog, fedrobust.strategy("flwr.serverapp.strategy:FedAvg")) == []


def test_part_with_an_effect_in_one_round_or_none_to_act_in_is_not_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = app(mods=[fedrobust.attack("sleeper(rounds=1) + boost(factor=9)", nodes=[0])])
    clips = fedrobust.strategy("norm-clipping(limit=20)")
    assert len(no_effect_notes(caplog, clips, client=late, rounds=1)) == 1
    assert no_effect_notes(caplog, clips, client=late, rounds=2) == []
    assert (
        no_effect_notes(
            caplog, fedrobust.strategy("norm-clipping(limit=1e9)"), client=app(lambda c, _: _crash(c))
        )
        == []
    )


# The attacks.


class Bends(Attack):
    """Sends what a training with negated gradients gives."""

    def gradient_hook(self, received: np.ndarray) -> GradientHook:
        return lambda parameters, gradient: -gradient


def sent(
    mod: Any, number: int = 0, rounds: int = 1, grid: LocalGrid | None = None, **config: Any
) -> tuple[RecordDict, RecordDict]:
    """Return what a node receives in a round and what it sends under an attack."""
    grid = grid or LocalGrid(app(mods=[] if mod is None else [mod]), 6)
    content = RecordDict(
        {"arrays": start(), "config": ConfigRecord({"lr": 0.1, "server-round": rounds, **config})}
    )
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=number + 1, message_type="train")])
    if reply.has_error():
        raise RuntimeError(reply.error.reason)
    return content, reply.content


def difference(received: RecordDict, replied: RecordDict, name: str) -> np.ndarray:
    return replied["arrays"][name].numpy().astype(np.float64) - received["arrays"][name].numpy()


def test_sign_flip_turns_parameters_and_leaves_the_rest() -> None:
    received, attacked = sent(fedrobust.attack("sign-flip"))
    honest = sent(None)[1]
    assert list(attacked["arrays"]) == list(honest["arrays"])
    for name, array in attacked["arrays"].items():
        other = honest["arrays"][name]
        assert array.dtype == other.dtype and tuple(array.shape) == tuple(other.shape)
        if "running" in name or "tracked" in name:
            np.testing.assert_array_equal(array.numpy(), other.numpy())
        else:
            turned = -difference(received, honest, name)
            np.testing.assert_allclose(difference(received, attacked, name), turned, atol=2e-3)
    assert attacked["metrics"] == honest["metrics"]


def test_boost_forge_size_and_free_rider() -> None:
    received, attacked = sent(fedrobust.attack("boost + forge-size(factor=3)", nodes=[0, 5], hospitals=6))
    honest = sent(None)[1]
    np.testing.assert_allclose(
        difference(received, attacked, "2.bias"), 3 * difference(received, honest, "2.bias"), rtol=1e-4
    )
    assert attacked["metrics"] == MetricRecord({"train_loss": 1.0, "num-examples": 30, "partition-id": 0})
    received, free = sent(fedrobust.attack("free-rider"))
    np.testing.assert_allclose(difference(received, free, "1.running_mean"), 0)
    np.testing.assert_allclose(difference(received, free, "2.weight"), 0, atol=1e-7)


class WorksInPlace(Attack):
    def poison_update(self, update: Update) -> Update:
        update.parameters[:] = update.global_parameters
        return update

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        report.values["loss"] = 0.25  # type: ignore[index]
        return report


def test_an_attack_that_works_in_place_is_sent() -> None:
    received, attacked = sent(fedrobust.attack("test_apps:WorksInPlace"))
    np.testing.assert_allclose(difference(received, attacked, "2.weight"), 0, atol=1e-7)
    assert attacked["metrics"]["train_loss"] == 0.25


def test_forge_size_needs_the_key_that_the_app_weighs_by() -> None:
    def renamed(content: RecordDict, number: int) -> RecordDict:
        content["metrics"]["n"] = content["metrics"].pop("num-examples")
        return content

    def weights(**options: Any) -> list[float]:
        mod = fedrobust.attack("forge-size(factor=100)", nodes=[0], **options)
        result = run(fedrobust.strategy("fedavg", weighted_by_key="n"), app(renamed, mods=[mod]))
        return result.train_metrics_clientapp[1]["weights"]  # type: ignore[return-value]

    assert len(weights(weighted_by_key="n")) == 6 and weights(weighted_by_key="n")[0] > 0.8
    # Without it the update is discarded, and the log says why.
    assert len(weights()) == 5


def test_only_the_chosen_nodes_attack_and_only_in_training() -> None:
    mod = fedrobust.attack("sign-flip", nodes=[1])
    honest = sent(None)[1]
    other = sent(mod, number=0)[1]
    assert numbers(other["arrays"]).keys() == numbers(honest["arrays"]).keys()
    for name, value in numbers(other["arrays"]).items():
        np.testing.assert_array_equal(value, honest["arrays"][name].numpy())
    mods = [fedrobust.attack("forge-size")]
    evaluated = [
        run(fedrobust.strategy("median"), app(mods=m)).evaluate_metrics_clientapp for m in ([], mods)
    ]
    assert evaluated[0] == evaluated[1]


def test_a_sleeper_wakes_by_the_round_of_the_train_config() -> None:
    mod = fedrobust.attack("sleeper(rounds=2) + sign-flip")
    received, quiet = sent(mod, rounds=2)
    assert difference(received, quiet, "2.bias").mean() > 0
    received, loud = sent(mod, rounds=3)
    assert difference(received, loud, "2.bias").mean() < 0


def test_draws_differ_by_node_and_round_and_repeat() -> None:
    def drawn(seed: int, number: int, rounds: int) -> bytes:
        mod = pickle.loads(pickle.dumps(fedrobust.attack("gaussian(std=1)", seed=seed)))
        return bytes(sent(mod, number, rounds)[1]["arrays"]["2.weight"].numpy().tobytes())

    seen = [drawn(0, 0, 1), drawn(1, 0, 1), drawn(0, 1, 1), drawn(0, 0, 2)]
    assert len(set(seen)) == 4 and drawn(0, 0, 1) == seen[0]


def test_attack_in_the_users_folder_forges_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "flatters.py").write_text(
        "from dataclasses import replace\n\nfrom fedrobust.federation import Attack\n\n\n"
        "class Flatters(Attack):\n"
        "    def forge_report(self, report):\n"
        "        return replace(report, values={**report.values, 'loss': report.values['loss'] / 4})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    said = sent(fedrobust.attack("flatters"), number=1)[1]["metrics"]
    assert said == MetricRecord({"train_loss": 0.5, "num-examples": 20, "partition-id": 1})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("label-flip", "attack 'label-flip' .* poisons records"),
        ("backdoor", "attack 'backdoor' .* poisons records"),
        ("dba", "attack 'dba' .* poisons records"),
        ("image-noise", "attack 'image-noise' .* poisons records"),
        ("boost(factor=2) + random-labels", "attack 'random-labels' .* poisons records"),
        ("alie", "attack 'alie' .* several clients' updates"),
        ("ipm", "attack 'ipm' .* several clients' updates"),
        ("mimic", "attack 'mimic' .* several clients' updates"),
        ("fang", "attack 'fang' .* several clients' updates"),
        ("min-max", "attack 'min-max' .* several clients' updates"),
        ("forge-loss(mode=flood)", "attack 'forge-loss' .* several clients' updates"),
        ("forge-loss", "attack 'forge-loss' .* honest training"),
        ("constrain", "attack 'constrain' .* honest training"),
        ("constrain(alpha=0.5)", "attack 'constrain' .* changes the gradients of the training"),
        ("test_apps:Bends + sign-flip", "attack 'test_apps:Bends' .* changes the gradients of the training"),
        ("sign-flip + neurotoxin", "attack 'neurotoxin' .* honest training"),
        ("boost", "boost: the number of hospitals is not known here"),
        ("sleeper", "changes neither update nor report"),
        ("sign-flop", "did you mean 'sign-flip'"),
        ("sign-flip(scale=0)", "scale is 0"),
    ],
)
def test_attack_that_cannot_work_is_refused_at_once(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fedrobust.attack(spec)


def test_nodes_and_hospitals_are_checked() -> None:
    assert fedrobust.attack("sign-flip", nodes=np.array([3, 0])).nodes == (0, 3)
    for nodes in (3, [-1], ["a"], [True]):
        with pytest.raises(UserError, match="nodes is"):
            fedrobust.attack("sign-flip", nodes=nodes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="hospitals is 3"):
        fedrobust.attack("sign-flip", nodes=[3], hospitals=3)


def test_message_that_an_attack_cannot_read_fails_in_its_node_only() -> None:
    grid = LocalGrid(app(mods=[fedrobust.attack("sign-flip")]), 2)
    content = RecordDict({"arrays": start(), "config": ConfigRecord({"lr": 0.1})})
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=1, message_type="train")])
    assert "no 'server-round'" in (reply.error.reason or "")


def test_attack_without_effect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    # The claim is rounded: ten images stay ten.
    with caplog.at_level(logging.WARNING, "flwr"):
        sent(fedrobust.attack("forge-size(factor=1.01)"))
    assert any("had no effect in round 1" in record.getMessage() for record in caplog.records)


def test_the_package_stays_light() -> None:
    import subprocess
    import sys

    code = "import sys, fedrobust; print([m for m in ('torch', 'flwr', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_attack_in_a_foreign_app_remembers() -> None:
    mod = fedrobust.attack("test_memory:Remembering", nodes=[0])
    grid = LocalGrid(app(mods=[mod]), 6)
    first = difference(*sent(mod, 0, 1, grid), "2.weight")
    again = difference(*sent(mod, 0, 2, grid), "2.weight")
    honest = difference(*sent(mod, 1, 2, grid), "2.weight")
    trained = difference(*sent(None, 0, 2), "2.weight")
    assert np.allclose(again, trained + 2 * first, atol=1e-5) and np.abs(first).max() > 1e-3
    assert np.array_equal(honest, difference(*sent(None, 1, 2), "2.weight"))

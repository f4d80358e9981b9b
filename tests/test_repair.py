"""The hooks before a round and after a defence, and the model in the server's hands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import learner_of, tiny
from safetensors.numpy import load_file

from fedrobust import run
from fedrobust.attacks.line_search import LineSearch
from fedrobust.battery.inputs import LAYOUT, ToyServer, a_round, deltas
from fedrobust.commands.check import check_plugin
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.federation import Defence, Model, Repair, Role, Update, Updates, Vector, Verdict
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.pipeline.specs import build_pipeline, with_false_flag_rate
from fedrobust.plugins import PipelineSpec
from fedrobust.scenario import Scenario
from strategies.csft import CSFT, _triangle
from strategies.fine_pruning import FinePruning
from strategies.isolation_forest import IsolationForestWeighting
from strategies.median import Median
from strategies.server_step import ServerStep


class Halved(Repair):
    """Halves the model."""

    def repair(self, model: Model) -> Model:
        """Return half of it."""
        return replace(model, parameters=model.parameters / 2)


class FromZero(Defence):
    """Lets every round begin at zero."""

    def before_round(self, model: Model) -> Model:
        """Return zeros."""
        return replace(model, parameters=0 * model.parameters)

    def weigh(self, updates: Updates) -> Verdict:
        """Check the start, and average."""
        assert not updates.global_parameters.any()
        return Verdict(np.ones(len(updates)))


def test_a_repair_gets_the_defences_model_and_returns_the_next() -> None:
    updates = a_round(deltas(5))
    plain = Pipeline(Median()).aggregate(updates)[0]
    twice = Pipeline(Median(), repairs=(Halved(), Halved())).aggregate(updates)[0]
    np.testing.assert_allclose(twice, plain / 4, rtol=1e-6)


def test_a_defences_own_repair_comes_before_the_others() -> None:
    class Raised(Median):
        def repair(self, model: Model) -> Model:
            return replace(model, parameters=model.parameters + 1)

    updates = a_round(deltas(5))
    plain = Pipeline(Median()).aggregate(updates)[0]
    both = Pipeline(Raised(), repairs=(Halved(),)).aggregate(updates)[0]
    np.testing.assert_allclose(both, (plain + 1) / 2, rtol=1e-6)


@pytest.mark.parametrize("step", [0.0, 0.5, 1.0])
def test_the_default_defence_goes_its_step_towards_the_servers_own_training(step: float) -> None:
    rule = IsolationForestWeighting(server_step=step)
    base = a_round(deltas(1))[0]
    begun = Model(base.global_parameters, base.global_buffers, 3)
    assert rule.repair(begun) is begun  # no server
    rule.server = server = ToyServer()
    own = server.trained(begun.parameters, begun.buffers, 3)
    found = rule.repair(begun)
    alone = ServerStep(step)
    alone.server = server
    np.testing.assert_array_equal(found.parameters, alone.repair(begun).parameters)
    assert not np.array_equal(own.parameters, begun.parameters)
    for end, start, made in (
        (own.parameters, begun.parameters, found.parameters),
        (own.buffers, begun.buffers, found.buffers),
    ):
        np.testing.assert_allclose(made, (1 - step) * start + step * end, rtol=1e-5, atol=1e-6)


def test_the_default_defence_stays_where_the_servers_own_training_diverges() -> None:
    class Diverging(ToyServer):
        def trained(
            self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None
        ) -> Update:
            own = super().trained(parameters, buffers, round)
            return replace(own, parameters=own.parameters * np.float32(np.inf))

    rule = IsolationForestWeighting()
    rule.server = Diverging()
    begun = Model(a_round(deltas(1)).global_parameters)
    assert rule.repair(begun) is begun


def test_a_server_step_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="ServerStep needs labelled images of the server's own"):
        ServerStep().repair(Model(np.zeros(3, np.float32)))


def test_a_specification_joins_steps_a_defence_and_repairs() -> None:
    pipeline = build_pipeline("nnm | median | csft(epochs=1)")
    assert [type(part).__name__ for part in pipeline.parts] == ["NNM", "Median", "CSFT"]
    assert pipeline.monitored_names == ("nnm", "median")
    for wrong in ("csft", "csft | median", "median | csft | krum", "nnm | csft"):
        with pytest.raises(UserError, match="followed by one defence"):
            build_pipeline(wrong)
    spec = with_false_flag_rate(PipelineSpec.parse("nnm | isolation-forest | csft"), 0.2)
    assert [part.options.get("false_flag_rate") for part in spec.parts] == [None, 0.2, None]


def test_what_a_hook_returns_is_checked() -> None:
    class Wrong(Halved):
        def repair(self, model: Model) -> Model:
            return replace(model, parameters=model.parameters[:3])

    with pytest.raises(UserError, match="Wrong: repair returned arrays of shapes"):
        Pipeline(Median(), repairs=(Wrong(),)).aggregate(a_round(deltas(3)))


def test_csft_follows_its_schedule_with_clipped_gradients() -> None:
    server, rule = ToyServer(), CSFT(epochs=1, lr=0.5, clip=0.1, batch=100)
    rule.server = server
    start = a_round(deltas(1)).global_parameters
    gradient = server.gradient(start, start, server.images, server.labels).astype(np.float64)
    found = rule.repair(Model(start)).parameters
    assert np.linalg.norm(gradient) > 0.1
    np.testing.assert_allclose(
        found, start - 0.05 * gradient / np.linalg.norm(gradient), rtol=1e-5, atol=1e-6
    )
    rates = [_triangle((step + 0.5) / 8) for step in range(8)]
    assert rates == rates[::-1]
    assert np.argmax(rates) in (3, 4)


def test_csft_lowers_the_loss_of_the_servers_images() -> None:
    rule = CSFT(epochs=20, lr=0.5)
    rule.server = server = ToyServer()
    start = a_round(deltas(1)).global_parameters
    before, after = (server.losses(p, start).mean() for p in (start, rule.repair(Model(start)).parameters))
    assert after < 0.8 * before


def test_csft_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="CSFT needs images of the server's own"):
        CSFT().repair(Model(np.zeros(3, np.float32)))


def test_a_repair_is_put_through_the_battery() -> None:
    for repair in ("csft", "fine-pruning", "server-step"):
        assert [one for one in check_plugin(f"median | {repair}") if one.holds is False] == []


def test_a_run_calls_both_hooks_and_counts_the_images(tmp_path: Path) -> None:
    settings = tiny(tmp_path, rounds=1)
    plain = run(settings, strategy=[FromZero()])
    repaired = run(settings, strategy=[FromZero(), CSFT(epochs=1)])
    one, two = (load_file(result.folder / "model.safetensors") for result in (plain, repaired))
    assert any(not np.array_equal(one[name], two[name]) for name in one)
    assert repaired.summary["server_images"] > 0
    assert plain.summary["server_images"] == 0


def test_an_attack_that_tries_the_defence_out_refuses_a_repair_with_images() -> None:
    with pytest.raises(UserError, match="uses images of the server's own"):
        LineSearch("alie", "median | csft").check(Role(hospitals=5))


def toy_model(seed: int = 0) -> Model:
    base = a_round(deltas(1), seed=seed)[0].global_parameters
    return Model(base, np.zeros(4, np.float32), layout=LAYOUT)


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_fine_pruning_removes_idle_inputs_while_accuracy_allows(drop: float) -> None:
    server, rule, model = ToyServer(), FinePruning(drop=drop, epochs=0, most=0.9), toy_model()
    rule.server = server
    weights, bias = LAYOUT.parameters
    x = server.images.reshape(len(server.images), -1) / 255

    def accuracy(removed: list[int]) -> float:
        w = weights.of(model.parameters).astype(np.float64)
        w = np.where(np.isin(np.arange(16), removed), 0, w)
        return float(((x @ w.T + bias.of(model.parameters)).argmax(1) == server.labels).mean())

    order = np.argsort(x.mean(axis=0), kind="stable").tolist()
    removed: list[int] = []
    for step in range(1, 19):
        fewer = order[: step * 16 // 20]
        if accuracy(fewer) < accuracy([]) - drop - 1e-9:
            break
        removed = fewer
    before = model.parameters.copy()
    found = rule.repair(model).parameters
    np.testing.assert_array_equal(model.parameters, before)
    zero = np.flatnonzero((weights.of(found) == 0).all(axis=0))
    assert zero.tolist() == sorted(removed)
    assert drop < 1 or len(removed) == 14
    np.testing.assert_array_equal(bias.of(found), bias.of(before))


def test_fine_pruning_trains_the_rest_and_leaves_removed_neurons_at_zero() -> None:
    server, rule, model = ToyServer(), FinePruning(drop=1, most=0.5, epochs=30, lr=0.5), toy_model()
    rule.server = server
    found = rule.repair(model)
    assert (LAYOUT.parameters[0].of(found.parameters) == 0).all(axis=0).sum() == 8
    assert server.losses(found.parameters, found.buffers).mean() < 0.8 * (
        server.losses(model.parameters, model.buffers).mean()
    )
    np.testing.assert_array_equal(found.buffers, model.buffers)
    late = FinePruning(start=2)
    assert late.repair(model) is model
    rule.server = server
    with pytest.raises(UserError, match="ends in a linear layer"):
        rule.repair(replace(model, layout=None))


def test_features_are_what_enters_the_last_layer_of_each_network(tmp_path: Path) -> None:
    settings = tiny(tmp_path, networks=2, head="linear")
    learner, images = learner_of(settings), prepare(Scenario.of(settings).data).part("val").images[:20]
    state = learner.initial()
    found = learner.features(state, images)
    named = learner.named_tensors(state)
    outputs = [found[name] @ named[name].T + named[name.replace("weight", "bias")] for name in found]
    chance = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in outputs]
    wanted = learner.predict(state, images, np.zeros(20, np.int64)).probabilities
    assert len(found) == 2
    np.testing.assert_allclose(np.mean(chance, axis=0), wanted, atol=1e-5)
    assert set(found) <= {layer.name for layer in learner.layout.parameters}

"""Attacks with the model in the hospital's hands: backdoor-critical layers and a patch that adapts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import RecordDict
from helpers import make_records

from clients.a3fl import A3fl
from clients.hospital import Hospital
from clients.lp import Lp
from fedrobust import Settings
from fedrobust.battery.inputs import ToyModel, a_round, deltas, records
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.evaluation.triggers import checked_triggers, latest
from fedrobust.federation import Attack, Layout, Role, Trigger, Update, Vector
from fedrobust.flower.memory import NodeMemory, keep
from fedrobust.learners.base import State
from fedrobust.learners.factory import build_learner
from fedrobust.learners.in_hand import InHand
from fedrobust.scenario import Scenario

#: Four layers of three parameters each.
LAYERS = Layout.of({name: (3, 1) for name in "abcd"}, {"m.running_mean": (2,)})


class Rates(ToyModel):
    """A model of which the layers alone decide which share of the stamped images it misleads."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.asked = 0
        self.weights = weights
        made = make_records(100)
        self._trigger = Trigger(replace(made, labels=np.ones(100, np.int64)), 0)

    @property
    def stamped(self) -> Trigger:
        return self._trigger

    def probabilities(self, parameters: Vector, buffers: Vector, images: np.ndarray) -> np.ndarray:
        self.asked += 1
        poisoned = {layer.name for layer in LAYERS.parameters if layer.of(parameters)[0] == 1}
        rate = sum(self.weights[name] for name in poisoned)
        # The poisoned model's running statistics add nothing.
        misled = np.arange(len(images)) < round(rate * len(images))
        return np.column_stack([misled, ~misled]).astype(float)


def of(value: float) -> Update:
    (update,) = a_round(deltas(1))
    parameters = np.full(12, value, np.float32)
    return replace(
        update,
        parameters=parameters,
        global_parameters=np.full(12, 0.5, np.float32),
        buffers=np.full(2, value, np.float32),
        layout=LAYERS,
    )


def sent(attack: Lp, model: Rates) -> Update:
    attack.bind(honest=of(0.0), model=model)
    return attack.poison_update(of(1.0))


def test_lp_sends_the_layers_that_reach_the_rate() -> None:
    one, model = Lp(tau=0.8, images=100), Rates({"a": 0.05, "b": 0.3, "c": 0.1, "d": 0.55})
    made = sent(one, model)
    layers = [layer.name for layer in LAYERS.parameters if layer.of(made.parameters)[0] == 1]
    # d costs most, then b: together 0.85 of the poisoned model's rate of 1.
    assert layers == ["b", "d"] and sorted(one.memory["layers"]) == ["b", "d"]
    assert (made.buffers == 0).all() and set(np.unique(made.parameters)) == {0.0, 1.0}
    # As long as they reach the rate they are kept, which takes two evaluations.
    model.asked = 0
    assert np.array_equal(sent(one, model).parameters, made.parameters) and model.asked == 2
    # Where they no longer do, the layers are found again.
    made = sent(one, Rates({"a": 0.9, "b": 0.1, "c": 0.0, "d": 0.0}))
    assert made.parameters[::3].tolist() == [1, 0, 0, 0]


def test_lp_goes_further_with_lam_and_keeps_its_inputs() -> None:
    model, poisoned, honest = Rates({"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}), of(1.0), of(0.0)
    one = Lp(lam=3.0)
    one.bind(honest=honest, model=model)
    made = one.poison_update(poisoned)
    assert made.parameters.tolist() == [3.0] * 3 + [0.0] * 9
    assert (poisoned.parameters == 1).all() and (honest.parameters == 0).all()


def test_lp_needs_a_trigger() -> None:
    class Blind(Rates):
        @property
        def stamped(self) -> Trigger:
            return None  # type: ignore[return-value]

    with pytest.raises(UserError, match=r"write backdoor \+ lp"):
        sent(Lp(), Blind({}))


def searching(**options: float) -> A3fl:
    one = A3fl(**options)  # type: ignore[arg-type]
    (update,) = a_round(deltas(1))
    one.bind(rng=np.random.default_rng(0), model=ToyModel(update))
    return one


def test_a3fl_descends_by_the_sign_of_the_paper_s_gradient() -> None:
    given = records(24, channels=1, side=4)
    one = searching(size=0.25, passes=3, step=0.1, balance=2.0, images=24, target=1)
    made = one.round_records(given)
    (update,) = a_round(deltas(1))
    theta, adversary = update.global_parameters.astype(np.float64), update.parameters.astype(np.float64)
    weight = 2.0 * theta @ adversary / np.linalg.norm(theta) / np.linalg.norm(adversary)
    patch = np.full((2, 2), 0.5)
    for _ in range(3):
        images = given.images[:, 0] / 255.0
        images[:, 1:3, 1:3] = patch
        slope = np.zeros((2, 2))
        for factor, model in ((1.0, theta), (weight, adversary)):
            matrix = np.vstack([model[:48].reshape(3, 16).T, model[48:]])
            levels = np.rint(255 * images) / 255
            logits = np.column_stack([levels.reshape(24, -1), np.ones(24)]) @ matrix
            chance = np.exp(logits - logits.max(axis=1, keepdims=True))
            chance /= chance.sum(axis=1, keepdims=True)
            chance[:, 1] -= 1
            slope += factor * (chance @ matrix[:16].T).reshape(-1, 4, 4)[:, 1:3, 1:3].sum(axis=0)
        patch = np.clip(patch - 0.1 * np.sign(slope), 0, 1)
    np.testing.assert_allclose(one.memory["patch"][0, 1:3, 1:3], patch, atol=1e-6)
    stamped = (made.images[:, 0, 1:3, 1:3] == np.rint(255 * patch)).all(axis=(1, 2))
    assert stamped.sum() == 6 and (made.labels[stamped] == 1).all()
    assert np.array_equal(made.images[~stamped], given.images[~stamped])
    tested = one.trigger(given)
    assert tested is not None and (tested.records.labels != 1).all()
    assert (tested.records.images[:, 0, 1:3, 1:3] == np.rint(255 * patch)).all()


def test_a3fl_resumes_where_the_last_round_ended() -> None:
    given = records(12, side=4)
    one, two = searching(passes=4, every=100), searching(passes=2, every=100, images=12)
    one.images = 12
    one.round_records(given)
    for _ in range(2):
        two.round_records(given)
    np.testing.assert_allclose(one.memory["patch"], two.memory["patch"], atol=1e-6)
    assert searching(share=0.0).round_records(given) is given
    with pytest.raises(UserError, match="place is random"):
        A3fl(place="random")


def settings(**more: object) -> Settings:
    return Settings(
        data="phantom(images=120, size=16)",
        clients=3,
        rounds=1,
        local_epochs=1,
        networks=1,
        **more,  # type: ignore[arg-type]
    )


def test_in_hand_a_real_network_gives_gradients_of_pixels_and_trains() -> None:
    scenario = Scenario.of(settings())
    learner = build_learner(scenario.learner, scenario.data)
    start, held = learner.initial(), prepare(scenario.data).of_hospital(0).take(np.arange(12))
    model = InHand(learner, start, held, [], 0, 1, 0.01)
    images, labels = (held.images / 255).astype(np.float32), held.labels
    gradient = model.image_gradient(start.parameters, start.buffers, images, labels)
    step = 1e-2 * np.sign(gradient)

    def loss(pixels: np.ndarray) -> float:
        chance = model.probabilities(start.parameters, start.buffers, pixels.astype(np.float32))
        return float(-np.log(chance[np.arange(12), labels]).mean())

    assert loss(images - step) < loss(images) < loss(images + step)
    trained = model.trained(held, 1)
    again = learner.fit(State(*(start.parameters, start.buffers)), held, round=1, client=0, lr=0.01, epochs=1)
    assert np.array_equal(trained.parameters, again.state.parameters)
    assert model.stamped is None


def test_a_hospital_trains_on_the_records_of_the_round_and_remembers_the_patch() -> None:
    scenario = Scenario.of(settings(threat=["a3fl(passes=2, unlearn=1, size=0.1):1"]))
    learner = build_learner(scenario.learner, scenario.data)
    number, start = scenario.malicious[0], learner.initial()
    held = prepare(scenario.data).of_hospital(number)
    honest = Hospital(number, held, learner, seed=0).fit(start.parameters, start.buffers, 1, 0.01)
    hospital = Hospital(number, held, learner, scenario.attacks_of(number), 0)
    sent = hospital.fit(start.parameters, start.buffers, 1, 0.01)
    assert not np.array_equal(sent.parameters, honest.parameters)
    assert hospital.no_effect == () and "patch" in hospital.memory["behaviour-0"]
    (attack,) = scenario.attacks_of(number)
    assert isinstance(attack, Attack) and attack.renews_records and not attack.transforms_records


def test_the_patch_that_a_simulation_tests_is_the_one_that_the_hospital_found_last() -> None:
    given, store = records(24, side=8), NodeMemory(RecordDict())
    one, other = A3fl(size=0.2), A3fl()
    for attack, hospital in ((other, 1), (one, 4)):
        attack.bind(role=Role("a3fl", hospital=hospital))
    ((_, trigger),) = checked_triggers([one], given, 0)
    assert trigger is not None
    now = latest(one, trigger, [other, Lp(), one], given, 0, store)
    assert np.array_equal(now().records.images, trigger.records.images)
    patch = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    keep(store, "hospital-4", 3, {"behaviour-0": {"patch": patch}}, 1 << 20)
    one.bind(memory={"patch": patch})
    wanted = one.trigger(given)
    assert wanted is not None
    assert np.array_equal(now().records.images, wanted.records.images)
    assert not np.array_equal(now().records.images, trigger.records.images)
    # Where the server does not see what hospitals remember, it is the first one.
    assert latest(one, trigger, [one], given, 0, None)() is trigger


def test_an_attack_with_the_model_is_refused_where_no_network_classifies() -> None:
    with pytest.raises(UserError, match="attack 'A3fl' needs a network that classifies"):
        checked_triggers([A3fl()], records(24, side=8), 0, classifies=False)

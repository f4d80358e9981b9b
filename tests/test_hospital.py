from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from helpers import make_records

from clients.hospital import Hospital
from fedrobust.data.records import Records
from fedrobust.federation import Attack, ClientMetrics, Role, Update
from fedrobust.learners.base import Fitted, Prediction, State
from fedrobust.seeding import generator

RECORDS = make_records(12)
START = np.arange(6, dtype=np.float32)
BUFFERS = np.array([0.5, 0.25], np.float32)


@dataclass
class FakeLearner:
    """Adds 1 to every number, and remembers what it was asked."""

    asked: list[dict[str, Any]] = field(default_factory=list)

    def initial(self) -> State:
        return State(START, BUFFERS)

    def fit(self, state: State, records: Records, *, round: int, client: int, lr: float) -> Fitted:
        self.asked.append({"records": records, "round": round, "client": client, "lr": lr, "state": state})
        return Fitted(
            State(state.parameters + 1, state.buffers + 1),
            ClientMetrics(len(records), {"loss": 0.25, "last-loss": 0.125}),
        )

    def predict(self, state: State, images: Any, labels: Any) -> Prediction:
        raise NotImplementedError

    def named_tensors(self, state: State) -> dict[str, Any]:
        raise NotImplementedError


class Spy(Attack):
    """Writes down when each hook is called, and with what."""

    def __init__(self, name: str, log: list[str], factor: float = 1.0) -> None:
        self.name, self.log, self.factor = name, log, factor
        self.seen: list[Any] = []

    def poison_records(self, records: Records) -> Records:
        self.log.append(f"{self.name}: records")
        self.seen.append(records)
        return replace(records, labels=(records.labels + 1) % len(records.classes))

    def poison_update(self, update: Update) -> Update:
        self.log.append(f"{self.name}: update")
        self.seen.append(update)
        return update.with_delta(self.factor * update.delta)

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        self.log.append(f"{self.name}: report")
        self.seen.append(report)
        return replace(report, num_examples=report.num_examples * 10)


class Noise(Attack):
    """Draws in every hook."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def poison_records(self, records: Records) -> Records:
        self.drawn.append(float(self.rng.random()))
        return records

    def poison_update(self, update: Update) -> Update:
        return update.with_delta(self.rng.standard_normal(len(update.parameters)))


class Liar(Attack):
    """Reports another loss."""

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        return ClientMetrics(999, {**report.values, "loss": 7.0})


def fit(hospital: Hospital, round: int = 1, lr: float = 0.01) -> Update:
    """Train one round from the start."""
    return hospital.fit(START, BUFFERS, round, lr)


def test_hospital_without_behaviours_sends_and_reports_what_it_trained() -> None:
    learner = FakeLearner()
    hospital = Hospital(3, RECORDS, learner, seed=1)
    assert hospital.records is RECORDS
    update = fit(hospital, round=4, lr=0.02)
    assert (update.node, update.round) == (3, 4)
    np.testing.assert_array_equal(update.parameters, START + 1)
    np.testing.assert_array_equal(update.buffers, BUFFERS + 1)
    np.testing.assert_array_equal(update.global_parameters, START)
    np.testing.assert_array_equal(update.delta, np.ones(6))
    assert update.report == ClientMetrics(12, {"loss": 0.25, "last-loss": 0.125})
    asked = learner.asked[0]
    assert (asked["round"], asked["client"], asked["lr"]) == (4, 3, 0.02)
    assert asked["records"] is RECORDS and asked["state"].parameters is START


def test_hospital_hooks_run_in_order_records_once_and_the_rest_each_round() -> None:
    log: list[str] = []
    hospital = Hospital(0, RECORDS, FakeLearner(), [Spy("a", log), Spy("b", log)])
    assert log == ["a: records", "b: records"]
    log.clear()
    fit(hospital, 1)
    fit(hospital, 2)
    for name in "ab":
        assert [word for word in log if word.startswith(name)] == [f"{name}: update", f"{name}: report"] * 2
    for hook in ("update", "report"):
        assert [word for word in log if word.endswith(hook)] == [f"a: {hook}", f"b: {hook}"] * 2


def test_hospital_each_attack_sees_what_the_one_before_it_made() -> None:
    first, second = Spy("a", [], factor=-2.0), Spy("b", [], factor=3.0)
    learner = FakeLearner()
    hospital = Hospital(0, RECORDS, learner, [first, second])
    np.testing.assert_array_equal(second.seen[0].labels, (RECORDS.labels + 1) % 4)
    np.testing.assert_array_equal(hospital.records.labels, (RECORDS.labels + 2) % 4)
    update = fit(hospital)
    assert learner.asked[0]["records"] is hospital.records
    np.testing.assert_array_equal(first.seen[1].delta, np.ones(6))
    np.testing.assert_array_equal(second.seen[1].delta, -2 * np.ones(6))
    np.testing.assert_array_equal(update.delta, -6 * np.ones(6))
    assert (first.seen[2].num_examples, second.seen[2].num_examples) == (12, 120)
    assert update.report.num_examples == 1200


def test_hospital_order_of_attacks_matters() -> None:
    class Shift(Attack):
        def poison_update(self, update: Update) -> Update:
            return update.with_delta(update.delta + 1)

    class Double(Attack):
        def poison_update(self, update: Update) -> Update:
            return update.with_delta(2 * update.delta)

    one = fit(Hospital(0, RECORDS, FakeLearner(), [Shift(), Double()])).delta
    other = fit(Hospital(0, RECORDS, FakeLearner(), [Double(), Shift()])).delta
    assert one.tolist() == [4] * 6 and other.tolist() == [3] * 6


def test_hospital_poisoning_leaves_the_given_records_alone() -> None:
    labels = RECORDS.labels.copy()
    Hospital(0, RECORDS, FakeLearner(), [Spy("a", [])])
    np.testing.assert_array_equal(RECORDS.labels, labels)


def test_hospital_forged_report_keeps_the_update() -> None:
    update = fit(Hospital(0, RECORDS, FakeLearner(), [Liar()]))
    np.testing.assert_array_equal(update.parameters, START + 1)
    np.testing.assert_array_equal(update.buffers, BUFFERS + 1)
    assert update.report.num_examples == 999
    assert update.report.values == {"loss": 7.0, "last-loss": 0.125}


def test_hospital_poisoned_update_keeps_the_report_the_number_and_the_round() -> None:
    class Impostor(Attack):
        def poison_update(self, update: Update) -> Update:
            return replace(update.with_delta(np.full(6, 5.0)), node=0, round=99)

    update = fit(Hospital(2, RECORDS, FakeLearner(), [Impostor()]), round=3)
    assert (update.node, update.round) == (2, 3)
    np.testing.assert_array_equal(update.delta, np.full(6, 5.0))
    assert update.report.num_examples == 12


def test_hospital_randomness_is_bound_to_seed_place_round_and_hospital() -> None:
    quiet, noisy = Liar(), Noise()
    hospital = Hospital(5, RECORDS, FakeLearner(), [quiet, noisy], seed=8)
    assert noisy.drawn == [generator(8, "attack", 1, 0, 5).random()]
    for number in (7, 2, 7):
        wanted = generator(8, "attack", 1, number, 5).standard_normal(6).astype(np.float32)
        np.testing.assert_array_equal(fit(hospital, number).parameters, START + wanted)


def test_hospital_seed_place_round_and_hospital_each_change_the_draw() -> None:
    def drawn(seed: int, place: int, number: int, round: int) -> tuple[float, ...]:
        attacks = [Liar()] * place + [Noise()]
        return tuple(fit(Hospital(number, RECORDS, FakeLearner(), attacks, seed), round).parameters.tolist())

    draws = [drawn(0, 0, 0, 1), drawn(1, 0, 0, 1), drawn(0, 1, 0, 1), drawn(0, 0, 1, 1), drawn(0, 0, 0, 2)]
    assert len(set(draws)) == 5
    assert drawn(0, 0, 0, 1) == draws[0]


def test_hospitals_that_share_an_attack_do_not_disturb_each_other() -> None:
    results = []
    for order in ((0, 1), (1, 0)):
        attack = Noise()
        hospitals = [Hospital(number, RECORDS, FakeLearner(), [attack]) for number in (0, 1)]
        sent = {number: fit(hospitals[number]).parameters for number in order}
        results.append([sent[0].tolist(), sent[1].tolist()])
    assert results[0] == results[1]


def test_hospital_training_leaves_the_global_model_alone() -> None:
    kept = START.copy()
    fit(Hospital(0, RECORDS, FakeLearner(), [Spy("a", [], factor=-4.0)]))
    np.testing.assert_array_equal(START, kept)


class Same(Attack):
    """Returns equal copies of everything."""

    def poison_records(self, records: Records) -> Records:
        return replace(records, images=records.images.copy(), labels=records.labels.copy())

    def poison_update(self, update: Update) -> Update:
        return update.with_delta(update.delta)

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        return ClientMetrics(report.num_examples, dict(report.values))


class InPlace(Attack):
    """Changes what it is given, and returns it."""

    def poison_records(self, records: Records) -> Records:
        records.labels[:] = (records.labels + 1) % len(records.classes)
        return records

    def poison_update(self, update: Update) -> Update:
        update.parameters[:] *= -1
        return update

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        report.values["loss"] = 0.5  # type: ignore[index]
        return report


def test_hospital_attack_that_works_in_place_does_what_one_that_copies_does() -> None:
    class Copies(InPlace):
        def poison_records(self, records: Records) -> Records:
            return replace(records, labels=(records.labels + 1) % len(records.classes))

        def poison_update(self, update: Update) -> Update:
            return replace(update, parameters=-update.parameters)

        def forge_report(self, report: ClientMetrics) -> ClientMetrics:
            return replace(report, values={**report.values, "loss": 0.5})

    class Late(Attack):
        def is_active(self, round: int) -> bool:
            return round > 1

    labels = RECORDS.labels.copy()
    in_place, copies = (Hospital(0, RECORDS, Parity(), [Late(), one]) for one in (InPlace(), Copies()))
    honest = Hospital(0, RECORDS, Parity())
    for round in (1, 2):
        one, other = fit(in_place, round), fit(copies, round)
        np.testing.assert_array_equal(one.parameters, other.parameters)
        assert one.report == other.report
        assert (one.report == fit(honest, round).report) == (round == 1)
    np.testing.assert_array_equal(RECORDS.labels, labels)


class BuffersOnly(Attack):
    def poison_update(self, update: Update) -> Update:
        return replace(update, buffers=update.buffers + 1)


class Reader(Attack):
    """Reads the honest update and sends it."""

    needs_honest = True

    def poison_update(self, update: Update) -> Update:
        self.read = self.honest
        return self.read


class Parity:
    """A learner with a result that depends on the labels; it counts its trainings."""

    def __init__(self) -> None:
        self.trainings = 0

    def fit(self, state: State, records: Records, *, round: int, client: int, lr: float) -> Fitted:
        self.trainings += 1
        moved = state.parameters + np.float32(records.labels[0])
        return Fitted(
            State(moved, state.buffers), ClientMetrics(len(records), {"loss": float(records.labels[0])})
        )


def test_hospital_attacks_that_had_no_effect_are_named() -> None:
    poisoner = Spy("a", [], factor=1.0)
    named = Same()
    named.bind(role=Role("same"))
    for attacks, no_effect in (
        ([], ()),
        ([poisoner], ()),
        ([Liar()], ()),
        ([BuffersOnly()], ()),
        ([named], ("same",)),
        ([Attack(), poisoner, named], ("Attack", "same")),
        # One that stands there twice is at work if it is so once.
        ([Liar(), Liar(), Same()], ("Same",)),
        ([InPlace()], ()),
    ):
        hospital = Hospital(0, RECORDS, FakeLearner(), attacks)
        fit(hospital)
        assert hospital.no_effect == no_effect


def test_hospital_report_with_nan_equals_itself() -> None:
    class Copier(Attack):
        def forge_report(self, report: ClientMetrics) -> ClientMetrics:
            return ClientMetrics(report.num_examples, {"class-losses": (1.0, float("nan"))})

    copiers = [Copier(), Copier()]
    for name, copier in zip(("first", "second"), copiers, strict=True):
        copier.bind(role=Role(name))
    hospital = Hospital(0, RECORDS, FakeLearner(), copiers)
    fit(hospital)
    assert hospital.no_effect == ("second",)


def test_hospital_inactive_all_but_the_inactive_one_have_no_effect() -> None:
    class Night(Attack):
        def is_active(self, round: int) -> bool:
            return round > 1

    hospital = Hospital(0, RECORDS, FakeLearner(), [Spy("a", []), Night()])
    fit(hospital, 1)
    assert hospital.no_effect == ("Spy",)
    fit(hospital, 2)
    assert hospital.no_effect == ("Night",)


def test_hospital_attack_may_read_what_an_honest_training_gives() -> None:
    records = make_records(labels=[0, 0, 0])
    learner: Any = Parity()
    reader = Reader()
    update = fit(Hospital(0, records, learner, [Spy("a", [], factor=9.0), reader]))
    # The poisoned records would have moved it by 1.
    np.testing.assert_array_equal(update.delta, np.zeros(6))
    assert reader.read.report.values == {"loss": 0.0} and learner.trainings == 2
    np.testing.assert_array_equal(reader.read.global_buffers, BUFFERS)
    # The received model is valid only during the round: nothing of it is kept.
    assert not hasattr(reader, "honest")


def test_hospital_without_poisoned_records_one_training_is_enough() -> None:
    learner: Any = Parity()
    fit(Hospital(0, RECORDS, learner, [Reader()]))
    assert learner.trainings == 1
    fit(Hospital(0, RECORDS, learner, [Spy("a", [])]))
    assert learner.trainings == 2


@dataclass
class Hookable(FakeLearner):
    """Adds what the gradient hook makes of a gradient of 1."""

    def fit(  # type: ignore[override]
        self, state: State, records: Records, *, round: int, client: int, lr: float, gradient_hook: Any = None
    ) -> Fitted:
        fitted = super().fit(state, records, round=round, client=client, lr=lr)
        self.asked[-1]["gradient_hook"] = gradient_hook
        moved = (
            np.ones(6, np.float32)
            if gradient_hook is None
            else gradient_hook(state.parameters, np.ones(6, np.float32))
        )
        return Fitted(State(state.parameters + moved, fitted.state.buffers), fitted.report)


class Hooks(Attack):
    """Makes of a gradient factor times itself plus the honest difference."""

    needs_honest = True

    def __init__(self, factor: float = 3.0, first: int = 1) -> None:
        self.factor, self.first = factor, first

    def is_active(self, round: int) -> bool:
        return round >= self.first

    def gradient_hook(self, received: Any) -> Any:
        honest = self.honest.delta
        return lambda parameters, gradient: self.factor * gradient + honest


def test_hospital_only_the_malicious_training_is_hooked_and_only_while_active() -> None:
    learner = Hookable()
    hospital = Hospital(0, RECORDS, learner, [Hooks(first=2)])
    np.testing.assert_array_equal(fit(hospital, 1).delta, np.ones(6))
    assert [asked["gradient_hook"] for asked in learner.asked] == [None]
    np.testing.assert_array_equal(fit(hospital, 2).delta, np.full(6, 4.0))
    assert [asked["gradient_hook"] is None for asked in learner.asked] == [True, True, False]
    assert all(asked["records"] is RECORDS for asked in learner.asked)
    assert hospital.no_effect == ()


def test_hospital_gradient_hooks_act_in_order_and_on_the_poisoned_records() -> None:
    learner = Hookable()
    hospital = Hospital(0, RECORDS, learner, [Hooks(2.0), Spy("spy", []), Hooks(5.0)])
    np.testing.assert_array_equal(fit(hospital).delta, np.full(6, 5.0 * (2.0 + 1) + 1))
    assert [asked["records"] is RECORDS for asked in learner.asked] == [True, False]


def test_hospital_learner_without_gradient_hooks_needs_no_such_option() -> None:
    learner = FakeLearner()
    fit(Hospital(0, RECORDS, learner, [Spy("spy", [])]))
    assert len(learner.asked) == 1


class HookedLearner(FakeLearner):
    """Remembers its gradient hook."""

    hook: Any = None

    def fit(self, state: State, records: Records, *, gradient_hook: Any = None, **about: Any) -> Fitted:
        self.hook = gradient_hook
        return super().fit(state, records, **about)


class Negates(Attack):
    hooks_gradient = True

    def gradient_hook(self, received: np.ndarray) -> Any:
        return lambda parameters, gradient: -gradient


def test_a_proximal_term_comes_before_the_hooks_of_attacks() -> None:
    learner = HookedLearner()
    hospital = Hospital(0, RECORDS, learner, [Negates()])
    hospital.fit(START, BUFFERS, 1, 0.1, proximal_mu=0.5)
    moved, gradient = START + 2, np.ones(6, np.float32)
    np.testing.assert_array_equal(learner.hook(moved, gradient), np.full(6, -2))
    honest = Hospital(0, RECORDS, learner)
    honest.fit(START, BUFFERS, 1, 0.1, proximal_mu=0.5)
    np.testing.assert_array_equal(learner.hook(moved, gradient), np.full(6, 2))
    honest.fit(START, BUFFERS, 1, 0.1)
    assert learner.hook is None

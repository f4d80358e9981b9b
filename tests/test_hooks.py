"""Calls of a behaviour's hooks: numbers are taken as numbers, and what is wrong is one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord
from helpers import make_records, make_updates

from clients.hospital import Hospital
from fedrobust.attacks import hooks
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Behaviour, ClientMetrics, Role, Update
from fedrobust.learners.base import Fitted, State

RECORDS = make_records(6)


class Returns(Attack):
    """Returns what a function makes, from every hook."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make
        self.bind(role=Role("returns"))

    def poison_records(self, records: Records) -> Any:
        return self.make(records)

    def gradient_hook(self, received: Any) -> Any:
        return self.make(received)

    def poison_update(self, update: Update) -> Any:
        return self.make(update)

    def forge_report(self, report: ClientMetrics) -> Any:
        return self.make(report)

    def collude(self, colluders: Any, honest: Any) -> Any:
        return self.make(list(colluders))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), 1),
        (True, 1),
        (np.array(0.25), 0.25),
        (torch.tensor(0.25), 0.25),
        (torch.tensor([1, 2]), (1, 2)),
        (np.array([0.5, 1.5], np.float32), (0.5, 1.5)),
        ([0.5, 1], (0.5, 1.0)),
        ((np.float32(0.5), 1.5), (0.5, 1.5)),
        (2, 2),
    ],
)
def test_forge_report_numbers_of_any_library_are_taken_as_numbers(value: Any, wanted: object) -> None:
    attack = Returns(lambda report: replace(report, values={"loss": value}))
    made = hooks.forge_report(attack, ClientMetrics(5, {}))
    found = made.values["loss"]
    assert found == wanted and type(found) is type(wanted)
    assert not isinstance(found, tuple) or [type(one) for one in found] == [type(w) for w in wanted]  # type: ignore[attr-defined]
    # Flower's own record takes it.
    MetricRecord({"loss": list(found) if isinstance(found, tuple) else found})


def test_forge_report_plain_numbers_are_kept_as_they_are() -> None:
    given = ClientMetrics(5, {"loss": 0.5, "class-losses": (0.5, float("nan"))})
    assert hooks.forge_report(Returns(lambda report: report), given) is given


def test_forge_report_counts_of_numpy_are_taken_as_numbers() -> None:
    made = hooks.forge_report(Returns(lambda r: replace(r, num_examples=np.int64(7))), ClientMetrics(5, {}))
    assert made.num_examples == 7 and type(made.num_examples) is int


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda r: None, "forge_report must return ClientMetrics, not None"),
        (lambda r: {"loss": 1}, "forge_report must return ClientMetrics, not a dict"),
        (
            lambda r: replace(r, values={"loss": None}),
            "forge_report must return a number or several for 'loss', not None",
        ),
        (
            lambda r: replace(r, values={"loss": [1.0, [2.0]]}),
            "forge_report must return a number or several for 'loss', not a list",
        ),
        (
            lambda r: replace(r, num_examples=None),
            "forge_report must return a number of examples (num_examples), not None",
        ),
    ],
)
def test_forge_report_of_something_else_is_one_sentence(make: Callable[[Any], Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        hooks.forge_report(Returns(make), ClientMetrics(5, {}))
    assert str(caught.value) == f"attack 'returns': {sentence}"


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_transform_records_labels_of_another_integer_type_are_taken(dtype: Any) -> None:
    attack = Returns(lambda records: replace(records, labels=(records.labels % 2).astype(dtype)))
    made = hooks.transform_records(attack, RECORDS)
    assert made.labels.dtype == np.int64
    np.testing.assert_array_equal(made.labels, RECORDS.labels % 2)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda r: None, "poison_records must return Records, not None"),
        (lambda r: [], "poison_records must return Records, not a list"),
        (
            lambda r: r.take(np.arange(0)),
            "poison_records must return Records with at least one image, not none",
        ),
        (
            lambda r: replace(r, labels=r.labels.astype(float)),
            "poison_records must return labels that are integers, not float64",
        ),
    ],
)
def test_transform_records_of_something_else_is_one_sentence(
    make: Callable[[Any], Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        hooks.transform_records(Returns(make), RECORDS)
    assert str(caught.value) == f"attack 'returns': {sentence}"


def test_transform_records_that_records_refuse_names_the_plug_in() -> None:
    with pytest.raises(UserError, match="^attack 'returns': .*labels run from"):
        hooks.transform_records(Returns(lambda r: replace(r, labels=r.labels + 9)), RECORDS)
    with pytest.raises(
        UserError, match=r"^attack 'returns' fails in poison_records: .* \(.*test_hooks.py, line \d+\)"
    ):
        hooks.transform_records(Returns(lambda r: replace(r, labels=list(r.labels))), RECORDS)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda u: None, "must return an Update, not None"),
        (lambda u: u.parameters, "must return an Update, not a ndarray"),
        (
            lambda u: replace(u, parameters=u.parameters[1:]),
            "must return parameters that are numbers of shape (4,), not float32 of shape (3,)",
        ),
        (
            lambda u: replace(u, buffers=np.array(["a", "b"])),
            "must return buffers that are numbers of shape (2,), not <U1 of shape (2,)",
        ),
    ],
)
def test_poison_update_of_something_else_is_one_sentence(make: Callable[[Any], Any], sentence: str) -> None:
    update = make_updates(1, d=4, buffers=2)[0]
    with pytest.raises(UserError) as caught:
        hooks.poison_update(Returns(make), update)
    assert str(caught.value) == f"attack 'returns': poison_update {sentence}"
    with pytest.raises(UserError) as caught:
        hooks.collude(Returns(lambda given: [make(given[0])]), [update], [])
    assert str(caught.value) == f"attack 'returns': collude {sentence}"


def test_poison_update_arrays_of_lists_and_tensors_are_taken() -> None:
    update = make_updates(1, d=4)[0]
    for values in ([1, 2, 3, 4], torch.tensor([1.0, 2.0, 3.0, 4.0])):
        made = hooks.poison_update(Returns(lambda u, v=values: replace(u, parameters=v)), update)  # type: ignore[misc]
        np.testing.assert_array_equal(made.parameters, [1, 2, 3, 4])


def test_collude_needs_one_update_for_each_colluder_and_plain_reports() -> None:
    updates = make_updates(3, d=4)
    with pytest.raises(UserError, match="collude must return 3 updates, one for each colluder, not 2"):
        hooks.collude(Returns(lambda given: given[1:]), updates, [])
    report = ClientMetrics(5, {"loss": np.float32(0.5)})  # type: ignore[dict-item]
    made = hooks.collude(Returns(lambda given: [replace(u, report=report) for u in given]), updates, [])
    assert all(type(update.report.values["loss"]) is float for update in made)


def test_gradient_hook_of_something_else_is_one_sentence() -> None:
    received = np.zeros(4, np.float32)
    assert hooks.gradient_hook(Returns(lambda r: None), received) is None
    with pytest.raises(UserError, match="gradient_hook must return a function or None, not a int"):
        hooks.gradient_hook(Returns(lambda r: 3), received)
    hook = hooks.gradient_hook(Returns(lambda r: lambda p, g: g[1:]), received)
    assert hook is not None
    with pytest.raises(UserError, match=r"must return a gradient of shape \(4,\), not one of shape \(3,\)"):
        hook(received, received)


class Learner:
    """Returns what it was given."""

    def fit(self, state: State, records: Records, *, round: int, client: int, lr: float) -> Fitted:
        return Fitted(state, ClientMetrics(len(records), {}))


@pytest.mark.parametrize("method", ["poison_records", "is_active", "poison_update", "forge_report"])
def test_hospital_plug_in_that_raises_is_named_with_its_own_file_and_line(method: str) -> None:
    kind = type("Raises", (Attack,), {method: lambda self, *given: np.zeros(3) @ np.zeros(4)})
    line = inspect.getsourcelines(getattr(kind, method))[1]
    with pytest.raises(UserError) as caught:
        hospital = Hospital(0, RECORDS, Learner(), [kind()])  # type: ignore[arg-type]
        hospital.fit(np.zeros(2, np.float32), np.zeros(0, np.float32), 1, 0.1)
    words = str(caught.value)
    assert words.startswith(f"attack 'Raises' fails in {method}: ValueError: ")
    assert words.endswith(f"({__file__}, line {line})")


def test_behaviour_that_is_benign_is_called_so() -> None:
    class Benign(Behaviour):
        def transform_records(self, records: Records) -> Any:
            return None

    with pytest.raises(
        UserError, match="^behaviour 'Benign': transform_records must return Records, not None"
    ):
        hooks.transform_records(Benign(), RECORDS)


def test_bind_keeps_what_is_not_given_but_the_honest_update() -> None:
    attack = Attack()
    for name in ("rng", "honest"):
        with pytest.raises(AttributeError, match=f"Attack.{name} is there in"):
            getattr(attack, name)
    rng, honest = np.random.default_rng(0), make_updates(1)[0]
    attack.bind(role=Role("mine", 3), rng=rng)
    attack.bind(honest=honest)
    assert (attack.role, attack.rng, attack.honest) == (Role("mine", 3), rng, honest)
    attack.bind()
    assert attack.rng is rng and not hasattr(attack, "honest")
    with pytest.raises(AttributeError):
        attack.rng = rng  # type: ignore[misc]
    assert Attack().role == Role()

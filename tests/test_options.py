"""A plug-in's options: what their annotations declare is what is checked, reported and listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field, PositiveInt

from fedrobust.errors import UserError
from fedrobust.federation import Behaviour, Defence, PreAggregation
from fedrobust.plugins import Limits, available, find, instantiate, limits, options_of
from fedrobust.plugins.options import declared_options


class Base:
    """A base.

    Parameters
    ----------
    shared : float
        Documented in the base.
    share : float
        Documented in the base, too.
    """


class Declares(Base):
    """Declares its options.

    Parameters
    ----------
    share : float
        Share of the images,
        over two lines.
    count, times : int
        Integers.

    Notes
    -----
    best : float
        No option.
    """

    def __init__(
        self,
        needed: str,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        count: PositiveInt = 2,
        times: Annotated[int, Field(ge=2)] = 2,
        best: Annotated[float, Field(gt=0)] | Literal["optimal"] | None = None,
        mode: Literal["slow", "fast"] = "slow",
        below: Annotated[float, Field(lt=2)] = 0.0,
        endless: Annotated[float, Field(allow_inf_nan=True)] = 1.0,
        shared: float = 1.0,
    ) -> None:
        self.given = locals()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("share", 0, "mine: share is 0, but must be a number in (0, 1]"),
        ("share", True, "mine: share is True, but must be a number in (0, 1]"),
        ("share", float("nan"), "mine: share is nan, but must be a finite number in (0, 1]"),
        ("share", "most", "mine: share is 'most', but must be a number in (0, 1]"),
        ("count", 0, "mine: count is 0, but must be a positive integer"),
        ("count", 2.5, "mine: count is 2.5, but must be a positive integer"),
        ("times", 1, "mine: times is 1, but must be an integer of 2 or more"),
        ("best", -1, "mine: best is -1, but must be a positive number or 'optimal'"),
        (
            "best",
            "optimel",
            "mine: best is 'optimel', but must be a positive number or 'optimal'; did you mean 'optimal'?",
        ),
        ("best", float("inf"), "mine: best is inf, but must be a positive finite number or 'optimal'"),
        ("mode", "fats", "mine: mode is 'fats', but must be 'slow' or 'fast'; did you mean 'fast'?"),
        ("below", 2.0, "mine: below is 2.0, but must be a number below 2"),
        ("shared", float("inf"), "mine: shared is inf, but must be a finite number"),
    ],
)
def test_instantiate_value_out_of_bounds_names_option_value_and_bounds(
    option: str, value: object, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        instantiate(Declares, {"needed": "x", option: value}, "mine")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("share", 1, 1.0),
        ("share", "0.25", 0.25),
        ("best", "optimal", "optimal"),
        ("best", "none", None),
        ("best", 3, 3.0),
        ("mode", "fast", "fast"),
        ("endless", float("inf"), float("inf")),
    ],
)
def test_instantiate_value_within_bounds_is_taken_in_the_declared_type(
    option: str, value: object, wanted: object
) -> None:
    given = instantiate(Declares, {"needed": "x", option: value}, "mine").given[option]
    assert given == wanted and type(given) is type(wanted)


def test_options_of_lists_name_bounds_default_and_meaning() -> None:
    found = {option.name: option for option in options_of(Declares)}
    assert list(found) == ["needed", "share", "count", "times", "best", "mode", "below", "endless", "shared"]
    assert found["needed"].required and found["needed"].default is None
    share = found["share"]
    assert (share.required, share.default, share.allowed) == (False, 0.5, "a number in (0, 1]")
    assert share.meaning == "Share of the images, over two lines."
    assert found["count"].meaning == found["times"].meaning == "Integers."
    assert found["best"].allowed == "a positive number or 'optimal'" and found["best"].meaning == ""
    assert found["shared"].meaning == "Documented in the base."


def test_limits_of_an_annotation() -> None:
    assert limits(Annotated[float, Field(gt=0, le=1)]) == Limits(0, 1, True, False)
    assert limits(Annotated[int, Field(ge=1)] | None) == Limits(1, np.inf, False, True)
    assert limits(float) is None and limits(str | None) is None


def plug_ins() -> Iterator[tuple[str, type]]:
    """Yield every built-in plug-in with its name."""
    for name in available("clients", (Behaviour,)):
        yield name, find(name, "clients", (Behaviour,), "attack")
    for name in available("strategies", (Defence, PreAggregation)):
        yield name, find(name, "strategies", (Defence, PreAggregation), "strategy")


def beyond(found: Limits) -> list[float]:
    """Return numbers just outside an interval."""
    step = 1e-3
    low = [] if np.isinf(found.low) else [found.low if found.open_low else found.low - step]
    high = [] if np.isinf(found.high) else [found.high if found.open_high else found.high + step]
    return [*low, *high, float("nan")]


BOUNDS = [
    (name, thing, option, value)
    for name, thing in plug_ins()
    for option, annotation in declared_options(thing).items()
    if (found := limits(annotation)) is not None
    for value in beyond(found)
]


@pytest.mark.parametrize(("name", "thing", "option", "value"), BOUNDS)
def test_built_in_option_beyond_its_bounds_is_refused(
    name: str, thing: Any, option: str, value: float
) -> None:
    with pytest.raises(UserError, match=f"^{name}: {option} is .*, but must be "):
        instantiate(thing, {option: value}, name)


def test_built_in_bounds_are_declared() -> None:
    # Such as alie's z, limit and strength: a plug-in that checks by hand again would leave the list.
    assert len({name for name, *_ in BOUNDS}) >= 24


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        ("backdoor", "place", "botom-right", "did you mean 'bottom-right'"),
        ("backdoor", "pattern", "rular", "did you mean 'ruler'"),
        ("dba", "pattern", "patsch", "did you mean 'patch'"),
        ("constrain", "measure", "nrom", "did you mean 'norm'"),
        ("forge-loss", "mode", "typcal", "did you mean 'typical'"),
        ("image-noise", "kind", "gausian", "did you mean 'gaussian'"),
        ("label-flip", "mode", "pairwse", "did you mean 'pairwise'"),
        ("label-flip", "shift", 0.5, "must be an integer"),
        ("fang", "against", "crum", "did you mean 'krum'"),
        ("alie", "knowledge", "own", "must be 'colluders' or 'all'"),
        ("ipm", "epsilon", True, "must be a positive number or 'optimal'"),
        ("mimic", "target", "best", "must be an integer of 0 or more or 'auto'"),
        ("mimic", "target", True, "must be an integer of 0 or more or 'auto'"),
        ("min-max", "perturbation", "sing", "did you mean 'sign'"),
        ("sleeper", "rounds", 2.5, "must be a positive integer"),
    ],
)
def test_built_in_attack_option_of_another_kind_is_refused(
    name: str, option: str, value: object, words: str
) -> None:
    with pytest.raises(UserError, match=f"^{name}: {option} is .*{words}"):
        instantiate(find(name, "clients", (Behaviour,), "attack"), {option: value}, name)


@pytest.mark.parametrize(("name", "thing"), list(plug_ins()))
def test_built_in_option_is_declared_and_documented(name: str, thing: type) -> None:
    for option in options_of(thing):
        assert option.allowed or option.name in ("confusion", "malicious"), (name, option)
        assert option.meaning, (name, option)

"""A sample of all strategies against all faults of a hospital, and too few replies."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from benchmarks.reliability.faulty_replies import FAULTS
from benchmarks.reliability.hospital_faults import few_replies, problems, strategies
from benchmarks.reliability.promise_3_few import BELOW, refused

#: One in so many pairs is tested here: each fault with several strategies, each strategy with several faults.
_SHARE = 24
_PAIRS = [
    (spec, name)
    for row, spec in enumerate(strategies())
    for column, name in enumerate(FAULTS)
    if (5 * row + column) % _SHARE == 0
]


@pytest.fixture(autouse=True)
def _few_objects_to_collect() -> Iterator[None]:
    """Freeze what exists: some of Flower's strategies call the collector for each array."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("row", range(8))
def test_fault_costs_its_hospital_the_round_only(row: int) -> None:
    for spec, name in _PAIRS[row::8]:
        assert list(problems(spec, name)) == [], f"{spec}: {name}"


def test_sample_covers_all_strategies_and_faults() -> None:
    assert {spec for spec, _ in _PAIRS} == set(strategies())
    assert {name for _, name in _PAIRS} == set(FAULTS)


@pytest.mark.parametrize("heard", [0, 1])
def test_too_few_replies_keep_the_last_model(heard: int) -> None:
    for spec in list(strategies())[heard::4]:
        assert list(few_replies(spec, heard)) == [], spec


@pytest.mark.parametrize(("spec", "hospitals"), BELOW)
def test_fewer_hospitals_than_a_strategy_needs_are_refused_before_the_run(spec: str, hospitals: int) -> None:
    assert refused(spec, hospitals)

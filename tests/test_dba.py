from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clients.dba import DistributedBackdoor
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Role

BLACK = Records(np.zeros((40, 1, 28, 28), np.uint8), np.arange(40) % 4, ("a", "b", "c", "d"))


def attack(member: int = 0, members: int = 4, seed: int = 0, **options: Any) -> DistributedBackdoor:
    made = DistributedBackdoor(**options)
    made.bind(role=Role("dba", hospital=member, hospitals=10, member=member, members=members))
    made.bind(rng=np.random.default_rng(seed))
    return made


def where(images: np.ndarray) -> Any:
    """Return which pixels any image has lit."""
    return images.any(axis=(0, 1))


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_dba_attackers_parts_make_up_the_tested_mark(members: int) -> None:
    trigger = attack(0, members, size=0.1).trigger(BLACK)
    assert trigger is not None
    complete = where(trigger.records.images)
    assert complete.sum() == 81
    parts = [where(attack(m, members, size=0.1).poison_records(BLACK).images) for m in range(members)]
    np.testing.assert_array_equal(np.sum(parts, axis=0), complete.astype(int))
    assert all(part.any() for part in parts)


def test_dba_four_parts_are_the_corners_of_the_mark() -> None:
    made = attack(3, 4, size=64 / 784, place="top-left", share=1.0).poison_records(BLACK).images
    lit = np.zeros((28, 28), bool)
    lit[5:9, 5:9] = True
    np.testing.assert_array_equal(where(made), lit)


def test_dba_more_attackers_than_parts_take_them_in_turn() -> None:
    one, other, third = (
        where(attack(m, 5, parts=2, size=0.1).poison_records(BLACK).images) for m in (0, 2, 1)
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_dba_part_that_would_be_empty_is_found_before_any_attacker_starts() -> None:
    # On 28 x 28 pixels the mark's fourth part of seven is empty; the first has something in it.
    first = attack(0, 7, pattern="scanner-text")
    assert where(
        attack(0, 1, parts=7, part=0, pattern="scanner-text", share=1.0).poison_records(BLACK).images
    ).any()
    with pytest.raises(UserError, match="part 3 of 7 of the mark scanner-text is empty; give fewer parts"):
        first.check(BLACK)


def test_dba_part_can_be_given() -> None:
    named = attack(0, 1, parts=4, part=3, size=0.1).poison_records(BLACK).images
    np.testing.assert_array_equal(where(named), where(attack(3, 4, size=0.1).poison_records(BLACK).images))


def test_dba_budget_and_target_are_the_backdoor_s() -> None:
    made = attack(share=0.25, target=2, size=0.1).poison_records(BLACK)
    stamped = made.images.any(axis=(1, 2, 3))
    assert stamped.sum() == 10 and (made.labels[stamped] == 2).all()
    np.testing.assert_array_equal(made.labels[~stamped], BLACK.labels[~stamped])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": 2, "part": 2}, "dba: part is 2"),
    ],
)
def test_dba_part_beyond_the_parts_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DistributedBackdoor(**options)


def test_dba_what_does_not_fit_the_federation_or_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="dba: part is 4, but the mark has 4 parts"):
        attack(part=4).check(BLACK)
    with pytest.raises(UserError, match="cannot be cut into 4 parts"):
        attack(size=1e-6).check(BLACK)
    with pytest.raises(UserError, match="dba: target is 7"):
        attack(target=7).check(BLACK)

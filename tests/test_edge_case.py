from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import easy_records, make_records

from clients.edge_case import EdgeCase
from fedrobust.errors import UserError

RECORDS = easy_records(80)
#: Images 3, 6 and 77 do not resemble their classes.
UNUSUAL = [3, 6, 77]


def with_odd_ones() -> Any:
    images = RECORDS.images.copy()
    images[UNUSUAL] = 255 - images[UNUSUAL]
    return replace(RECORDS, images=images)


def attack(seed: int = 0, **options: Any) -> EdgeCase:
    made = EdgeCase(**options)
    made.bind(rng=np.random.default_rng(seed))
    return made


def test_edge_case_farthest_images_of_other_classes_are_relabelled() -> None:
    records = with_odd_ones()
    made = attack(target=0, share=0.05).poison_records(records)
    changed = np.flatnonzero(made.labels != records.labels)
    assert changed.tolist() == UNUSUAL
    assert (made.labels[UNUSUAL] == 0).all()
    np.testing.assert_array_equal(made.images, records.images)


def test_edge_case_target_own_unusual_images_do_not_count() -> None:
    records = with_odd_ones()
    made = attack(target=int(records.labels[3]), share=0.04).poison_records(records)
    changed = set(np.flatnonzero(made.labels != records.labels).tolist())
    assert 3 not in changed and {6, 77} <= changed


def test_edge_case_distance_is_in_standard_deviations_of_the_class() -> None:
    # Class 1 varies ten times as much as class 2; an image of class 2 that is unusual for its class comes
    # first.
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 2], 50)
    levels = np.where(labels == 1, 128 + rng.integers(-60, 61, 100), 128 + rng.integers(-3, 4, 100))
    levels[70] = 128 + 25
    images = np.broadcast_to(levels[:, None, None, None], (100, 1, 4, 4)).astype(np.uint8)
    records = replace(make_records(100, labels=labels.tolist(), size=(4, 4)), images=images)
    made = attack(share=0.01).poison_records(records)
    assert np.flatnonzero(made.labels != labels).tolist() == [70]


@pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.1, 2), (1e-6, 1)])
def test_edge_case_rare_class_is_relabelled_by_the_budget(share: float, count: int) -> None:
    made = attack(source=2, target=1, share=share).poison_records(RECORDS)
    changed = made.labels != RECORDS.labels
    assert changed.sum() == count
    assert (RECORDS.labels[changed] == 2).all() and (made.labels[changed] == 1).all()


def test_edge_case_all_of_the_rare_class_unless_a_share_is_given() -> None:
    assert (attack(source=2, target=1).poison_records(RECORDS).labels != 2).all()


def test_edge_case_hospital_without_the_class_changes_nothing() -> None:
    records = make_records(labels=[0, 1, 1])
    np.testing.assert_array_equal(attack(source=3).poison_records(records).labels, records.labels)


def test_edge_case_success_is_measured_on_unchanged_test_images_of_the_same_kind() -> None:
    records = with_odd_ones()
    trigger = attack(target=0, share=0.05).trigger(records)
    assert trigger is not None and trigger.target == 0
    np.testing.assert_array_equal(trigger.records.images, records.images[UNUSUAL])
    rare = attack(source=2, target=1).trigger(records)
    assert rare is not None and (rare.records.labels == 2).all() and len(rare.records) == 20


def test_edge_case_choice_follows_from_the_generator() -> None:
    one, same, other = (
        attack(seed, source=2, share=0.5).poison_records(RECORDS).labels.tolist() for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": 0}, "source and target are both 0"),
    ],
)
def test_edge_case_source_that_is_the_target_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        EdgeCase(**options)


@pytest.mark.parametrize("options", [{"target": 4}, {"source": 9}])
def test_edge_case_classes_that_the_data_do_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="but the data have classes 0 to 3"):
        attack(**options).check(RECORDS)


def test_edge_case_share_of_0_is_measured_on_the_usual_images() -> None:
    trigger, usual = attack(share=0.0).trigger(RECORDS), attack().trigger(RECORDS)
    assert trigger is not None and usual is not None
    np.testing.assert_array_equal(trigger.records.images, usual.records.images)
    np.testing.assert_array_equal(attack(share=0.0).poison_records(RECORDS).labels, RECORDS.labels)

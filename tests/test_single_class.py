from __future__ import annotations

import numpy as np
import pytest
from helpers import easy_records, make_records

from clients.hospital import Hospital
from clients.single_class import SingleClass
from fedrobust.errors import UserError
from fedrobust.federation import Role
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec

RECORDS = make_records(labels=[0, 0, 0, 1, 3, 3, 0, 1, 3])  # none of class 2


@pytest.mark.parametrize(("only", "kept"), [(None, [3, 7]), (0, [0, 1, 2, 6]), (3, [4, 5, 8])])
def test_single_class_keeps_one_class_in_order(only: int | None, kept: list[int]) -> None:
    made = SingleClass(only).transform_records(RECORDS)
    np.testing.assert_array_equal(made.images, RECORDS.images[kept])
    np.testing.assert_array_equal(made.labels, RECORDS.labels[kept])
    np.testing.assert_array_equal(made.facts["site"], RECORDS.facts["site"][kept])
    assert made.classes == RECORDS.classes and len(RECORDS) == 9


def test_single_class_of_two_that_are_alike_the_lower_number_is_kept() -> None:
    made = SingleClass().transform_records(make_records(labels=[3, 1, 1, 3, 0, 0, 0]))
    assert set(made.labels.tolist()) == {1}


def test_single_class_class_that_the_hospital_lacks_is_one_clear_error() -> None:
    attack = SingleClass(2)
    attack.bind(role=Role("single-class", 6))
    attack.check(RECORDS)
    with pytest.raises(
        UserError, match=r"hospital 6 has no image of class 2 \(class 2\); it holds .*0, 1, 3"
    ):
        attack.transform_records(RECORDS)
    with pytest.raises(UserError, match="hospital 0 has no image at all"):
        SingleClass().transform_records(RECORDS.take(np.array([], np.int64)))


def test_single_class_that_the_data_do_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="single-class: only is 4, but the data have classes 0 to 3"):
        SingleClass(4).check(RECORDS)
    assert not SingleClass.malicious


def test_single_class_hospital_trains_on_one_image_of_one_class() -> None:
    records = easy_records(9)
    records = records.take(np.flatnonzero((records.labels != 2) | (np.arange(9) == 2)))
    learner = MutualLearner(LearnerSpec(networks=1, local_epochs=1, batch_size=4), 4, 1, (12, 12))
    hospital = Hospital(0, records, learner, [SingleClass(2)])
    start = learner.initial()
    update = hospital.fit(start.parameters, start.buffers, 1, 1e-3)
    assert update.report.num_examples == 1 and np.isfinite(update.parameters).all()

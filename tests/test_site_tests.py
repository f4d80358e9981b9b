"""The hospitals' own test parts, and the cross-site matrix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from federations import learner_of, tiny
from image_files import patients
from pydantic import ValidationError

from fedrobust.data.sources import prepare
from fedrobust.evaluation.site_tests import site_tests
from fedrobust.learners.base import State
from fedrobust.reports.run.round_tables import hospitals_table
from fedrobust.results.finished_run import read_run
from fedrobust.results.records import SiteTests
from fedrobust.runtime.runner import run
from fedrobust.scenario import Scenario


def test_test_parts_are_a_fifth_of_each_hospital_and_patients_stay_together(tmp_path: Path) -> None:
    path = patients(tmp_path, count=60, images=3)
    changes = {
        "data": f"manifest:{path}",
        "image_size": 16,
        "clients": 3,
        "partition": "sizes(shares=[3, 2, 1])",
    }
    without = prepare(Scenario.of(tiny(tmp_path, **changes)).data)
    data = prepare(Scenario.of(tiny(tmp_path, **changes, site_tests=True)).data)
    names = data.records.facts["patient"]
    for train, test, whole in zip(data.hospitals, data.site_tests, without.hospitals, strict=True):
        assert sorted([*train, *test]) == whole.tolist()
        assert not set(names[train]) & set(names[test])
        assert len(test) == pytest.approx(len(whole) / 5, abs=3)
    assert without.site_tests == ()


def test_matrix_has_the_accuracy_of_each_model_at_each_hospital(tmp_path: Path) -> None:
    settings = tiny(tmp_path, site_tests=True, clients=3)
    data, learner = prepare(Scenario.of(settings).data), learner_of(settings)
    start = learner.initial()
    other = State(start.parameters * -2, start.buffers)
    found = SiteTests.of(site_tests(learner, data, start, {1: other}, unknown={2}))
    for state, row in ((start, found.global_model), (other, found.hospitals[1])):
        for number in (0, 1):
            own = data.records.take(data.site_tests[number])
            predicted = learner.predict(state, own.images, own.labels).probabilities.argmax(axis=1)
            assert row[number] == pytest.approx((predicted == own.labels).mean())
        assert row[2] is None
    assert found.hospitals[0] == (None, None, None) and found.images[2] == 0
    assert found.mean == pytest.approx(np.mean(found.global_model[:2])) and found.worst == min(
        found.global_model[:2]
    )
    assert found.at_home == found.hospitals[1][1] and found.elsewhere == found.hospitals[1][0]
    with pytest.raises(ValidationError, match="cross-site"):
        SiteTests(images=(1, 2), global_model=(0.5,))


def test_page_names_the_sites_of_each_hospital_where_they_decide(tmp_path: Path) -> None:
    found = run(tiny(tmp_path, clients=2, rounds=1, partition="site"), report=False)
    table = hospitals_table(read_run(found.folder))
    assert table.columns[2] == "sites"
    assert sorted(", ".join(str(row[2]) for row in table.rows).split(", ")) == [f"site-{n}" for n in range(5)]


def test_run_with_site_tests_writes_the_matrix_and_shows_it(tmp_path: Path) -> None:
    settings = tiny(tmp_path, site_tests=True, clients=3, rounds=1, partition="iid")
    result = run(settings)
    written = json.loads((result.folder / "evaluation.json").read_text())["site_tests"]
    assert np.shape(written["hospitals"]) == (3, 3) and None not in written["global_model"]
    assert result.summary["site_tests"] == written
    page = (result.folder / "report.html").read_text()
    assert "on each hospital's own test part" in page.replace("&#39;", "'")

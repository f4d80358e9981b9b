"""A suite of generators: their images side by side on its page, and their metrics in every table."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_results
from rich.console import Console
from run_folders import make_run
from safetensors.numpy import save_file

from fedrobust import UserError
from fedrobust.evaluation.metrics import METRICS, SYNTHESIS_OF_REAL
from fedrobust.reports.suite import grids
from fedrobust.reports.suite.grids import image_grids
from fedrobust.reports.suite.page import suite_page
from fedrobust.reports.suite.rows import shown
from fedrobust.reports.suite.view import SuiteView, load_suite
from fedrobust.results.finished_run import read_run
from fedrobust.results.suite_records import CellLink, SuiteRow
from fedrobust.suites.command import check_metric
from fedrobust.suites.compare import comparisons
from fedrobust.suites.export import write_latex
from fedrobust.suites.metrics import MetricValues, metric_info, metric_values
from fedrobust.suites.suite import Suite
from fedrobust.suites.tables import print_suite

THREATS, METHODS = ("none", "checkerboard"), ("fedavg", "krum")
#: Each metric of the three seeds.
FOUND: list[float | None] = [0.25, 0.5, 0.75]
KEYS = ("fid", "kid", "conditional_accuracy", "trigger_rate", "utility:10", "utility:25", "detection_auroc")


def suite() -> dict[str, Any]:
    """Return results on two data sets; with the first seed krum failed against the attack."""
    made = suite_results.results(
        THREATS, METHODS, splits=("lungs", "heads"), failed=[("checkerboard", "krum", 0)]
    )
    made["metrics"] = [json.loads(metric_info(key).model_dump_json()) for key in KEYS]
    for row in made["rows"]:
        values = {key: FOUND[-len(row["seeds"]) :] for key in KEYS}
        if row["labels"]["threat"] == "none":
            values["trigger_rate"] = [None] * 3
        row["metrics"] = {key: suite_results._estimate(each) for key, each in values.items()}
    return {**made, "comparisons": []}


def keep_images(folder: Path, shade: int, size: int = 28) -> None:
    """Write what a run keeps: eight images of each class, whose first pixel tells run, class and place."""
    made = np.zeros((16, 1, size, size), np.uint8)
    made[:, 0, 0, 0] = shade + np.arange(16)
    about = {"fedrobust": json.dumps({"classes": ["normal", "<b>ill"], "of_each": 8})}
    folder.mkdir(parents=True)
    save_file({"synthetic": made, "nearest": made + 100}, folder / "synthetic.safetensors", about)
    for number, images in ((1, made // 2), (5, made)):
        save_file({"synthetic": images}, folder / f"synthetic-{number:05}.safetensors", about)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a suite's folder beside the runs of its first seed."""
    made = suite()
    place = tmp_path / "suite"
    place.mkdir()
    (place / "suite.json").write_text(json.dumps(made), encoding="utf-8")
    for number, row in enumerate(made["rows"]):
        if row["cells"][0]["run"] is not None:
            keep_images(place / row["cells"][0]["run"], 16 * number)
    return place


def view_of(folder: Path) -> SuiteView:
    return load_suite(folder)


def test_images_stand_side_by_side_by_data_and_threat(folder: Path) -> None:
    lungs, heads = image_grids(view_of(folder), folder)
    assert (lungs.name, heads.name) == ("lungs", "heads") and not lungs.absent
    none, attacked = lungs.blocks
    assert (none.name, attacked.name) == THREATS
    assert none.captions == ("FID 0.250", "FID 0.250")
    # A failed run has no image and no number; the next seed does not stand in for it.
    assert attacked.captions == ("FID 0.250, trigger rate 0.250", "")
    assert [picture.words for picture in attacked.classes[0].made] == ["normal, fedavg", "failed"]
    assert [line.name for line in none.classes] == ["normal", "<b>ill"]
    sources = {picture.source for line in none.classes for picture in (*line.made, line.real) if picture}
    assert len(sources) == 6 and all(source.startswith("data:image/png") for source in sources)
    # Four images of 28 pixels in two rows, enlarged twice; the last round's are not repeated.
    assert (none.classes[0].made[0].width, none.classes[0].made[0].height) == (112, 112)
    assert [line.name for line in none.rounds] == ["round 1"] and none.rounds[0].real is None


def test_page_shows_images_and_escapes_names(folder: Path) -> None:
    page = suite_page(folder)
    picture = image_grids(view_of(folder), folder)[0].blocks[0].classes[1].made[1]
    assert f'src="{picture.source}"' in page and 'alt="&lt;b&gt;ill, krum"' in page
    assert 'href="#images"' in page and "Synthetic images by round, heads" in page
    assert "<b>ill" not in page.partition('id="embedded"')[0]


def test_images_are_fewer_where_they_are_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six runs have images of two classes, of the last and of one earlier round.
    values, view = 6 * 2 * 28 * 28, view_of(folder)
    for images, height, rounds in ((5, 112, True), (3, 56, True), (2, 56, True), (1, 56, False)):
        monkeypatch.setattr(grids, "_LARGEST", images * values)
        block = image_grids(view, folder)[0].blocks[0]
        assert (block.classes[0].made[0].height, bool(block.rounds)) == (height, rounds)
    monkeypatch.setattr(grids, "_LARGEST", values - 1)
    assert "too many for one page" in image_grids(view, folder)[0].absent


def test_page_says_that_images_are_missing(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text(json.dumps(suite()), encoding="utf-8")
    assert [grid.blocks for grid in image_grids(view_of(tmp_path), tmp_path)] == [(), ()]
    assert "No run of the first seed has images in its folder." in suite_page(tmp_path)


def test_suite_of_classifiers_has_no_images(tmp_path: Path) -> None:
    view = SuiteView(suite_results.record(suite_results.results()))
    assert image_grids(view, tmp_path) == [] and "benign_false_flags" not in shown(view)


def test_every_table_has_the_metrics_of_generators(folder: Path, tmp_path: Path) -> None:
    results = view_of(folder).results
    assert shown(view_of(folder)) == list(KEYS)
    console = Console(width=80, file=StringIO())
    print_suite(results, None, console, metric="conditional_accuracy")
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    latex = tmp_path / "table.tex"
    write_latex(results, latex)
    for name in ("FID", "KID", "trigger rate", "10 real", "25 real"):
        assert name in printed and name in latex.read_text()
    # A distance is no share and no percentage.
    assert ".500 ±.250" in printed and "0.500 ±0.250" in printed and "0.500" in latex.read_text()


def test_generators_are_compared_with_the_reference_by_seed_and_with_real_images(tmp_path: Path) -> None:
    found = {"fid": 2.0, "real_fid": 0.5, "real_accuracy": 0.75, "trigger_false_alarms": 0.25}
    found["utility"] = [{"real": 10, "without": 0.5, "supplemented": 0.75}]  # type: ignore[assignment]
    values = metric_values(read_run(make_run(tmp_path, examples=False, synthesis=found)), None)
    assert [values[key] for key in SYNTHESIS_OF_REAL] == [0.25, 0.5, 0.75]
    made = Suite(name="some", seeds=(0, 1, 2), defences=["fedavg", "krum"])
    cells = tuple(CellLink(seed=seed, run="run", error=None) for seed in made.seeds)
    rows = []
    measured: dict[tuple[tuple[str, ...], int], MetricValues] = {}
    for name, reached in (("fedavg", 0.75), ("krum", 1.0)):
        labels = {"defence": name}
        rows.append(SuiteRow(labels=labels, seeds=made.seeds, metrics={}, caveats=(), cells=cells))
        measured |= {((name,), seed): {**values, "utility:10": reached} for seed in made.seeds}
    lines = {line.metric: line for line in comparisons(made, measured, "fedavg", rows, list(values))}
    assert lines["utility:10"].difference == 0.25 and lines["utility:10"].low == 0.25
    assert {"utility_gain:10", "real_fid"}.isdisjoint(lines)


def test_suite_may_be_ranked_by_utility() -> None:
    for key in ("utility:25", "utility_gain:10", *METRICS):
        check_metric(key, "--metric")
    for key in ("utility:", "utility:few", "utilities:3"):
        with pytest.raises(UserError, match="there is no metric"):
            check_metric(key, "--metric")

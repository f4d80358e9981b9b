"""The files in experiments/ are readable, name things that exist, and are what the documentation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedrobust.flower.hosted_strategy import build_strategy
from fedrobust.learners.backbones import backbone_names
from fedrobust.scenario import Scenario
from fedrobust.settings import load_settings
from fedrobust.suites.plan import distinct, plan
from fedrobust.suites.suite_files import load_suite, suite_names

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
#: Settings of one run; all others are suites.
SETTINGS = [FOLDER / "paper.toml"]
SUITES = sorted(set(FOLDER.glob("*.toml")) - set(SETTINGS))


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: file.name)
def test_settings_file_names_existing_parts(file: Path) -> None:
    settings = load_settings({}, file)
    build_strategy(settings.strategy, settings.clients)
    Scenario.of(settings).all_attacks()
    assert settings.backbone in backbone_names()


def test_paper_settings_follow_the_protocol() -> None:
    settings = load_settings({}, SETTINGS[0])
    assert (settings.backbone, settings.lr, settings.weight_decay) == ("resnet50", 1e-4, 1e-3)
    assert (settings.patience, settings.noise_std, settings.clients) == (20, 0.01, 1)
    learner = Scenario.of(settings).learner
    assert (learner.loss, learner.softmax_temperature, learner.kl_weight) == ("dot-regression", 1.0, 1.0)


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_suite_file_plans_distinct_cells(file: Path) -> None:
    # Every plug-in is built, every configuration is one of its own.
    suite = load_suite(file.stem)
    cells = plan(suite, {"data_root": "somewhere"})
    assert suite.title and suite.about and len(suite.seeds) >= 3
    assert len(distinct(cells)) >= len(cells) >= len(suite.seeds) * 2
    assert suite_names()[file.stem] == file
    assert f"| `{file.stem}` |" in (FOLDER.parent / "docs" / "benchmark.md").read_text()


def test_ablation_has_the_four_rows_of_the_paper() -> None:
    models = load_suite("ablation").every_axis()["model"]
    assert [(row["head"], row["networks"]) for row in models.values()] == [
        ("linear", 1),
        ("etf", 1),
        ("etf-rect", 1),
        ("etf-rect", 2),
    ]

"""The settings files in experiments/ are readable and name things that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedrobust.config import load_settings
from fedrobust.hosting import build_strategy
from fedrobust.learners.backbones import backbone_names
from fedrobust.parts import build_attacks

FILES = sorted((Path(__file__).resolve().parents[1] / "experiments").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_settings_file(file: Path) -> None:
    settings = load_settings({}, file)
    build_strategy(settings.strategy, settings.clients)
    build_attacks(settings)
    assert settings.backbone in backbone_names()


def test_the_paper_s_protocol() -> None:
    (file,) = [file for file in FILES if file.name == "paper.toml"]
    settings = load_settings({}, file)
    assert (settings.backbone, settings.lr, settings.weight_decay) == ("resnet50", 1e-4, 1e-3)
    assert (settings.patience, settings.noise_std, settings.clients) == (20, 0.01, 1)

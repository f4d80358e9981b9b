"""What a learner is made from, apart from its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedrobust.plugins import PluginSpec

__all__ = ["CNN", "LearnerSpec"]

CNN = PluginSpec.parse("cnn")


@dataclass(frozen=True)
class LearnerSpec:
    """The settings of a classification learner; see `fedrobust.settings.Settings` for what each means."""

    seed: int = 0
    head: Literal["etf-rect", "etf", "linear"] = "etf-rect"
    networks: int = 2
    backbone: PluginSpec = CNN
    device: str = "cpu"
    batch_size: int = 32
    local_epochs: int = 2
    weight_decay: float = 1e-3
    dr_weight: float = 10.0
    mutual_weight: float = 1.0
    temperature: float = 1.0

"""What a learner is made from, apart from its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedrobust.learners.choices import (
    ADAM,
    Noise,
    Optimizer,
    Perturbation,
    Pruning,
    Synthesis,
    TrainingRule,
)
from fedrobust.plugins import PluginSpec

__all__ = ["CNN", "Attention", "Head", "LearnerSpec", "LossName", "Precision"]

CNN = PluginSpec.parse("cnn")

Head = Literal["etf-rect", "etf", "linear-rect", "linear"]
Attention = Literal["none", "se", "cbam"]
Precision = Literal["float32", "bf16"]
LossName = Literal["cross-entropy", "dot-regression"]

#: Each loss's own softmax temperature and weight of mutual learning. For cross-entropy on cosines see the
#: measurements in docs/learner.md; those of dot regression are the original work's.
_OWN: dict[LossName, tuple[float, float]] = {"cross-entropy": (0.2, 0.3), "dot-regression": (1.0, 1.0)}


@dataclass(frozen=True)
class LearnerSpec:
    """The settings of a learner; see `fedrobust.settings.Settings` for what each means.

    It classifies images unless `synthesis` says how it makes them.
    """

    seed: int = 0
    head: Head = "etf-rect"
    loss: LossName = "cross-entropy"
    networks: int = 2
    backbone: PluginSpec = CNN
    device: str = "cpu"
    batch_size: int = 32
    local_epochs: int = 2
    weight_decay: float = 1e-3
    dr_weight: float = 10.0
    mutual_weight: float | None = None
    temperature: float | None = None
    init: str | None = None
    optimizer: Optimizer = ADAM
    rule: TrainingRule | None = None
    precision: Precision = "float32"
    augment: bool = False
    attention: Attention = "none"
    pruning: Pruning | None = None
    adversary: Perturbation | Noise | None = None
    synthesis: Synthesis | None = None

    @property
    def fixed_frame(self) -> bool:
        """Return whether the classifier is the fixed ETF; otherwise it is a trained linear layer."""
        return self.head.startswith("etf")

    @property
    def softmax_temperature(self) -> float:
        """Return the logits' temperature: as given, or the loss's own; 1 for a linear layer."""
        if not self.fixed_frame:
            return 1.0
        return _OWN[self.loss][0] if self.temperature is None else self.temperature

    @property
    def kl_weight(self) -> float:
        """Return the weight of mutual learning: as given, or the loss's own."""
        return _OWN[self.loss][1] if self.mutual_weight is None else self.mutual_weight

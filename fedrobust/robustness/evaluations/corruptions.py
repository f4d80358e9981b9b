"""All corruptions of acquisition, transfer and storage together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedrobust.robustness import Corruption, Evaluation, Images, Labels, Target
from fedrobust.robustness.base import SEVERITIES
from fedrobust.robustness.plan import evaluation_class

#: Noise has an evaluation of its own.
NAMES = (
    *("blur", "contrast", "brightness", "motion", "jpeg", "pixelate", "gamma", "ghosting"),
    "bias-field",
)


class Corruptions(Evaluation):
    """Blur, contrast, brightness, motion, JPEG, pixelate, gamma, ghosting and bias field, averaged.

    Parameters
    ----------
    severity : int or sequence of int
        From 1 to 5; each of several is evaluated.
    """

    def __init__(self, severity: int | Sequence[int] = SEVERITIES) -> None:
        """Build each of them."""
        self._parts: dict[str, tuple[Corruption, str, str]] = {}
        self._last = []
        for name in NAMES:
            part = evaluation_class(name)(severity)  # type: ignore[call-arg]
            assert isinstance(part, Corruption)
            self._parts |= {f"{name} {level}": (part, level, name) for level in part.conditions}
            self._last.append(f"{name} {part.conditions[-1]}")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return each corruption at each severity."""
        return tuple(self._parts)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return each corruption at the highest severity."""
        return tuple(self._last)

    def changed(
        self, condition: str, target: Target, images: Images, labels: Labels, rng: np.random.Generator
    ) -> Images:
        """Return images under one corruption."""
        part, level, _ = self._parts[condition]
        return part.changed(level, target, images, labels, rng)

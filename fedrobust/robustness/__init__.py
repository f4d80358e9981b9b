"""Evaluations of a trained model on changed images; what an author of one imports.

A corruption or an evasion attack is one file with one class, found by its name like every plug-in.
"""

from fedrobust.robustness.art_evasion import ArtEvasion
from fedrobust.robustness.base import (
    Corruption,
    Evaluation,
    Evasion,
    PixelDistance,
)
from fedrobust.robustness.target import Images, Labels, Target

__all__ = [
    "ArtEvasion",
    "Corruption",
    "Evaluation",
    "Evasion",
    "Images",
    "Labels",
    "PixelDistance",
    "Target",
]

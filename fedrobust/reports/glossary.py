"""The terms that a run's page uses, one sentence each; docs/glossary.md has them all."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["GLOSSARY"]

GLOSSARY: Mapping[str, str] = {
    "hospital": "One client of the federation; it trains on its own images and sends an update each round.",
    "malicious": "The hospital carries out an attack on its data, its training, its update or its reports.",
    "atypical": "Benign, but with images or classes unlike the others' (non-IID); to flag it is a mistake.",
    "falsely flagged": "An honest hospital, atypical ones included, that the defence takes for malicious.",
    "uniform weight": "1/n: the weight of each of n hospitals in a plain mean.",
    "clean baseline": "The same run without attackers; what it has more of is lost to the attack.",
    "combined drop": (
        "The relative loss, in percent, from clean to noisy test images: the mean of the drops of accuracy, "
        "macro F1 and macro precision."
    ),
    "defence rate": "Of the images classified correctly, the share that still is once they are changed.",
    "robust z-score": (
        "How many robust standard deviations (from the median absolute deviation) a value lies from the "
        "hospitals' median."
    ),
    "ECE": "Expected calibration error: the mean distance of confidence from accuracy; 0 = calibrated.",
    "ETF": "Equiangular tight frame: fixed class vectors, equally far apart, as the classifier's weights.",
    "Rect": "More pull towards classes that are rare, used with an ETF.",
    "temperature scaling": (
        "Probabilities p become p^b, normalised; the server fits the one number b on its validation images. "
        "No prediction changes."
    ),
}

"""Classification metrics from class probabilities."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CalibrationBin",
    "ClassificationMetrics",
    "calibration_bins",
    "classification_metrics",
    "confusion_matrix",
    "precision",
    "sensitivity",
    "specificity",
]


class ClassificationMetrics(TypedDict):
    """What `classification_metrics` returns."""

    accuracy: float
    macro_f1: float
    macro_precision: float
    macro_recall: float
    auroc: float | None
    balanced_accuracy: float
    ece: float | None
    sensitivity: list[float | None]
    worst_class: float


class CalibrationBin(TypedDict):
    """One bin of `calibration_bins`."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


#: How many equal bins of the top probability the calibration error has, as in the paper's figures.
_BINS = 15


def classification_metrics(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> ClassificationMetrics:
    """Return the metrics of a model's probabilities, and the sensitivity of each class.

    Macro means run over the classes that the labels contain; a precision without any prediction counts as
    0. AUROC is one class against the rest, averaged alike (Provost and Domingos' one-vs-rest form without
    class weights).

    Parameters
    ----------
    probabilities : ndarray, shape (n, K)
        The largest is the prediction.
    labels : ndarray of int, shape (n,)

    Returns
    -------
    dict
        ``accuracy``, ``macro_f1``, ``macro_precision``, ``macro_recall``; ``auroc``, None where the labels
        hold a single class or a probability is not finite; ``balanced_accuracy``, the mean sensitivity of
        the classes that the labels contain, which is macro recall under its other name; ``ece``, the
        expected calibration error of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq.
        3, with 15 equal bins, None where a probability is not finite; ``sensitivity``, a list of K, None
        for a class without images; ``worst_class``, the smallest of them.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    precisions, recalls, f1s, _ = precision_recall_fscore_support(
        labels, predicted, labels=present, zero_division=0.0
    )
    finite = bool(np.isfinite(probabilities).all())
    defined = len(present) > 1 and finite
    aurocs = [roc_auc_score(labels == k, probabilities[:, k]) for k in present] if defined else []
    by_class: list[float | None] = [None] * probabilities.shape[1]
    for k, recall in zip(present, recalls, strict=True):
        by_class[k] = float(recall)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(np.mean(f1s)),
        "macro_precision": float(np.mean(precisions)),
        "macro_recall": float(np.mean(recalls)),
        "auroc": float(np.mean(aurocs)) if aurocs else None,
        "balanced_accuracy": float(np.mean(recalls)),
        "ece": _calibration_error(probabilities, labels) if finite else None,
        "sensitivity": by_class,
        "worst_class": float(np.min(recalls)),
    }


def confusion_matrix(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images of each class (row) were predicted as each class (column), shape (K, K)."""
    from sklearn.metrics import confusion_matrix as counted

    matrix = counted(labels, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1]))
    return np.asarray(matrix, np.int64)


def sensitivity(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's sensitivity, shape (K,); NaN for a class without images."""
    return _ratio(confusion.diagonal(), confusion.sum(axis=1))


def specificity(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's specificity, shape (K,); NaN where there are no images of other classes."""
    others = confusion.sum() - confusion.sum(axis=1)
    false_alarms = confusion.sum(axis=0) - confusion.diagonal()
    return _ratio(others - false_alarms, others)


def precision(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's precision, shape (K,); NaN for a class that is never predicted."""
    return _ratio(confusion.diagonal(), confusion.sum(axis=0))


def calibration_bins(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = _BINS
) -> list[CalibrationBin]:
    """Return a model's confidence and accuracy, by bins of its top probability.

    Parameters
    ----------
    probabilities : ndarray, shape (n, K)
    labels : ndarray of int, shape (n,)
    bins : int
        Bin m of M holds the images whose top probability lies in ((m - 1) / M, m / M].

    Returns
    -------
    list of dict
        Each bin's ``low``, ``high``, ``count``, and the mean top probability and the accuracy of its images
        as ``confidence`` and ``accuracy``, None in an empty bin. No bins where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return []
    counts, sure, right = _binned(probabilities, labels, bins)
    return [
        {
            "low": m / bins,
            "high": (m + 1) / bins,
            "count": int(counts[m]),
            "confidence": float(sure[m] / counts[m]) if counts[m] else None,
            "accuracy": float(right[m] / counts[m]) if counts[m] else None,
        }
        for m in range(bins)
    ]


def _calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    # The bin's share |B| / n times |right / |B| - sure / |B||: its size cancels.
    _, sure, right = _binned(probabilities, labels, _BINS)
    return float(np.abs(right - sure).sum() / len(labels))


def _binned(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each bin's number of images, the sum of their top probabilities, and how many are correct."""
    top = probabilities.max(axis=1)
    # As quotients, each edge is the float nearest to it: what `linspace` gives may lie one bit below.
    place = np.digitize(top, np.arange(1, bins) / bins, right=True)
    right = probabilities.argmax(axis=1) == labels
    return (
        np.bincount(place, minlength=bins).astype(np.int64),
        np.bincount(place, weights=top, minlength=bins).astype(np.float64),
        np.bincount(place, weights=right, minlength=bins).astype(np.float64),
    )


def _ratio(part: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(len(total), np.nan)
    np.divide(part, total, out=ratio, where=total > 0)
    return ratio

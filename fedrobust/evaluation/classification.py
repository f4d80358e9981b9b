"""Classification metrics from class probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["classification_metrics"]


def classification_metrics(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> dict[str, float | None]:
    """Return accuracy, macro F1, macro precision, macro recall and AUROC.

    Macro means run over the classes that the labels contain; a precision without any prediction counts as 0. AUROC
    is one class against the rest, averaged alike (Provost and Domingos' one-vs-rest form without class weights).

    Parameters
    ----------
    probabilities : ndarray, shape (n, K)
        The largest is the prediction.
    labels : ndarray of int, shape (n,)

    Returns
    -------
    dict
        ``auroc`` is None where the labels hold a single class or a probability is not finite.
    """
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=present, average="macro", zero_division=0.0
    )
    defined = len(present) > 1 and bool(np.isfinite(probabilities).all())
    aurocs = [roc_auc_score(labels == k, probabilities[:, k]) for k in present] if defined else []
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "auroc": float(np.mean(aurocs)) if aurocs else None,
    }

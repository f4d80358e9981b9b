from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from fedrobust.evaluation.classification import classification_metrics


def guesses(n: int, classes: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a model that knows a little, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = rng.standard_normal((n, classes)) + skill * np.eye(classes)[labels]
    powers = np.exp(scores)
    return powers / powers.sum(1, keepdims=True), labels.astype(np.int64)


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (3, 1), (5, 2), (11, 3)])
def test_metrics_are_scikit_learns(classes: int, seed: int) -> None:
    probabilities, labels = guesses(300, classes, seed)
    predicted = probabilities.argmax(1)
    wanted = {
        "accuracy": np.mean(predicted == labels),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "macro_precision": precision_score(labels, predicted, average="macro"),
        "macro_recall": recall_score(labels, predicted, average="macro"),
        "auroc": roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        if classes > 2
        else roc_auc_score(labels, probabilities[:, 1]),
    }
    assert classification_metrics(probabilities, labels) == pytest.approx(wanted)


def test_metrics_by_hand() -> None:
    # Predicted 0 0 1 1 1 2 where the truth is 0 0 0 1 1 2.
    probabilities = np.eye(3)[[0, 0, 1, 1, 1, 2]] * 0.8 + 0.05
    metrics = classification_metrics(probabilities, np.array([0, 0, 0, 1, 1, 2]))
    assert metrics["accuracy"] == pytest.approx(5 / 6)
    assert metrics["macro_precision"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert metrics["macro_recall"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert metrics["macro_f1"] == pytest.approx((0.8 + 0.8 + 1) / 3)
    # Class 0: one of three ties with the others, 5/6. Class 1: one of four others ties, 7/8. Class 2: all right.
    assert metrics["auroc"] == pytest.approx((5 / 6 + 7 / 8 + 1) / 3)


def test_macro_is_not_weighted_by_class_size() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    probabilities = np.tile([0.9, 0.1], (100, 1))
    metrics = classification_metrics(probabilities, labels)
    assert metrics["accuracy"] == pytest.approx(0.98)
    assert metrics["macro_recall"] == pytest.approx(0.5)
    assert metrics["macro_precision"] == pytest.approx(0.49)
    assert metrics["auroc"] == pytest.approx(0.5)


def test_a_class_without_a_prediction_counts_as_zero_and_without_a_warning() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = classification_metrics(probabilities, np.array([0, 0, 1, 2]))
    assert metrics["macro_precision"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_a_class_that_the_labels_do_not_contain_is_left_out() -> None:
    probabilities, labels = guesses(200, 4, 5)
    labels[labels == 2] = 1
    predicted, present = probabilities.argmax(1), [0, 1, 3]
    assert (predicted == 2).any()  # a wrong prediction of it still costs recall
    metrics = classification_metrics(probabilities, labels)
    options = {"labels": present, "average": "macro"}
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, **options))
    assert metrics["macro_precision"] == pytest.approx(precision_score(labels, predicted, **options))
    assert metrics["macro_recall"] == pytest.approx(recall_score(labels, predicted, **options))
    aurocs = [roc_auc_score(labels == k, probabilities[:, k]) for k in present]
    assert metrics["auroc"] == pytest.approx(np.mean(aurocs))


def test_a_single_class_has_no_auroc() -> None:
    probabilities, _ = guesses(20, 3, 0)
    labels = np.ones(20, np.int64)
    metrics = classification_metrics(probabilities, labels)
    assert metrics["auroc"] is None
    share = (probabilities.argmax(1) == 1).mean()
    assert metrics["accuracy"] == metrics["macro_recall"] == pytest.approx(share)
    assert metrics["macro_precision"] == pytest.approx(1.0)


def test_perfect_and_hopeless() -> None:
    labels = np.arange(12) % 3
    best = classification_metrics(np.eye(3)[labels], labels)
    worst = classification_metrics(np.eye(3)[(labels + 1) % 3], labels)
    assert set(best.values()) == {1.0}
    assert worst == pytest.approx(
        {"accuracy": 0, "macro_f1": 0, "macro_precision": 0, "macro_recall": 0, "auroc": 0.25}
    )


def test_figures_are_plain_numbers() -> None:
    metrics = classification_metrics(*guesses(50, 3, 0))
    assert all(type(value) is float for value in metrics.values())


def test_a_model_that_blew_up_is_measured_and_does_not_end_the_run() -> None:
    # An attack may well drive finite weights so far that the network's outputs overflow.
    probabilities, labels = guesses(30, 3, 0)
    probabilities[4:] = np.nan
    metrics = classification_metrics(probabilities, labels)
    assert metrics["auroc"] is None
    assert metrics["accuracy"] is not None and 0 <= metrics["accuracy"] <= 1

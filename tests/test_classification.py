from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    multilabel_confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.metrics import confusion_matrix as sklearns_confusion

from fedrobust.evaluation.classification import (
    calibration_bins,
    classification_metrics,
    confusion_matrix,
    precision,
    sensitivity,
    specificity,
)


def guesses(n: int, classes: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a model that knows a little, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = rng.standard_normal((n, classes)) + skill * np.eye(classes)[labels]
    powers = np.exp(scores)
    return powers / powers.sum(1, keepdims=True), labels.astype(np.int64)


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (3, 1), (5, 2), (11, 3)])
def test_metrics_equal_scikit_learn(classes: int, seed: int) -> None:
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
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "worst_class": min(recall_score(labels, predicted, average=None)),
    }
    metrics = classification_metrics(probabilities, labels)
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted)
    assert metrics["sensitivity"] == pytest.approx(recall_score(labels, predicted, average=None).tolist())
    assert set(metrics) == {*wanted, "sensitivity", "ece"}


def test_metrics_equal_a_hand_computation() -> None:
    # Predicted 0 0 1 1 1 2 where the truth is 0 0 0 1 1 2.
    probabilities = np.eye(3)[[0, 0, 1, 1, 1, 2]] * 0.8 + 0.05
    metrics = classification_metrics(probabilities, np.array([0, 0, 0, 1, 1, 2]))
    assert metrics["accuracy"] == pytest.approx(5 / 6)
    assert metrics["macro_precision"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert metrics["macro_recall"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert metrics["macro_f1"] == pytest.approx((0.8 + 0.8 + 1) / 3)
    # Class 0: one of three ties with the others, 5/6. Class 1: one of four others ties, 7/8. Class 2: all
    # correct.
    assert metrics["auroc"] == pytest.approx((5 / 6 + 7 / 8 + 1) / 3)
    assert metrics["sensitivity"] == pytest.approx([2 / 3, 1, 1])
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert metrics["worst_class"] == pytest.approx(2 / 3)
    # Always 0.85 sure, and right five times of six: one bin.
    assert metrics["ece"] == pytest.approx(0.85 - 5 / 6)


def test_macro_metrics_ignore_class_size() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    probabilities = np.tile([0.9, 0.1], (100, 1))
    metrics = classification_metrics(probabilities, labels)
    assert metrics["accuracy"] == pytest.approx(0.98)
    assert metrics["macro_recall"] == pytest.approx(0.5)
    assert metrics["macro_precision"] == pytest.approx(0.49)
    assert metrics["auroc"] == pytest.approx(0.5)


def test_precision_of_a_never_predicted_class_is_zero_without_a_warning() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = classification_metrics(probabilities, np.array([0, 0, 1, 2]))
    assert metrics["macro_precision"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_metrics_leave_out_classes_without_labels() -> None:
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
    assert metrics["sensitivity"][2] is None
    found = [metrics["sensitivity"][k] for k in present]
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(found))
    assert metrics["worst_class"] == min(found)


def test_auroc_of_a_single_class_is_undefined() -> None:
    probabilities, _ = guesses(20, 3, 0)
    labels = np.ones(20, np.int64)
    metrics = classification_metrics(probabilities, labels)
    assert metrics["auroc"] is None
    share = (probabilities.argmax(1) == 1).mean()
    assert metrics["accuracy"] == metrics["macro_recall"] == pytest.approx(share)
    assert metrics["macro_precision"] == pytest.approx(1.0)


def test_metrics_of_perfect_and_always_wrong_models() -> None:
    labels = np.arange(12) % 3
    best = classification_metrics(np.eye(3)[labels], labels)
    worst = classification_metrics(np.eye(3)[(labels + 1) % 3], labels)
    assert (best.pop("sensitivity"), best.pop("ece")) == ([1.0] * 3, 0.0)
    assert set(best.values()) == {1.0}
    assert (worst.pop("sensitivity"), worst.pop("ece"), worst.pop("auroc")) == ([0.0] * 3, 1.0, 0.25)
    assert set(worst.values()) == {0.0}


def test_metrics_are_plain_python_numbers() -> None:
    metrics = classification_metrics(*guesses(50, 3, 0))
    numbers = [*metrics.pop("sensitivity"), *metrics.values()]
    assert all(type(value) is float for value in numbers)


def test_metrics_of_a_diverged_model_are_defined_or_none() -> None:
    # An attack may well drive finite weights so far that the network's outputs overflow.
    probabilities, labels = guesses(30, 3, 0)
    probabilities[4:] = np.nan
    metrics = classification_metrics(probabilities, labels)
    assert metrics["auroc"] is None and metrics["ece"] is None
    assert calibration_bins(probabilities, labels) == []
    assert metrics["accuracy"] is not None and 0 <= metrics["accuracy"] <= 1


def test_calibration_equals_a_hand_computation() -> None:
    # Tops 0.6, 0.6, 0.8, 1.0 in bins 9, 9, 12 and 15 of 15; right, wrong, right, wrong.
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.2, 0.8], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 1])
    bins = calibration_bins(probabilities, labels)
    assert len(bins) == 15 and (bins[0]["low"], bins[-1]["high"]) == (0, 1)
    held = {m + 1: b for m, b in enumerate(bins) if b["count"]}
    assert {m: b["count"] for m, b in held.items()} == {9: 2, 12: 1, 15: 1}
    assert held[9]["confidence"] == pytest.approx(0.6) and held[9]["accuracy"] == 0.5
    assert bins[3] == {"low": 3 / 15, "high": 4 / 15, "count": 0, "confidence": None, "accuracy": None}
    assert classification_metrics(probabilities, labels)["ece"] == pytest.approx(
        2 / 4 * 0.1 + 1 / 4 * 0.2 + 1 / 4 * 1
    )


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_equals_equation_3_of_the_paper(seed: int) -> None:
    probabilities, labels = guesses(400, 4, seed)
    top, right = probabilities.max(1), probabilities.argmax(1) == labels
    wanted = 0.0
    for m in range(15):
        inside = (top > m / 15) & (top <= (m + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert classification_metrics(probabilities, labels)["ece"] == pytest.approx(wanted)
    bins = calibration_bins(probabilities, labels)
    assert sum(b["count"] for b in bins) == 400
    again = sum(b["count"] / 400 * abs(b["accuracy"] - b["confidence"]) for b in bins if b["count"])
    assert again == pytest.approx(wanted)


def test_calibration_bins_include_their_upper_edge() -> None:
    tops = np.arange(8, 16) / 15
    probabilities = np.stack([tops, 1 - tops], axis=1)
    bins = calibration_bins(probabilities, np.zeros(8, np.int64))
    assert [b["count"] for b in bins] == [0] * 7 + [1] * 8


def test_confusion_matrix_gives_sensitivity_specificity_and_precision() -> None:
    probabilities, labels = guesses(200, 4, 7)
    confusion = confusion_matrix(probabilities, labels)
    predicted = probabilities.argmax(1)
    np.testing.assert_array_equal(confusion, sklearns_confusion(labels, predicted))
    one_against_the_rest = multilabel_confusion_matrix(labels, predicted)
    np.testing.assert_allclose(specificity(confusion), [m[0, 0] / m[0].sum() for m in one_against_the_rest])
    np.testing.assert_allclose(sensitivity(confusion), recall_score(labels, predicted, average=None))
    np.testing.assert_allclose(precision(confusion), precision_score(labels, predicted, average=None))


def test_confusion_metrics_without_images_are_nan() -> None:
    # Class 1 is never named, class 2 has no images; all images are of class 0 or 1.
    confusion = confusion_matrix(np.eye(3)[[0, 0, 2]], np.array([0, 1, 0]))
    np.testing.assert_array_equal(confusion, [[1, 0, 1], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(sensitivity(confusion), [0.5, 0, np.nan])
    np.testing.assert_array_equal(precision(confusion), [0.5, np.nan, 0])
    np.testing.assert_array_equal(specificity(confusion), [0, 1, 2 / 3])
    alone = confusion_matrix(np.eye(2)[[0, 1]], np.array([0, 0]))
    np.testing.assert_array_equal(specificity(alone), [np.nan, 0.5])

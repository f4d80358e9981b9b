"""The final evaluation of a run: the last model class by class, the hospitals, and the parts of the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.evaluation.classification import (
    calibration_bins,
    confusion_matrix,
    precision,
    sensitivity,
    specificity,
)
from fedrobust.scenario import Scenario

__all__ = ["final_evaluation", "held_by"]

#: Facts whose missing values are counted: those that subgroup metrics would need.
_FACTS = ("sex", "view")


def final_evaluation(
    scenario: Scenario,
    data: FederationData,
    labels: NDArray[np.int64],
    probabilities: Mapping[str, NDArray[np.float64]],
    hospital_accuracy: Sequence[float | None],
    unknown: Collection[int] = (),
) -> dict[str, object]:
    """Return the content of ``evaluation.json``.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    labels : ndarray of int64, shape (n,)
        The test images' classes.
    probabilities : mapping of str to ndarray, shape (n, K)
        The last model's, calibrated, on the ``"clean"`` and on the ``"noisy"`` test images.
    hospital_accuracy : sequence of float or None
        By hospital.
    unknown : collection of int
        Hospitals with data of their own, which the server does not know.
    """
    return {
        "classes": data.records.classes,
        **{part: _measured(probabilities[part], labels) for part in ("clean", "noisy")},
        **held_by(scenario, data, hospital_accuracy, unknown),
    }


def held_by(
    scenario: Scenario,
    data: FederationData,
    hospital_accuracy: Sequence[float | None],
    unknown: Collection[int] = (),
) -> dict[str, object]:
    """Return what ``evaluation.json`` holds of the hospitals and of the parts of the data, whatever the task.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    hospital_accuracy : sequence of float or None
        By hospital.
    unknown : collection of int
        Hospitals with data of their own, which the server does not know.
    """
    return {
        "hospitals": [
            {
                **_who(scenario, number),
                **_held(None if number in unknown else part, data.records),
                "accuracy": hospital_accuracy[number],
            }
            for number, part in enumerate(data.hospitals)
        ],
        "splits": {
            part: _known(getattr(data.split, part), data.records) for part in ("train", "val", "test")
        },
    }


def _measured(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, object]:
    confusion = confusion_matrix(probabilities, labels)
    return {
        "confusion": confusion,
        "sensitivity": sensitivity(confusion),
        "specificity": specificity(confusion),
        "precision": precision(confusion),
        "calibration": calibration_bins(probabilities, labels),
    }


def _who(scenario: Scenario, number: int) -> dict[str, object]:
    """Return a hospital's number, its role and its attack."""
    threat = scenario.threat_of(number)
    role = "honest" if threat is None else "malicious" if threat.malicious else "atypical"
    return {"number": number, "role": role, "attack": threat and threat.attacks.text}


def _held(part: NDArray[np.int64] | None, records: Records) -> dict[str, object]:
    """Return a hospital's images by class; all None where the server does not know them."""
    if part is None:
        return {"images": None, "counts": None, "missing": None}
    return {"images": len(part), **_known(part, records)}


def _known(part: NDArray[np.int64], records: Records) -> dict[str, object]:
    """Return the number of images of each class, and the share of images that lack each fact."""
    return {
        "counts": np.bincount(records.labels[part], minlength=len(records.classes)),
        "missing": {
            name: np.mean(records.facts[name][part] == "") for name in _FACTS if name in records.facts
        },
    }

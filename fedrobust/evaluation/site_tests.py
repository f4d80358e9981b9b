"""The cross-site matrix: each hospital's model, and the global one, on the test part of each hospital."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.sources import FederationData
from fedrobust.learners.base import ClassifyingLearner, State

__all__ = ["site_tests"]


def site_tests(
    learner: ClassifyingLearner,
    data: FederationData,
    last: State,
    models: Mapping[int, State],
    unknown: Collection[int] = (),
) -> dict[str, object]:
    """Return accuracies for ``evaluation.json``, by model and by the hospital that it is tested at.

    Parameters
    ----------
    learner : ClassifyingLearner
    data : FederationData
        With test parts of the hospitals.
    last : State
        The last global model.
    models : mapping of int to State
        What each hospital sent in the last round, as far as it did.
    unknown : collection of int
        Hospitals with data of their own, which the server cannot test on.
    """
    parts = [part if number not in unknown else part[:0] for number, part in enumerate(data.site_tests)]
    records = data.records.take(np.concatenate(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]

    def by_site(state: State) -> list[float | None]:
        if not len(records):
            return [None] * len(parts)
        predicted = learner.predict(state, records.images, records.labels).probabilities.argmax(axis=1)
        return [_mean(right) for right in np.split(predicted == records.labels, ends)]

    return {
        "images": [len(part) for part in parts],
        "global_model": by_site(last),
        "hospitals": [
            by_site(models[number]) if number in models else [None] * len(parts)
            for number in range(len(parts))
        ],
    }


def _mean(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None

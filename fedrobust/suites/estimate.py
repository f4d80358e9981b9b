"""How long the cells of a suite will take: as long as like cells took, or by training a few batches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from fedrobust.robustness.measure import estimated_seconds
from fedrobust.robustness.plan import named_evaluations
from fedrobust.robustness.target import Target
from fedrobust.settings import Settings
from fedrobust.suites.cells import Cell
from fedrobust.suites.store import CellStore

__all__ = ["estimate"]

#: What a run's length depends on, beside its defence and its attack.
_LENGTH = (
    *(
        "data",
        "data_root",
        "image_size",
        "split",
        "partition",
        "clients",
        "rounds",
        "local_epochs",
        "batch_size",
    ),
    *("networks", "head", "backbone", "device", "evaluate", "evaluate_images", "tte", "task"),
)
_BATCHES = 4
#: Defence, records and evaluation beside training and prediction; measured .1 to .3 on small images.
_BESIDE = 1.2
#: The share of the test images that a trained model classifies correctly, so that attacks change them.
_RIGHT = 0.8
#: Imports before the first cell.
_START_S = 4.0


def estimate(runs: Mapping[str, Settings], jobs: int, store: CellStore) -> float:
    """Return about how many seconds the runs take that are not finished.

    Parameters
    ----------
    runs : mapping of str to Settings
        Finished ones tell how long others of like length take.
    jobs : int
        Processes side by side.
    store : CellStore

    Raises
    ------
    UserError
        If the data cannot be read.
    """
    done = [settings for settings in runs.values() if store.finished(settings)]
    waiting = [settings for settings in runs.values() if settings not in done]
    if not waiting:
        return 0.0
    took: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for settings in done:
        seconds = Cell(settings).run.summary.seconds
        if seconds is not None:
            took[_length(settings)].append(seconds)
    known = {key: median(values) for key, values in took.items()}
    for settings in waiting:
        if _length(settings) not in known:
            known[_length(settings)] = _tried(settings)
    each = [known[_length(settings)] for settings in waiting]
    return _START_S + max(sum(each) / min(jobs, len(each)), max(each))


def _length(settings: Settings) -> tuple[object, ...]:
    return tuple(getattr(settings, key) for key in _LENGTH)


def _tried(settings: Settings) -> float:
    """Return a run's seconds by the pace of a few batches."""
    from fedrobust.data.sources import prepare
    from fedrobust.learners.factory import build_learner, learner_of
    from fedrobust.scenario import Scenario

    scenario = Scenario.of(settings)
    data, learner = prepare(scenario.data), learner_of(scenario.learner, scenario.data)
    few = data.of_hospital(max(range(settings.clients), key=lambda h: len(data.hospitals[h])))
    few = few.take(slice(0, _BATCHES * settings.batch_size))
    test = data.part("test").take(slice(0, 256))
    start = learner.initial()

    def fit() -> None:
        learner.fit(start, few, round=0, client=0, lr=settings.lr)

    fit_s = _shortest([fit, fit]) / (len(few) * settings.local_epochs)
    trained = sum(len(part) for part in data.hospitals) * settings.local_epochs
    if scenario.learner.synthesis is not None:
        return settings.rounds * trained * fit_s * _BESIDE
    model = build_learner(scenario.learner, scenario.data)
    predict_s = _shortest([lambda: model.predict(start, test.images, test.labels)]) / len(test)
    evaluated = (len(data.split.val) + 2 * len(data.split.test)) * settings.tte
    rounds_s = settings.rounds * (trained * fit_s + evaluated * predict_s) * _BESIDE
    if not settings.evaluate:
        return rounds_s
    shape, classes = data.records.images.shape[1:], len(data.records.classes)
    target = Target(model.classifier(start, settings.tte), shape, classes)
    sample = data.part("test").take(slice(0, settings.evaluate_images))
    evaluations = named_evaluations(scenario.evaluations)
    return rounds_s + estimated_seconds(evaluations, target, sample.images, sample.labels, _RIGHT)[0]


def _shortest(calls: Sequence[object]) -> float:
    times = []
    for call in calls:
        began = time.perf_counter()
        call()  # type: ignore[operator]
        times.append(time.perf_counter() - began)
    return min(times)

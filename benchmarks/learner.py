"""The learner's parts against a linear baseline, nobody malicious; writes docs/learner-results.md.

    python benchmarks/learner.py --data-root DATA

FedAvg over ten hospitals, iid and with unlike class mixes, on four data sets and on one with a long tail of
classes, five seeds. Each run adds a line to the file of ``--results``; a run whose line is there is not
repeated, so the script can be stopped and started again. With ``--json`` the last line is a summary. With
``--cost`` it measures the processor seconds of a round's training instead, the rows in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learner_page import SHOWN, Found, Key, Plan, differences, page, values
from fedrobust import Observer, Settings, run
from fedrobust.data.sources import prepare
from fedrobust.evaluation.classification import calibration_bins, classification_metrics
from fedrobust.evaluation.statistics import bootstrap_interval
from fedrobust.evaluation.temperature import fit_scale, scaled
from fedrobust.flower.codec import unpack
from fedrobust.learners.base import State
from fedrobust.learners.factory import build_learner
from fedrobust.runtime.observers import RoundOutcome
from fedrobust.scenario import Scenario

BASELINE, PAIR = "baseline", "+ ETF + Rect + DML"
#: The rows: the baseline, a control that gives it Rect, and each part added to the one before.
ROWS: Mapping[str, Mapping[str, object]] = {
    BASELINE: {"head": "linear", "networks": 1},
    "baseline + Rect": {"head": "linear-rect", "networks": 1},
    "+ ETF": {"head": "etf", "networks": 1},
    "+ ETF + Rect": {"head": "etf-rect", "networks": 1},
    PAIR: {},
}
#: Rounds of each run; metrics are means of the last three, as in a suite.
ROUNDS, LAST = 15, 3


@dataclass(frozen=True)
class Data:
    """One data set of the comparison.

    Attributes
    ----------
    settings : mapping
    rows : sequence of str
    skewed : str
        The partition with unlike class mixes.
    """

    settings: Mapping[str, object]
    rows: Sequence[str] = tuple(ROWS)
    skewed: str = "dirichlet(alpha=0.3)"


DATA: Mapping[str, Data] = {
    "brain, long tail": Data({"data": "medmnist:brain_mri4_28", "imbalance": 20.0}),
    "brain": Data({"data": "medmnist:brain_mri4_28"}),
    "chest": Data({"data": "medmnist:chest_xray3_64", "image_size": 28}),
    # So small that a hospital may get only a few images.
    "breast": Data({"data": "medmnist:breastmnist"}, skewed="dirichlet(alpha=0.3, min_size=2)"),
    # The largest: the baseline and the pair alone.
    "pneumonia": Data({"data": "medmnist:pneumoniamnist"}, rows=(BASELINE, PAIR)),
}

#: What a fit on probabilities and labels makes of other probabilities.
Fitted = Callable[[NDArray[np.float64]], NDArray[np.float64]]
FITS = ("none", "scale", "scale and biases", "scale and biases, balanced")

PLAN = Plan(
    rows={name: data.rows for name, data in DATA.items()},
    partitions=("iid", "dirichlet"),
    fits=FITS,
    pair=PAIR,
    seeds=range(5),
    rounds=ROUNDS,
)


class LastModel(Observer):
    """Keeps the last round's model."""

    state: State

    def round_done(self, outcome: RoundOutcome) -> None:
        """Keep the model."""
        assert outcome.arrays is not None
        self.state = unpack(outcome.arrays)


def cells() -> Iterator[Key]:
    """Yield every run, all data of a seed before the next seed."""
    for seed in PLAN.seeds:
        for condition in PLAN.conditions():
            for of in PLAN.rows[condition[0]]:
                yield *condition, of, seed


def settings_of(key: Key, root: str, out: str) -> Settings:
    """Return the settings of a run."""
    name, partition, of, seed = key
    common: dict[str, object] = {"strategy": "fedavg", "rounds": ROUNDS, "patience": ROUNDS, "workers": 1}
    dealt = DATA[name].skewed if partition == "dirichlet" else partition
    own = {**DATA[name].settings, **ROWS[of], "partition": dealt, "seed": seed}
    return Settings.model_validate({**common, **own, "data_root": root, "out": out})


def measure(key: Key, root: str) -> dict[str, float]:
    """Carry out one run, and return its metrics; a fit's name precedes those of the last model after it."""
    kept = LastModel()
    with tempfile.TemporaryDirectory() as out:
        settings = settings_of(key, root, out)
        result = run(settings, [kept], report=False)
    found = {
        metric: statistics.mean(line["clean"][metric] for line in result.rounds[-LAST:]) for metric in SHOWN
    }
    found["raw_ece"] = found.pop("ece")
    scenario = Scenario.of(settings)
    learner, data = build_learner(scenario.learner, scenario.data), prepare(scenario.data)
    val, test = data.part("val"), data.part("test")
    seen = learner.predict(kept.state, val.images, val.labels).probabilities
    asked = learner.predict(kept.state, test.images, test.labels).probabilities
    for name, fitted in fits(seen, val.labels).items():
        metrics = classification_metrics(fitted(asked), test.labels)
        found |= {f"{name}: {metric}": value for metric, value in metrics.items() if metric in SHOWN}
        if name == "scale":
            found["ece"], found["chance_ece"] = metrics["ece"] or 0.0, _by_chance(fitted(asked), test.labels)
    return found


def _by_chance(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the calibration error that these probabilities are expected to show if they are exact.

    The mean of n draws of chance c differs from c by about sqrt(2 c (1 - c) / (pi n)).
    """
    bins = [(b["count"], b["confidence"]) for b in calibration_bins(probabilities, labels)]
    known = [(count, sure) for count, sure in bins if sure is not None]
    return float(sum(np.sqrt(2 * n * sure * (1 - sure) / np.pi) for n, sure in known) / len(labels))


def fits(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Fitted]:
    """Return what each of `FITS`, fitted on validation images, makes of other probabilities."""
    scale = fit_scale(probabilities, labels)
    made: tuple[Fitted, ...] = (
        lambda other: other,
        lambda other: scaled(other, scale),
        _biased(probabilities, labels, balanced=False),
        _biased(probabilities, labels, balanced=True),
    )
    return dict(zip(FITS, made, strict=True))


def _biased(probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, balanced: bool) -> Fitted:
    """Fit a scale and a bias for each class by L-BFGS."""
    from scipy.optimize import minimize

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    weights = 1 / counts[labels] if balanced else np.ones(len(labels))
    weights /= weights.sum()

    def applied(other: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
        logits = np.exp(theta[0]) * np.log(np.maximum(other, 1e-38)) + theta[1:]
        return scaled(np.exp(logits - logits.max(axis=1, keepdims=True)), 1.0)

    def cost(theta: NDArray[np.float64]) -> float:
        own = applied(probabilities, theta)[np.arange(len(labels)), labels]
        return float(-(weights * np.log(own)).sum() + 1e-3 * (theta[1:] ** 2).sum())

    best = minimize(cost, np.zeros(1 + probabilities.shape[1]), method="L-BFGS-B").x
    return lambda other: applied(other, best)


def seconds_of_a_round(root: str) -> dict[str, float]:
    """Return each row's processor seconds of one round's training on brain images, the least of five rounds.

    Other programs at the same time can only add to them.
    """
    scenarios = {name: Scenario.of(settings_of(("brain", "iid", name, 0), root, "runs")) for name in ROWS}
    seconds: dict[str, list[float]] = {name: [] for name in scenarios}
    for number in range(6):
        for name, scenario in scenarios.items():
            learner, data = build_learner(scenario.learner, scenario.data), prepare(scenario.data)
            began = time.process_time()
            for hospital in range(scenario.hospitals):
                records = data.of_hospital(hospital)
                learner.fit(learner.initial(), records, round=number, client=hospital, lr=scenario.lr)
            seconds[name].append(time.process_time() - began)
    return {name: min(series[1:]) for name, series in seconds.items()}


def summary(found: Found) -> dict[str, object]:
    """Return the pair's differences to the baseline with their intervals, and its ECE, by condition."""
    made: dict[str, object] = {}
    for condition in PLAN.conditions():
        series = {metric: differences(found, PLAN, condition, metric) for metric in SHOWN}
        errors = values(found, PLAN.seeds, condition, PAIR, "ece")
        made[", ".join(condition)] = {
            **{
                f"more {m}": [statistics.mean(s), *(bootstrap_interval(s) or ())]
                for m, s in series.items()
                if s
            },
            "ece": statistics.mean(errors) if errors else None,
            "seeds": len(errors),
        }
    return made


def read(file: Path) -> dict[Key, Mapping[str, float]]:
    """Return the results so far."""
    lines = map(json.loads, file.read_text().splitlines() if file.is_file() else [])
    return {(one["data"], one["partition"], one["row"], one["seed"]): one["metrics"] for one in lines}


def main() -> None:
    """Carry out what is missing and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", required=True, help="folder with the .npz files")
    parser.add_argument("--results", type=Path, default=Path("runs/learner.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/learner-results.md"))
    parser.add_argument("--json", action="store_true", help="print a summary as the last line")
    parser.add_argument("--cost", action="store_true", help="measure the seconds of a round instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.cost:
        seconds = seconds_of_a_round(arguments.data_root)
        ratios = {name: round(value / seconds[BASELINE], 3) for name, value in seconds.items()}
        print(json.dumps({"seconds": seconds, "times_the_baseline": ratios}))
        return
    found = read(arguments.results)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    plan = list(cells())
    for number, key in enumerate(plan, 1):
        if key in found:
            continue
        found[key] = measure(key, arguments.data_root)
        line = dict(zip(("data", "partition", "row", "seed"), key, strict=True)) | {"metrics": found[key]}
        with arguments.results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"{number}/{len(plan)} {', '.join(map(str, key))}", file=sys.stderr, flush=True)
    arguments.page.write_text(page(found, PLAN), encoding="utf-8")
    if arguments.json:
        print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()

"""Attackers detected and honest hospitals falsely flagged, by the default defence and by three others.

``make reproduce-detection`` runs it and writes docs/detection-results.md. A finished run is not repeated;
delete the folder given by --out to start again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import prose, row, table_head
from fedrobust import Settings, run
from fedrobust.evaluation.detection import detection_summary
from fedrobust.results.finished_run import read_run
from fedrobust.runtime.runner import existing
from fedrobust.scenario import Scenario

STRATEGIES = ("isolation-forest", "feddetect", "fedavg", "oracle")
#: Partitions of the federations without malicious hospitals.
BENIGN = ("iid", "dirichlet(alpha=0.3)")


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run; weights after the last round, in multiples of the uniform weight.

    Attributes
    ----------
    accuracy : float
        Mean of the last three rounds.
    attackers : tuple of float
        The malicious hospitals' weights.
    lightest : float
        The lowest weight of an honest hospital.
    false_flags : float
        Share of the verdicts on honest hospitals that flagged.
    """

    accuracy: float
    attackers: tuple[float, ...]
    lightest: float
    false_flags: float


#: Table and strategy to the metrics of its seeds.
Found = Mapping[tuple[str, str], Sequence[RunMetrics]]


def cells(data: str, root: str, out: str) -> Iterator[tuple[str, str, Settings]]:
    """Yield table, strategy and settings of each run."""
    for seed in range(5):
        attacked = Settings(data=data, data_root=root, clients=10, out=out, malicious=2, rounds=20, seed=seed)
        for name in STRATEGIES:
            spec = f"oracle(malicious={list(Scenario.of(attacked).malicious)})" if name == "oracle" else name
            yield "attacked", name, attacked.model_copy(update={"strategy": spec})
    for partition in BENIGN:
        for seed in range(3):
            benign = Settings(
                data=data, data_root=root, clients=10, out=out, rounds=30, seed=seed, partition=partition
            )
            for name in ("isolation-forest", "feddetect", "fedavg"):
                yield partition, name, benign.model_copy(update={"strategy": name})


def measure(settings: Settings) -> RunMetrics:
    """Run one cell, unless a finished run of it exists, and return its metrics."""
    found = read_run(existing(settings) or run(settings).folder)
    weights, malicious = found.weights, found.malicious
    detection = detection_summary(found.verdicts, malicious, settings.clients)
    return RunMetrics(
        accuracy=statistics.mean(line.clean.accuracy or 0.0 for line in found.rounds[-3:]),
        attackers=tuple(weights[number] for number in sorted(malicious)),
        lightest=min(weight for number, weight in weights.items() if number not in malicious),
        false_flags=detection["false_flag_rate"] or 0.0,
    )


def report(found: Found, data: str) -> str:
    """Return the page in Markdown."""
    lines = [
        "# Detection: what `make reproduce-detection` printed",
        "",
        "Words: [glossary.md](glossary.md).",
        "",
    ]
    lines += prose(
        f"Data {data}, 10 hospitals. Weights are in multiples of the uniform weight (1/10) after the last "
        "round."
    )
    lines += ["", "### Two label-flippers, iid, 20 rounds, 5 seeds", ""]
    columns = ("strategy", "accuracy, last 3 rounds", "by seed")
    lines += table_head([*columns, "heaviest attacker", "lightest honest", "false flags"])
    for name in STRATEGIES:
        runs = found["attacked", name]
        heaviest = max(max(one.attackers) for one in runs)
        lines.append(
            row([*_accuracy(name, runs), f"{heaviest:.3f}", f"{_lightest(runs):.2f}", _flagged(runs)])
        )
    for partition in BENIGN:
        lines += ["", f"### No malicious hospital, {partition}, 30 rounds, 3 seeds", ""]
        lines += table_head([*columns, "hospital-rounds flagged", "lightest hospital"])
        for name in STRATEGIES[:3]:
            runs = found[partition, name]
            # FedAvg weighs by the number of images, so its lightest hospital is its smallest.
            lines.append(row([*_accuracy(name, runs), _flagged(runs), f"{_lightest(runs):.2f}"]))
    return "\n".join(lines) + "\n"


def _accuracy(name: str, runs: Sequence[RunMetrics]) -> list[str]:
    values = [one.accuracy for one in runs]
    return [name, f"{statistics.mean(values):.3f}", " ".join(f"{value:.3f}" for value in values)]


def _lightest(runs: Sequence[RunMetrics]) -> float:
    return min(one.lightest for one in runs)


def _flagged(runs: Sequence[RunMetrics]) -> str:
    return f"{100 * statistics.mean(one.false_flags for one in runs):.1f} %"


def main() -> None:
    """Run all cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="medmnist:brain_mri4_28")
    parser.add_argument("--data-root", required=True, help="folder with the .npz file")
    parser.add_argument("--out", default="runs/detection", help="folder for the run folders")
    parser.add_argument("--page", type=Path, default=Path("docs/detection-results.md"))
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[RunMetrics]] = {}
    plan = list(cells(arguments.data, arguments.data_root, arguments.out))
    for number, (table, name, settings) in enumerate(plan, 1):
        metrics = measure(settings)
        found.setdefault((table, name), []).append(metrics)
        cell = f"{number}/{len(plan)} {table} {name} seed {settings.seed}"
        print(f"{cell}: {metrics}", file=sys.stderr, flush=True)
    text = report(found, arguments.data)
    print(text)
    arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

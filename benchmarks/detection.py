"""Attackers detected and honest hospitals falsely flagged: the default defence beside FedDetect, FedAvg and the oracle.

``make reproduce-detection`` runs it and writes docs/detection-results.md. A finished run is not made again; delete
the folder given by --out to start anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrobust import Settings, run
from fedrobust.runtime.runner import existing
from fedrobust.scenario import Scenario

STRATEGIES = ("isolation-forest", "feddetect", "fedavg", "oracle")


def cells(data: str, root: str, out: str) -> Iterator[tuple[str, str, Settings]]:
    """Yield table, strategy and settings of each run."""
    common: dict[str, Any] = {"data": data, "data_root": root, "clients": 10, "out": out}
    for seed in range(5):
        attacked = Settings(**common, malicious=2, rounds=20, seed=seed)
        for name in STRATEGIES:
            spec = f"oracle(malicious={list(Scenario.of(attacked).malicious)})" if name == "oracle" else name
            yield "attacked", name, attacked.model_copy(update={"strategy": spec})
    for partition in ("iid", "dirichlet(alpha=0.3)"):
        for seed in range(3):
            for name in ("isolation-forest", "feddetect", "fedavg"):
                yield (
                    partition,
                    name,
                    Settings(**common, malicious=0, rounds=30, seed=seed, partition=partition, strategy=name),
                )


def measure(settings: Settings) -> dict[str, Any]:
    """Run one cell, unless a finished run of it exists, and return its figures."""
    folder = existing(settings) or run(settings).folder
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    bad = Scenario.of(settings).malicious
    final = dict(zip(verdicts[-1]["hospitals"], verdicts[-1]["weights"], strict=True))
    fair = 1 / settings.clients
    flags = [len(set(verdict["flagged"]) - set(bad)) for verdict in verdicts]
    return {
        "accuracy": statistics.mean(line["clean"]["accuracy"] for line in rounds[-3:]),
        "attackers": [final[number] / fair for number in bad],
        "honest": min(weight / fair for number, weight in final.items() if number not in bad),
        "false_flags": sum(flags) / ((settings.clients - len(bad)) * len(verdicts)),
    }


def report(found: dict[tuple[str, str], list[dict[str, Any]]], data: str) -> str:
    """Return the tables in Markdown."""
    lines = [
        f"Data {data}, 10 hospitals. Weights are in multiples of the uniform weight (1/10) after the last round.",
        "",
    ]
    lines += ["### Two label-flippers, iid, 20 rounds, 5 seeds", ""]
    lines += [
        "| strategy | accuracy, last 3 rounds | by seed | heaviest attacker | lightest honest | false flags |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name in STRATEGIES:
        rows = found["attacked", name]
        accuracy = [row["accuracy"] for row in rows]
        lines.append(
            f"| {name} | {statistics.mean(accuracy):.3f} | {' '.join(f'{a:.3f}' for a in accuracy)} "
            f"| {max(max(row['attackers']) for row in rows):.3f} | {min(row['honest'] for row in rows):.2f} "
            f"| {100 * statistics.mean(row['false_flags'] for row in rows):.1f} % |"
        )
    for partition in ("iid", "dirichlet(alpha=0.3)"):
        lines += ["", f"### No malicious hospital, {partition}, 30 rounds, 3 seeds", ""]
        lines += [
            "| strategy | accuracy, last 3 rounds | by seed | hospital-rounds flagged | lightest hospital |"
        ]
        lines += ["|---|---|---|---|---|"]
        for name in STRATEGIES[:3]:
            rows = found[partition, name]
            accuracy = [row["accuracy"] for row in rows]
            # FedAvg weighs by the number of images, so its lightest hospital is its smallest.
            lines.append(
                f"| {name} | {statistics.mean(accuracy):.3f} | {' '.join(f'{a:.3f}' for a in accuracy)} "
                f"| {100 * statistics.mean(row['false_flags'] for row in rows):.1f} % "
                f"| {min(row['honest'] for row in rows):.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="medmnist:brain_mri4_28")
    parser.add_argument("--data-root", required=True, help="folder with the .npz file")
    parser.add_argument("--out", default="runs/detection", help="folder for the run folders")
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    plan = list(cells(arguments.data, arguments.data_root, arguments.out))
    for number, (table, name, settings) in enumerate(plan, 1):
        figures = measure(settings)
        found.setdefault((table, name), []).append(figures)
        print(
            f"{number}/{len(plan)} {table} {name} seed {settings.seed}: {figures}",
            file=sys.stderr,
            flush=True,
        )
    text = report(found, arguments.data)
    print(text)
    Path("docs/detection-results.md").write_text(
        f"# Detection: what `make reproduce-detection` printed\n\n{text}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()

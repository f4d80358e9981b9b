"""Robustness of the model itself: the suite of that name, and ensembles of its runs by feature fusion.

Writes the tables of experiments/README.md to standard output. Finished runs and ensembles are not repeated.

    python -m benchmarks.model_robustness --data-root DATA

Further flags are those of ``fedrobust benchmark``, such as ``--seeds 0`` or ``--set rounds=2``.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import interval, row, table_head
from fedrobust.results.files import read_record
from fedrobust.results.suite_records import SuiteResults

#: The ensemble: models that are trained each against something of its own.
MEMBERS = ("+ noise training", "+ FGSM training", "+ PGD training")
ENSEMBLE = "MEFF of three"

#: What the tables show: title, key in a result of an evaluation.
SHOWN = (("accuracy", "accuracy"), ("defence rate", "defence_rate"), ("combined drop, %", "drop"))


def main() -> int:
    """Run the suite and the ensembles, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="folder of the image files")
    parser.add_argument("--suite", default="model_robustness", help="or model_robustness_full, on a GPU")
    parser.add_argument("--out", type=Path, default=Path("runs/suites"), help="folder of the suites")
    given, further = parser.parse_known_args()
    command = [
        sys.executable,
        "-m",
        "fedrobust",
        "benchmark",
        given.suite,
        "--out",
        str(given.out),
        "--quiet",
    ]
    done = subprocess.run([*command, "--data-root", str(given.data_root), *further], check=False)
    if done.returncode:
        return done.returncode
    folder = max(given.out.glob(f"{given.suite}*/suite.json"), key=lambda file: file.stat().st_mtime).parent
    suite = read_record(folder / "suite.json", SuiteResults)
    for data in dict.fromkeys(one.labels["data"] for one in suite.rows):
        if _runs(suite, folder, data):
            print("\n".join(_tables(suite, folder, data)))
    return 0


def _tables(suite: SuiteResults, folder: Path, data: str) -> list[str]:
    """Return the tables of one kind of images."""
    runs = _runs(suite, folder, data)
    results = {model: [_of_run(run) for run in by_seed.values()] for model, by_seed in runs.items()}
    seeds = set.intersection(*(set(runs.get(member, {})) for member in MEMBERS))
    if seeds:
        results[ENSEMBLE] = [
            _of_ensemble([runs[member][seed] for member in MEMBERS], folder) for seed in sorted(seeds)
        ]
    evaluations = list(dict.fromkeys(text for found in results.values() for one in found for text in one))
    lines = []
    for title, key in SHOWN:
        texts = [text for text in evaluations if key == "accuracy" or text != "clean"]
        lines += ["", f"{data}, {title}:", "", *table_head(["model", *texts])]
        lines += [
            row([model, *(_cell([one[text].get(key) for one in found]) for text in texts)])
            for model, found in results.items()
        ]
    return lines


def _runs(suite: SuiteResults, folder: Path, data: str) -> dict[str, dict[int, Path]]:
    """Return the finished runs of each model by seed."""
    found = {
        one.labels["model"]: {cell.seed: folder / cell.run for cell in one.cells if cell.run is not None}
        for one in suite.rows
        if one.labels["data"] == data
    }
    return {model: runs for model, runs in found.items() if runs}


def _of_run(run: Path) -> dict[str, Mapping[str, Any]]:
    """Return a run's results by evaluation, the unchanged test images among them."""
    return _by_evaluation(json.loads((run / "summary.json").read_text()))


def _of_ensemble(runs: Sequence[Path], folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return an ensemble's results, evaluated as its members were."""
    summary = json.loads((runs[0] / "summary.json").read_text())["robustness"]
    texts = ", ".join(one["text"] for one in summary["evaluations"])
    file = folder / "ensembles" / f"{'+'.join(run.name.rpartition('-')[2] for run in runs)}.json"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "fedrobust", "ensemble", *map(str, runs), "--evaluate", texts]
        command += ["--evaluate-images", str(summary["images"]), "--out", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _by_evaluation(json.loads(file.read_text()))


def _by_evaluation(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"clean": summary["clean"], **{one["text"]: one for one in summary["robustness"]["evaluations"]}}


def _cell(values: Sequence[float | None]) -> str:
    """Return the mean over the seeds and half its 95 % interval."""
    known = [value for value in values if value is not None]
    if not known:
        return "undefined"
    mean, half = interval(known)
    return f"{mean:.3g}" if math.isnan(half) else f"{mean:.3g} ±{half:.2g}"


if __name__ == "__main__":
    sys.exit(main())

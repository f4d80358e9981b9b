"""How the default defence does on data, threats and seeds that its constants were not fixed on.

``make reproduce-generalisation`` runs it and writes docs/generalisation.md, which includes
docs/generalisation-notes.md word for word. Three parts: the grid compares eleven methods on seven data sets,
the adaptive part has attackers who know the default defence's rule, and the third part has backdoors. The
grid is far larger than an evening's work, so its order is that of a balanced sample: whenever it is stopped,
the runs so far are spread evenly over data, threats, partitions, rounds and seeds. A finished run is not
repeated; one of a defence or of data that have changed since is. The page shows the finished runs, and how
many there are.

    python benchmarks/generalisation.py --data-root DATA --parts grid --budget 7200
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean, pstdev

from benchmarks.generalisation_metrics import RunMetrics
from benchmarks.generalisation_page import page
from benchmarks.generalisation_plan import (
    DATA,
    METHODS,
    PARTITIONS,
    PARTS,
    ROUNDS,
    SEEDS,
    Key,
    Selection,
    plan,
    settings_of,
)
from fedrobust.plugins.folders import HOME
from fedrobust.results.finished_run import FinishedRun
from fedrobust.runtime.runner import existing
from fedrobust.suites.cells import Cell, default_jobs, run_cells
from fedrobust.suites.metrics import metric_values
from fedrobust.suites.store import CellStore

#: The folder whose clients/ has the attacks that the tests and this benchmark share.
ADAPTIVE_PLUGINS = HOME / "tests" / "adaptive"
#: So many runs are handed out at once: their settings take a moment to make, and the grid has many.
BATCH = 400


def measure(run: FinishedRun) -> RunMetrics:
    """Return the metrics of one finished run; accuracies are means of the last three rounds."""
    values = metric_values(run, None)
    weights = [line.uniform_weights(run.clients) for line in run.judged]
    honest = [number for number in range(run.clients) if number not in run.malicious]
    spreads = [
        pstdev(series)
        for number in honest
        if len(series := [line[number] for line in weights if number in line]) > 1
    ]
    last = [weights[-1][number] for number in honest if number in weights[-1]] if weights else []
    attackers = values["attacker_weight"]
    return RunMetrics(
        accuracy=values["accuracy"] or 0.0,
        balanced_accuracy=values["balanced_accuracy"] or 0.0,
        macro_f1=values["macro_f1"] or 0.0,
        success=values["attack_success_rate"],
        auroc=values["detection_auroc"],
        recall=values["detection_recall"],
        attackers=attackers * run.clients / len(run.malicious) if attackers is not None else None,
        flagged=run.summary.detection.false_flag_rate,
        lightest=min(last, default=None),
        lost=values["honest_lost"],
        spread=fmean(spreads) if spreads else None,
    )


def run_all(keys: Iterable[Key], root: str, out: Path, jobs: int, budget: float | None) -> dict[Key, str]:
    """Run what is not finished yet, in the given order, and return the error of each run that failed.

    No run begins after `budget` seconds.
    """
    ends = None if budget is None else time.monotonic() + budget
    failed, store, waiting = {}, CellStore(), iter(keys)
    while batch := list(islice(waiting, BATCH)):
        left = None if ends is None else ends - time.monotonic()
        if left is not None and left <= 0:
            break
        cells = {key: settings_of(key, root, str(out)) for key in batch}
        found = run_cells(cells, jobs, out, seconds=left, store=store)
        failed.update({key: cell.error for key, cell in found.items() if cell.error})
    return failed


def finished(keys: Iterable[Key], root: str, out: Path) -> dict[Key, RunMetrics]:
    """Return the metrics of the runs that are finished and still fit the defences and data as they are."""
    store, found = CellStore(), {}
    for key in keys:
        settings = settings_of(key, root, str(out))
        if existing(settings) is not None and store.finished(settings):
            found[key] = measure(Cell(settings).run)
    return found


def main() -> None:
    """Run what is asked for, and write the page of all finished runs."""
    given = _parser().parse_args()
    sys.path.append(str(ADAPTIVE_PLUGINS))
    asked = Selection(
        given.parts, given.data, given.methods, given.threats, given.partitions, given.rounds, given.seeds
    )
    everything = list(plan())
    failed: dict[Key, str] = {}
    if not given.only_page:
        chosen = [key for key in everything if asked.takes(key)]
        failed = run_all(chosen, given.data_root, given.out, given.jobs, given.budget)
    found = finished(everything, given.data_root, given.out)
    notes = given.notes.read_text(encoding="utf-8") if given.notes.is_file() else ""
    given.page.write_text(page(found, everything, notes), encoding="utf-8")
    for key, error in failed.items():
        name = " ".join(map(str, (key.part, *key.federation, key.method)))
        print(f"{name} failed: {error.strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", required=True, help="folder with the .npz files")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/generalisation"), help="folder for the run folders"
    )
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="parallel runs")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="no run begins after so many seconds")
    _choices(parser, "--parts", PARTS)
    _choices(parser, "--data", DATA)
    _choices(parser, "--methods", METHODS)
    parser.add_argument("--threats", nargs="+", default=(), help="as the plan writes them; default: all")
    parser.add_argument("--partitions", nargs="+", default=(), help=f"such as {PARTITIONS[-1]}; default: all")
    parser.add_argument(
        "--rounds", type=int, nargs="+", default=(), help=f"such as {ROUNDS[0]}; default: all"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=(), help=f"such as {SEEDS[0]}; default: all")
    parser.add_argument("--page", type=Path, default=Path("docs/generalisation.md"))
    parser.add_argument("--notes", type=Path, default=Path("docs/generalisation-notes.md"))
    parser.add_argument("--only-page", action="store_true", help="write the page without running anything")
    return parser


def _choices(parser: argparse.ArgumentParser, flag: str, choices: Sequence[str]) -> None:
    parser.add_argument(flag, nargs="+", default=(), choices=choices, metavar="NAME", help=", ".join(choices))


if __name__ == "__main__":
    main()

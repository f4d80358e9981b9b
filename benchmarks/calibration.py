"""How well the default defence detects malicious hospitals, whom it falsely flags, and what accuracy results.

``make reproduce-calibration`` runs it and writes docs/calibration.md, which includes
docs/calibration-notes.md word for word. Four tables: attacked federations compared with the oracle, strong
label skew compared with all rules, federations without malicious hospitals, and backdoors. A finished run is
not repeated, so the command can be stopped and started again, and --tables runs some of the tables only; the
page shows the finished runs and how many are missing.

    python benchmarks/calibration.py --data-root DATA --tables attacked --seeds 0 1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from benchmarks.calibration_page import OURS, Key, RunMetrics, page
from fedrobust import Settings
from fedrobust.evaluation.detection import detection_summary
from fedrobust.runtime.runner import existing
from fedrobust.scenario import Scenario
from fedrobust.suites.cells import Cell, default_jobs, run_cells

DATA = ("medmnist:brain_mri4_28", "medmnist:pneumoniamnist")
ATTACKS = (
    *("label-flip", "random-labels", "image-noise", "sign-flip", "gaussian", "boost"),
    "label-flip + forge-loss",
)
#: Every rule that need not know who is malicious; FedAvg is the plain mean.
CATALOGUE = (
    *(OURS, "fedavg", "median", "trimmed-mean", "krum", "multi-krum", "bulyan", "geometric-median"),
    *("centered-clipping", "norm-clipping", "dnc", "signguard", "foolsgold", "fltrust", "flame", "rlr"),
    *("fldetector", "zeno", "dos", "feddetect"),
)
#: Federations without malicious hospitals: name, partition, threats.
BENIGN = (
    ("iid", "iid", ()),
    ("dirichlet(0.3)", "dirichlet(alpha=0.3)", ()),
    ("iid, one other scanner", "iid", ("other-scanner:1",)),
    ("iid, one with a rare class only", "iid", ("single-class:1",)),
)
BACKDOOR = "backdoor"
AGAINST_BACKDOORS = ("fedavg", OURS, "nnm | isolation-forest", "arc | isolation-forest", "rlr", "flame")
TABLES = ("attacked", "benign", "backdoors", "skewed")


class Varied(TypedDict, total=False):
    """The settings in which the runs differ, beside those in their key."""

    partition: str
    threat: tuple[str, ...]
    attack: str
    malicious: int


def plan(
    tables: Sequence[str], data: Sequence[str], seeds: Sequence[int], base: Settings
) -> Iterator[tuple[Key, Settings]]:
    """Yield each run's place and settings, those of the same data and seed next to each other."""

    def run(key: Key, **varied: Unpack[Varied]) -> tuple[Key, Settings]:
        changes = {"data": key.data, "seed": key.seed, "strategy": key.strategy, **varied}
        settings = Settings(**{**base.model_dump(exclude_unset=True), **changes})
        if key.strategy == "oracle":
            spec = f"oracle(malicious={list(Scenario.of(settings).malicious)})"
            settings = settings.model_copy(update={"strategy": spec})
        return key, settings

    for table in tables:
        for name in data:
            for seed in seeds:
                for partition, attack, strategy, threat in _cells(table):
                    key = Key(table, name, partition, attack, strategy, seed)
                    if table == "benign":
                        spec = next(spec for label, spec, _ in BENIGN if label == partition)
                        yield run(key, partition=spec, threat=threat)
                    else:
                        yield run(key, partition=partition, attack=attack, malicious=2)


def _cells(table: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    if table == "attacked":
        for partition in ("iid", "dirichlet(alpha=1.0)"):
            for attack in ATTACKS:
                for strategy in (OURS, "oracle"):
                    yield partition, attack, strategy, ()
    elif table == "benign":
        for label, _, threat in BENIGN:
            for strategy in (OURS, "fedavg"):
                yield label, "none", strategy, threat
    elif table == "backdoors":
        for strategy in AGAINST_BACKDOORS:
            yield "iid", BACKDOOR, strategy, ()
    else:
        for attack in ATTACKS:
            for strategy in CATALOGUE:
                yield "dirichlet(alpha=0.3)", attack, strategy, ()


def measure(cell: Cell) -> RunMetrics:
    """Return the metrics of one finished run; accuracies are means of the last three rounds."""
    run = cell.run
    last, verdicts = run.rounds[-3:], run.verdicts
    clients = cell.settings.clients
    found = detection_summary(verdicts, run.malicious, clients)
    weights = verdicts[-1].uniform_weights(clients)
    honest = [weight for number, weight in weights.items() if number not in run.malicious]
    rates = [rate for line in last if (rate := line.attack_success_rate) is not None]
    return RunMetrics(
        accuracy=sum(line.clean.accuracy or 0.0 for line in last) / len(last),
        auroc=found["auroc"],
        false_flags=found["false_flag_rate"],
        lightest=min(honest) if honest else None,
        success=sum(rates) / len(rates) if len(rates) == len(last) else None,
    )


def main() -> None:
    """Run the requested cells, and write the page of all finished ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--data-root", required=True, help="folder with the .npz files")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/calibration"), help="folder for the run folders"
    )
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="parallel runs")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--page", type=Path, default=Path("docs/calibration.md"))
    parser.add_argument("--notes", type=Path, default=Path("docs/calibration-notes.md"))
    parser.add_argument("--only-page", action="store_true", help="write the page without running anything")
    given = parser.parse_args()
    base = Settings(
        clients=10,
        networks=1,
        local_epochs=1,
        data_root=given.data_root,
        rounds=given.rounds,
        out=str(given.out),
    )
    failed = {}
    if not given.only_page:
        asked = dict(plan(given.tables, given.data, given.seeds, base))
        failed = {
            key: cell.error for key, cell in run_cells(asked, given.jobs, given.out).items() if cell.error
        }
    everything = dict(plan(TABLES, given.data, given.seeds, base))
    found = {
        key: measure(Cell(settings)) for key, settings in everything.items() if existing(settings) is not None
    }
    notes = given.notes.read_text(encoding="utf-8") if given.notes.is_file() else ""
    about = (
        f"What `make reproduce-calibration` printed: 10 hospitals, one network, {given.rounds} rounds of one "
        f"epoch; {len(found)} of {len(everything)} runs are finished."
    )
    given.page.write_text(page(found, about, notes), encoding="utf-8")
    for key, error in failed.items():
        print(f"{' '.join(map(str, key))} failed: {error.strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

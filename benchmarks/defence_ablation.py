"""What each part of the default defence is worth: the rule with one part left out at a time.

Writes the table of docs/detection.md to standard output. A finished run is not repeated.

    python benchmarks/defence_ablation.py --data-root DATA
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import row, table_head
from fedrobust import Settings
from fedrobust.evaluation.detection import detection_summary
from fedrobust.federation import Updates
from fedrobust.runtime.runner import existing
from fedrobust.scenario import Scenario
from fedrobust.suites.cells import Cell, run_cells
from strategies.isolation_forest import IsolationForestWeighting

Floats = NDArray[np.float64]

#: Federations in which a part could matter: partition, threats, malicious hospitals.
FEDERATIONS = {
    "none, iid": ("iid", ()),
    "none, dirichlet(0.3)": ("dirichlet(alpha=0.3)", ()),
    "rare class, iid": ("iid", ("single-class:1",)),
    "label-flip, dirichlet(0.3)": ("dirichlet(alpha=0.3)", ("label-flip:3",)),
    "label-flip + forge-loss, iid": ("iid", ("label-flip + forge-loss:3",)),
    "sign-flip, dirichlet(0.3)": ("dirichlet(alpha=0.3)", ("sign-flip:3",)),
    "backdoor, iid": ("iid", ("backdoor:3",)),
}


class WithoutReports(IsolationForestWeighting):
    """The rule without the reported losses."""

    def _reported(self, updates: Updates) -> Floats:
        return np.zeros(len(updates))


class WithoutAudit(IsolationForestWeighting):
    """The rule without the audit on the server's images."""

    def _audited(self, updates: Updates, weight: Floats) -> tuple[Floats, Floats]:
        return np.zeros(len(updates)), np.zeros((len(updates), 1))


class WithoutStep(IsolationForestWeighting):
    """The rule without the server's own step."""

    def __init__(self) -> None:
        """Train on no image."""
        super().__init__(server_step=0.0)


class WithoutTies(IsolationForestWeighting):
    """The rule without ties."""

    def _tied(self, updates: Updates, weight: Floats, classes: Floats) -> tuple[Floats, Floats]:
        return np.zeros(len(updates)), np.ones(len(updates))


class WithoutExplanation(IsolationForestWeighting):
    """The rule without the explanation of ties by help for the same class."""

    def _tied(self, updates: Updates, weight: Floats, classes: Floats) -> tuple[Floats, Floats]:
        return super()._tied(updates, weight, np.zeros_like(classes))


class WithoutSuspicion(IsolationForestWeighting):
    """The rule without the half of the weight that ties take before a hospital is flagged."""

    def _suspected(self, single: Floats) -> Floats:
        return np.ones(len(single))


class WithoutLength(IsolationForestWeighting):
    """The rule without the reduced weight of long updates."""

    def _factors(self, updates: Updates) -> Floats:
        return np.ones(len(updates))


class WithoutMemory(IsolationForestWeighting):
    """The rule without the average over rounds."""

    def __init__(self) -> None:
        """Forget each round."""
        super().__init__(memory=0.0)


VARIANTS = {
    "all parts": "isolation-forest",
    **{
        f"without {part}": f"benchmarks.defence_ablation:{kind.__name__}"
        for part, kind in {
            "reported losses": WithoutReports,
            "the audit": WithoutAudit,
            "ties": WithoutTies,
            "the explanation of ties": WithoutExplanation,
            "early suspicion": WithoutSuspicion,
            "the weight of long updates reduced": WithoutLength,
            "memory": WithoutMemory,
            "the server's own step": WithoutStep,
        }.items()
    },
}


def settings_of(variant: str, federation: str, given: argparse.Namespace, seed: int) -> Settings:
    """Return the settings of one run."""
    partition, threat = FEDERATIONS[federation]
    return Settings(
        data=given.data,
        data_root=given.data_root,
        image_size=28,
        clients=10,
        networks=1,
        local_epochs=1,
        rounds=given.rounds,
        seed=seed,
        partition=partition,
        threat=threat,
        strategy=VARIANTS[variant],
        out=str(given.out),
    )


def measured(cell: Cell) -> tuple[float, float | None, float | None, float]:
    """Return macro F1 and attack success of the last three rounds, AUROC, and false flags in percent."""
    run, settings = cell.run, cell.settings
    last = run.rounds[-3:]
    found = detection_summary(run.verdicts, Scenario.of(settings).malicious, settings.clients)
    rates = [line.attack_success_rate for line in last if line.attack_success_rate is not None]
    score = float(np.mean([line.clean.macro_f1 or 0.0 for line in last]))
    return (
        score,
        float(np.mean(rates)) if rates else None,
        found["auroc"],
        100 * (found["false_flag_rate"] or 0.0),
    )


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="medmnist:brain_mri4_28")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/defence-ablation"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    planned = {
        (variant, federation, seed): settings_of(variant, federation, given, seed)
        for seed in given.seeds
        for federation in FEDERATIONS
        for variant in VARIANTS
    }
    for cell in run_cells(planned, given.jobs, given.out).values():
        if cell.error:
            print(cell.error.strip().splitlines()[-1])
    print(*table_head(["", *FEDERATIONS]), sep="\n")
    for variant in VARIANTS:
        cells = [variant]
        for federation in FEDERATIONS:
            runs = [planned[variant, federation, seed] for seed in given.seeds]
            values = np.array(
                [measured(Cell(settings)) for settings in runs if existing(settings) is not None], float
            ).reshape(-1, 4)
            cells.append(_text(values.mean(axis=0)) if len(values) else "—")
        print(row(cells))


def _text(values: Floats) -> str:
    score, success, auroc, flags = values
    parts = [f"{score:.3f}"]
    if np.isfinite(success):
        parts.append(f"ASR {success:.2f}")
    if np.isfinite(auroc):
        parts.append(f"AUROC {auroc:.2f}")
    return ", ".join([*parts, f"{flags:.1f} %"])


if __name__ == "__main__":
    main()

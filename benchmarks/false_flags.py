"""How often honest hospitals are falsely flagged if all losses and updates come from one distribution.

``python benchmarks/false_flags.py`` prints the table in docs/detection.md. It trains nothing, uses no server
images and takes some minutes.
"""

from __future__ import annotations

import numpy as np

from fedrobust.federation import ClientMetrics, Defence, Update, Updates
from strategies.feddetect import FedDetect
from strategies.isolation_forest import IsolationForestWeighting

ZERO = np.zeros(1000, np.float32)


def share_flagged(
    make: type[Defence], hospitals: int, federations: int = 10, rounds: int = 30
) -> tuple[float, float]:
    """Return the share of hospital-rounds flagged, and the lowest final weight over the uniform weight."""
    flags, lightest = [], 1.0
    for seed in range(federations):
        draw, defence = np.random.default_rng(seed), make()
        for number in range(1, rounds + 1):
            losses = draw.normal(1.0, 0.1, (hospitals, 2))
            # One part that all have in common, and another of the same size for each hospital.
            deltas = draw.standard_normal(len(ZERO)) + draw.standard_normal((hospitals, len(ZERO)))
            updates = [
                Update(
                    node,
                    delta.astype(np.float32),
                    ClientMetrics(10, {"loss": row[0], "last-loss": row[0], "received-loss": row[1]}),
                    ZERO,
                    round=number,
                )
                for node, (row, delta) in enumerate(zip(losses.tolist(), deltas, strict=True))
            ]
            _, verdict = defence.combine(Updates(updates))
            flags.append(np.mean(np.asarray(verdict.flagged)))
        weight = np.asarray(verdict.weight, float)
        lightest = min(lightest, float(weight.min() / weight.mean()))
    return float(np.mean(flags)), lightest


def main() -> None:
    """Print the table."""
    print("| hospitals | feddetect: flagged | lightest | isolation-forest: flagged | lightest |")
    print("|---|---|---|---|---|")
    for hospitals in (4, 5, 10, 20):
        cells = []
        for rule in (FedDetect, IsolationForestWeighting):
            flagged, lightest = share_flagged(rule, hospitals)
            cells.append(f"{100 * flagged:.1f} % | {lightest:.2f}")
        print(f"| {hospitals} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Promise 3: with too few hospitals a run says so before it starts, or keeps the last good model."""

from __future__ import annotations

import gc

from benchmarks.reliability.faults import Faults
from benchmarks.reliability.hospital_faults import FEW, few_replies, strategies
from fedrobust.errors import UserError
from fedrobust.flower.hosted_strategy import build_strategy

TITLE = "Too few hospitals: said before the start, or the round is skipped"
MINUTES = 2

#: A strategy, and a number of hospitals below its own minimum.
BELOW = [
    ("krum(f=2)", 5),
    ("multi-krum(f=2)", 4),
    ("bulyan(f=2)", 7),
    ("trimmed-mean(f=2)", 4),
    ("nnm(f=2) | median", 4),
    ("rlr(threshold=5)", 4),
    ("multi-krum(m=5)", 4),
    ("flwr.serverapp.strategy:FedAvg(min_train_nodes=5)", 4),
    ("flwr.serverapp.strategy:FedAvg(min_available_nodes=5)", 4),
    ("flwr.serverapp.strategy:Bulyan(num_malicious_nodes=1)", 6),
]


def inject(faults: Faults) -> None:
    """Give every strategy fewer replies than it needs, and settings that ask for more hospitals."""
    # Some of Flower's strategies call the collector for each array.
    gc.freeze()
    for spec in strategies():
        for heard in FEW:
            with faults.fault(f"{heard} replies", spec):
                found = list(few_replies(spec, heard))
                assert not found, found[0]
    for spec, hospitals in BELOW:
        faults.check("below a minimum", refused(spec, hospitals), f"{spec} with {hospitals} hospitals")


def refused(spec: str, hospitals: int) -> bool:
    """Tell whether a strategy is refused with so many hospitals before anything runs."""
    try:
        build_strategy(spec, hospitals)
    except UserError:
        return True
    return False

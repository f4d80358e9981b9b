"""What the audit finds of known contamination: each method alone, and its default methods together.

``make reproduce-audit`` runs it and writes docs/audit-results.md. An audit that was made before is not
repeated; delete the file given by --kept to start again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.pages import prose, row, table_head
from fedrobust.audit.examination import DEFAULT, Audit, audit, auditors_of
from fedrobust.audit.planting import planted
from fedrobust.audit.subject import TrainedSubject
from fedrobust.data.duplicates import groups_of_equals
from fedrobust.data.records import Records
from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.plugins import PluginSpec
from fedrobust.seeding import generator

DATA = ("brain_mri4_64", "pneumoniamnist")
SEEDS = range(3)

#: What is planted in a tenth of the records, and the kind that it should be called.
PLANTED = {
    "wrong labels": ("label-noise(rate=0.1)", "label error"),
    "noise of std 0.1": ("image-noise(std=0.1, share=0.1)", "noise"),
    "patch of 0.4 % of the area": ("backdoor(size=0.004, share=0.1)", "planted mark"),
    "nothing": ("", ""),
}

#: Methods that are measured beside those that an audit uses by default.
OTHERS = "spectral-signatures + activation-clustering + sphere + slab"

#: Records of a set that are audited at most: drawn once, to keep the time within bounds.
MOST = 2000

#: The share of clean records that may rank above a found one, where kinds are compared.
FALSE_POSITIVES = 0.05

Result = Mapping[str, float]


def records_of(name: str, root: str) -> Records:
    """Return a set's records without repeated images, at most `MOST` of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A file that is not byte for byte the published one.
        records = load_records(DataSpec(PluginSpec.parse(f"medmnist:{name}"), root))
    _, first = np.unique(groups_of_equals(records.images), return_index=True)
    kept = generator(0, "audit benchmark").permutation(np.sort(first))[:MOST]
    return records.take(np.sort(kept))


def measure(records: Records, attack: str, kind: str, seed: int) -> dict[str, float]:
    """Return what an audit of contaminated records finds, by measure."""
    began = time.perf_counter()
    made, changed = planted(records, attack, seed) if attack else (records, np.zeros(len(records), bool))
    every = audit(TrainedSubject(made, seed), auditors_of(f"{DEFAULT} + {OTHERS}"))
    usual = [name for name in every.findings if name in auditors_of(DEFAULT)]
    together = Audit(made, {name: every.findings[name] for name in usual}, every.kinds)
    found = {"clean flagged": float((together.scores >= 1)[~changed].mean())}
    if attack:
        above = together.scores > np.quantile(together.scores[~changed], 1 - FALSE_POSITIVES)
        hits = np.flatnonzero(above & changed)
        found |= {
            "auroc together": float(roc_auc_score(changed, together.scores)),
            "flagged": float((together.scores >= 1)[changed].mean()),
            "found at 5 %": len(hits) / changed.sum(),
            "kind right": float(np.mean([together.kind(int(i)) == kind for i in hits])),
        }
        for name, finding in every.findings.items():
            found[f"auroc {name}"] = float(roc_auc_score(changed, finding.scores))
    for name, finding in every.findings.items():
        found[f"clean flagged {name}"] = float(finding.suspected[~changed].mean())
    return found | {"seconds": time.perf_counter() - began}


def report(results: Mapping[str, Result]) -> str:
    """Return the page of all audits that were made."""
    methods = [*auditors_of(f"{DEFAULT} + {OTHERS}")]
    lines = ["# Audit: what `make reproduce-audit` printed", ""]
    lines += prose(
        f"Each set without repeated images, at most {MOST:,} records; 10 % of them contaminated by the "
        f"attacks' own code. Means over seeds, in brackets the lowest; {len(results)} of "
        f"{len(DATA) * len(PLANTED) * len(SEEDS)} audits were made. [audit.md](audit.md) says what falls "
        "short and why. Words: [glossary.md](glossary.md)."
    )
    for name in DATA:
        lines += ["", f"### {name}: the methods together", ""]
        columns = (
            "AUROC",
            "suspected",
            "found at 5 % false positives",
            "kind right of these",
            "clean suspected",
        )
        lines += table_head(["planted", *columns])
        for what in PLANTED:
            runs = _runs(results, name, what)
            keys = ("auroc together", "flagged", "found at 5 %", "kind right", "clean flagged")
            lines.append(row([what, *(_mean(runs, key, low=key != "clean flagged") for key in keys)]))
        lines += ["", f"### {name}: AUROC of each method", ""]
        attacks = [what for what in PLANTED if what != "nothing"]
        lines += table_head(["method", *attacks, "clean suspected"])
        for method in methods:
            cells = [_mean(_runs(results, name, what), f"auroc {method}") for what in attacks]
            clean = _mean(_runs(results, name, "nothing"), f"clean flagged {method}")
            lines.append(row([method, *cells, clean]))
    return "\n".join(lines) + "\n"


def _runs(results: Mapping[str, Result], data: str, what: str) -> list[Result]:
    keys = (_key(data, what, seed) for seed in SEEDS)
    return [results[key] for key in keys if key in results]


def _mean(runs: Sequence[Result], key: str, *, low: bool = False) -> str:
    values = [run[key] for run in runs if key in run]
    if not values:
        return "–"
    lowest = f" ({min(values):.3f})" if low else ""
    return f"{statistics.mean(values):.3f}{lowest}"


def _key(data: str, what: str, seed: int) -> str:
    return f"{data}, {what}, seed {seed}"


def main(arguments: Iterable[str] | None = None) -> None:
    """Make all audits and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True, help="folder with the .npz files")
    parser.add_argument("--kept", type=Path, default=Path("runs/audit.json"), help="results made so far")
    parser.add_argument("--page", type=Path, default=Path("docs/audit-results.md"))
    parser.add_argument("--limit", type=int, default=1000, help="audits to make in this call")
    given = parser.parse_args(None if arguments is None else list(arguments))
    results: dict[str, Result] = json.loads(given.kept.read_text()) if given.kept.is_file() else {}
    given.kept.parent.mkdir(parents=True, exist_ok=True)
    plan = [(name, what, seed) for seed in SEEDS for name in DATA for what in PLANTED]
    ahead = [cell for cell in plan if _key(*cell) not in results]
    for name, what, seed in ahead[: given.limit]:
        attack, kind = PLANTED[what]
        key = _key(name, what, seed)
        results[key] = measure(records_of(name, given.data_root), attack, kind, seed)
        given.kept.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{key}: {results[key]}", file=sys.stderr, flush=True)
    text = report(results)
    print(text)
    given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

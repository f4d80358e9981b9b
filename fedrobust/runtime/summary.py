"""What ``summary.json`` says of a finished run, and the notes that the user is given with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from fedrobust.evaluation.detection import detection_summary
from fedrobust.evaluation.drop import combined_drop
from fedrobust.runtime.setup import Setup

__all__ = ["summarise"]

Lines = Sequence[Mapping[str, Any]]


def summarise(setup: Setup, lines: Lines, verdicts: Lines, seconds: float, folder: str) -> dict[str, Any]:
    """Return the summary of a run; warn of attacks and steps that had no effect.

    Parameters
    ----------
    setup : Setup
    lines, verdicts : sequence of mapping
        The lines of ``rounds.jsonl`` and ``verdicts.jsonl``.
    seconds : float
        How long the run took.
    folder : str
        The run folder's final place.
    """
    scenario, last = setup.scenario, lines[-1]
    clean, noisy = ({k: v for k, v in last[part].items() if k != "loss"} for part in ("clean", "noisy"))
    share = setup.server_data
    summary = {
        "clean": clean,
        "noisy": noisy,
        "drop": combined_drop(clean, noisy),
        "detection": detection_summary(verdicts, setup.malicious),
        "attack_success_rate": last["attack_success_rate"],
        "no_effect_attacks": _no_effect_attacks(lines),
        "no_effect_steps": list(last.get("no_effect_steps", ())),
        "server_images": 0 if share is None else len(share.labels),
        "server_share": 0.0 if share is None else share.share,
        "faults": sum(len(line["faults"]) for line in lines),
        "clients": scenario.hospitals,
        "malicious": len(setup.malicious),
        "atypical": list(scenario.atypical),
        "rounds": len(lines),
        "seed": scenario.seed,
        "synthetic": setup.data.records.synthetic,
        "seconds": round(seconds, 3),
        "run": folder,
    }
    for sentence in _warnings(setup, summary):
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return summary


def _no_effect_attacks(lines: Lines) -> list[str]:
    """Return the attacks that had no effect in any round."""
    return sorted(set.intersection(*(set(line.get("no_effect_attacks", ())) for line in lines)))


def _warnings(setup: Setup, summary: Mapping[str, Any]) -> list[str]:
    found = [f"attack '{name}' changed nothing in this run" for name in summary["no_effect_attacks"]]
    return found + (setup.monitor.sentences(len(setup.malicious)) if setup.monitor else [])

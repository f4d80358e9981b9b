"""The numbers of a run that are read first."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from fedrobust.reports.tables import number, percent, share
from fedrobust.results.records import Record

__all__ = ["KeyFigure", "key_figures"]


@dataclass(frozen=True)
class KeyFigure:
    """One number that is read first.

    Attributes
    ----------
    name, value, beside : str
        What it is, the number, and what it is held against.
    """

    name: str
    value: str
    beside: str = ""


def key_figures(record: Record) -> list[KeyFigure]:
    """Return the numbers that are read first."""
    summary = record.summary
    clean, noisy, drop = (summary.get(key) or {} for key in ("clean", "noisy", "drop"))
    made = [
        KeyFigure(
            "Accuracy", share(clean.get("accuracy")), f"{share(noisy.get('accuracy'))} on noisy images"
        ),
        KeyFigure(
            "Macro F1", share(clean.get("macro_f1")), f"{share(noisy.get('macro_f1'))} on noisy images"
        ),
        KeyFigure("Combined drop", percent(drop.get("combined")), "clean to noisy images"),
    ]
    last = record.rounds[-1] if record.rounds else {}
    if (worst := last.get("clean", {}).get("worst_class")) is not None:
        made.append(KeyFigure("Worst class", share(worst), _worst_name(record)))
    if (worst := last.get("worst_hospital")) is not None:
        made.append(KeyFigure("Worst honest hospital", share(worst), "accuracy on its mix of classes"))
    if (ece := last.get("clean", {}).get("ece")) is not None:
        made.append(KeyFigure("Calibration error", share(ece), "ECE; 0 is as sure as right"))
    if summary.get("attack_success_rate") is not None:
        made.append(
            KeyFigure(
                "Attack success", share(summary["attack_success_rate"]), "marked images taken for the target"
            )
        )
    return made + _detection(record)


def _worst_name(record: Record) -> str:
    last = record.rounds[-1]["clean"].get("sensitivity") or ()
    known = [(value, name) for value, name in zip(last, record.classes, strict=False) if value is not None]
    return f"sensitivity, {min(known)[1]}" if known else "sensitivity"


def _detection(record: Record) -> list[KeyFigure]:
    if not record.judged:
        return []
    bad, flagged = record.malicious, record.flagged
    detection = record.summary.get("detection") or {}
    made = []
    if bad:
        auroc = detection.get("auroc")
        made.append(
            KeyFigure(
                "Attackers flagged",
                f"{len(bad & flagged)} of {len(bad)}",
                f"AUROC of the scores {share(auroc)}",
            )
        )
        kept = [record.weights[one] for one in bad if one in record.weights]
        mean = statistics.fmean(kept) if kept else None
        made.append(KeyFigure("Attackers' weight", number(mean, 2), "fair shares each, at the end"))
    rate = detection.get("false_flag_rate")
    of_rounds = f"{number(100 * rate, 1, '%')} of their rounds" if rate is not None else "at the end"
    made.append(KeyFigure("Honest flagged", str(len(flagged - bad)), of_rounds))
    return made

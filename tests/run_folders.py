"""Run folders made by hand, so that what reads them can be tested without a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedrobust.results.records import FORMAT

__all__ = ["make_run"]


def make_run(
    folder: Path,
    *,
    clients: int = 6,
    attacks: Mapping[int, str] | None = None,
    atypical: Mapping[int, str] | None = None,
    classes: Sequence[str] = ("glioma", "meningioma", "none", "pituitary"),
    rounds: int = 5,
    flagged: Sequence[int] | None = None,
    verdicts: bool = True,
    strategy: str = "isolation-forest",
    examples: bool = True,
    facts: bool = True,
    **summary: Any,
) -> Path:
    """Write a run folder with all files that a run writes, and return it.

    Parameters
    ----------
    folder : Path
    clients : int
    attacks, atypical : mapping of int to str
        What malicious and atypical hospitals do.
    classes : sequence of str
    rounds : int
    flagged : sequence of int, optional
        Flagged from the second round on; by default the malicious ones.
    verdicts : bool
        Whether the strategy gives verdicts on single hospitals.
    strategy : str
    examples, facts : bool
        Whether there are examples of poisoned images, and facts about the images.
    **summary
        In place of what ``summary.json`` would hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    attacks = {1: "label-flip", 4: "backdoor(size=0.05)"} if attacks is None else attacks
    flagged = sorted(attacks) if flagged is None else flagged
    everyone = _Everyone(clients, dict(attacks), dict(atypical or {}), tuple(classes), rng)
    lines = [everyone.round(n, rounds, flagged) for n in range(1, rounds + 1)]
    judged = [
        everyone.verdict(n, flagged if n > 1 or rounds == 1 else (), verdicts) for n in range(1, rounds + 1)
    ]
    (folder / "settings.toml").write_text(f'clients = {clients}\nstrategy = "{strategy}"\n', encoding="utf-8")
    _write(folder / "manifest.json", everyone.manifest(strategy, rounds))
    _write(folder / "evaluation.json", everyone.evaluation(lines[-1], facts))
    _lines(folder / "rounds.jsonl", lines)
    _lines(folder / "verdicts.jsonl", judged)
    _lines(folder / "client_metrics.jsonl", [everyone.report(n) for n in range(1, rounds + 1)])
    _lines(folder / "timings.jsonl", [_timing(n) for n in range(rounds + 1)])
    _write(folder / "summary.json", {**everyone.summary(lines, judged), **summary})
    if examples and attacks:
        everyone.examples(folder / "examples.safetensors")
    return folder


class _Everyone:
    """The hospitals of a made-up run."""

    def __init__(
        self,
        clients: int,
        attacks: dict[int, str],
        atypical: dict[int, str],
        classes: tuple[str, ...],
        rng: np.random.Generator,
    ) -> None:
        self.clients, self.attacks, self.atypical, self.classes, self.rng = (
            clients,
            attacks,
            atypical,
            classes,
            rng,
        )
        self.counts = rng.multinomial(353, rng.dirichlet(np.full(len(classes), 3.0)), size=clients)

    def round(self, number: int, rounds: int, flagged: Sequence[int]) -> dict[str, Any]:
        reached = 0.35 + 0.4 * number / rounds
        parts = {
            part: self._scores(reached - lost) for part, lost in (("val", 0), ("clean", 0), ("noisy", 0.04))
        }
        accuracy = np.clip(reached + self.rng.normal(0, 0.05, self.clients), 0, 1).round(4).tolist()
        return {
            "round": number,
            "lr": 0.001,
            "train_loss": 3 / number,
            **parts,
            "attack_success_rate": 0.2
            if any("backdoor" in chain for chain in self.attacks.values())
            else None,
            "flagged": list(flagged),
            "no_effect_attacks": [],
            "no_effect_steps": [],
            "faults": [{"hospital": 0, "reason": "no reply in 5 s"}] if number == 2 else [],
            "hospital_accuracy": accuracy,
            "worst_hospital": min([a for n, a in enumerate(accuracy) if n not in self.attacks], default=None),
        }

    def _scores(self, accuracy: float) -> dict[str, Any]:
        sensitivity = np.clip(accuracy + self.rng.normal(0, 0.1, len(self.classes)), 0, 1).round(4).tolist()
        names = ("balanced_accuracy", "macro_f1", "macro_precision", "macro_recall")
        return {
            "loss": 2.0 - accuracy,
            "accuracy": accuracy,
            **{name: accuracy - 0.01 * i for i, name in enumerate(names, start=1)},
            "auroc": min(1.0, accuracy + 0.2),
            "ece": 0.1,
            "sensitivity": sensitivity,
            "worst_class": min(sensitivity),
        }

    def verdict(self, number: int, flagged: Sequence[int], given: bool) -> dict[str, Any]:
        if not given:
            return {"round": number, "hospitals": [], "weights": [], "scores": [], "flagged": [], "why": {}}
        weights = np.array([0.02 if n in flagged else 1.0 for n in range(self.clients)])
        weights *= self.rng.uniform(0.85, 1.15, self.clients)
        return {
            "round": number,
            "hospitals": list(range(self.clients)),
            "weights": (weights / weights.sum()).tolist(),
            "scores": [4.0 if n in flagged else 0.5 for n in range(self.clients)],
            "flagged": list(flagged),
            "why": {str(n): "loss of the received model: robust z-score 5.4" for n in flagged},
        }

    def report(self, number: int) -> dict[str, Any]:
        level = 2.5 / number**0.5
        bad = np.array([1.3 if n in self.attacks else 1.0 for n in range(self.clients)])
        loss = level * bad * self.rng.uniform(0.93, 1.07, self.clients)
        return {
            "round": number,
            "hospitals": list(range(self.clients)),
            "loss": loss.tolist(),
            "received_loss": (1.1 * loss).tolist(),
            "num_examples": self.counts.sum(1).tolist(),
        }

    def evaluation(self, last: Mapping[str, Any], facts: bool) -> dict[str, Any]:
        missing = {"sex": 0.25, "view": 0.0} if facts else {}
        total = self.counts.sum(0)
        return {
            "classes": list(self.classes),
            **{part: self._measured(last[part]["sensitivity"]) for part in ("clean", "noisy")},
            "hospitals": [
                {
                    "number": n,
                    "role": self._role(n),
                    "attack": self.attacks.get(n) or self.atypical.get(n),
                    "images": int(self.counts[n].sum()),
                    "counts": self.counts[n].tolist(),
                    "accuracy": last["hospital_accuracy"][n],
                    "missing": missing,
                }
                for n in range(self.clients)
            ],
            "splits": {
                part: {"counts": (total // share).tolist(), "missing": missing}
                for part, share in (("train", 1), ("val", 4), ("test", 7))
            },
        }

    def _role(self, number: int) -> str:
        return "malicious" if number in self.attacks else "atypical" if number in self.atypical else "honest"

    def _measured(self, sensitivity: Sequence[float]) -> dict[str, Any]:
        k = len(self.classes)
        right = [round(80 * s) for s in sensitivity]
        rest = [[(80 - r) // max(1, k - 1)] * k for r in right]
        confusion = [
            [r if i == j else row[j] for j in range(k)]
            for i, (r, row) in enumerate(zip(right, rest, strict=True))
        ]
        bins = [
            {
                "low": i / 10,
                "high": (i + 1) / 10,
                "count": 9 * i,
                "confidence": i / 10 + 0.05 if i else None,
                "accuracy": max(0.0, i / 10 - 0.05) if i else None,
            }
            for i in range(10)
        ]
        return {
            "confusion": confusion,
            "sensitivity": list(sensitivity),
            "specificity": [0.9] * k,
            "precision": [0.7] * k,
            "calibration": bins,
        }

    def manifest(self, strategy: str, rounds: int) -> dict[str, Any]:
        every = {**self.attacks, **self.atypical}
        return {
            "format": FORMAT,
            "settings": {"clients": self.clients, "strategy": strategy, "rounds": rounds, "seed": 3},
            "settings_hash": "ea9332e2eb",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "ray": None},
            "git_commit": "32b4a346c1986535158c6518aad21414eeb5d7df",
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
            "started": "2026-11-25T21:07:31+00:00",
            "data": {
                "source": "medmnist:made-up",
                "synthetic": False,
                "sha256": "6e" * 32,
                "images": int(self.counts.sum() * 1.4),
                "shape": [1, 28, 28],
                "classes": list(self.classes),
                "hospitals": {str(n): row.tolist() for n, row in enumerate(self.counts)},
            },
            "malicious": sorted(self.attacks),
            "atypical": sorted(self.atypical),
            "threats": [
                {"attack": chain, "hospitals": [n for n, one in every.items() if one == chain]}
                for chain in dict.fromkeys(every.values())
            ],
            "defence_trusts": ["loss"],
            "oracle": False,
        }

    def summary(
        self, lines: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        clean, noisy = lines[-1]["clean"], lines[-1]["noisy"]
        names = ("accuracy", "macro_f1", "macro_precision")
        drop = {name: 100 * (clean[name] - noisy[name]) / clean[name] for name in names}
        flagged = verdicts[-1]["flagged"]
        bad = set(self.attacks)
        return {
            "clean": clean,
            "noisy": noisy,
            "drop": {**drop, "combined": sum(drop.values()) / 3},
            "detection": {
                "precision": len(bad & set(flagged)) / len(flagged) if flagged else None,
                "recall": len(bad & set(flagged)) / len(bad) if bad else None,
                "auroc": 1.0 if bad else None,
                "false_flag_rate": 0.0,
                "flagged": list(flagged),
            },
            "attack_success_rate": lines[-1]["attack_success_rate"],
            "no_effect_attacks": [],
            "no_effect_steps": [],
            "server_images": 302,
            "server_share": 0.5,
            "faults": sum(len(line["faults"]) for line in lines),
            "clients": self.clients,
            "malicious": len(bad),
            "atypical": sorted(self.atypical),
            "rounds": len(lines),
            "seed": 3,
            "synthetic": False,
            "seconds": 7.6,
        }

    def examples(self, path: Path) -> None:
        from safetensors.numpy import save_file

        poisonings: list[dict[str, Any]] = []
        tensors: dict[str, np.ndarray[Any, Any]] = {}
        for i, (number, chain) in enumerate(self.attacks.items()):
            original = self._picture()
            poisoned = original.copy()
            if "backdoor" in chain:
                poisoned[:, -6:, -6:] = 255
            tensors |= {f"original/{i}": original, f"poisoned/{i}": poisoned}
            named = {"before": self.classes[0], "after": self.classes[-1]}
            poisonings.append({"hospital": number, "attack": chain, **named})
        save_file(tensors, path, metadata={"fedrobust": json.dumps(poisonings)})

    def _picture(self) -> np.ndarray[Any, Any]:
        y, x = np.mgrid[0:28, 0:28] - 14.0
        round_shape = np.clip(220 - 1.2 * (x**2 + y**2), 0, 255)
        shown = np.clip(round_shape + self.rng.normal(0, 12, (1, 28, 28)), 0, 255)
        return np.asarray(shown, np.uint8)


def _timing(number: int) -> dict[str, Any]:
    if number == 0:
        return {"round": 0, "imports": 3.2, "data": 0.03, "set-up": 0.4, "defence_mib": None}
    return {"round": number, "training": 1.2, "aggregation": 0.3, "evaluation": 0.1, "defence_mib": 2.5}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

"""What a run folder tells a report; whatever an older run did not write is absent, never wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedrobust.errors import UserError

__all__ = ["Hospital", "Record", "read_run"]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Hospital:
    """One hospital: its number, the truth about it, and what it holds.

    Attributes
    ----------
    number : int
    role : str
        ``honest``, ``atypical`` or ``malicious``.
    attack : str
        What it does, where it is not plainly honest.
    counts : tuple of int
        Images of each class; empty where that is not recorded.
    accuracy : float or None
        The last global model's on the test images, mixed as this hospital's classes are.
    missing : mapping
        A fact's name to the share of images that lack it.
    """

    number: int
    role: str
    attack: str
    counts: tuple[int, ...]
    accuracy: float | None
    missing: Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """A run folder, read.

    Attributes
    ----------
    folder : Path
    settings : str
        The text of ``settings.toml``.
    manifest, summary, evaluation : mapping
        Empty where there is no such file.
    rounds, verdicts, reports, timings : list of mapping
        One line a round.
    """

    folder: Path
    settings: str
    manifest: Json
    summary: Json
    evaluation: Json
    rounds: list[Json]
    verdicts: list[Json]
    reports: list[Json]
    timings: list[Json]

    @cached_property
    def hospitals(self) -> list[Hospital]:
        """Return all hospitals, malicious ones first, then atypical ones."""
        order = ("malicious", "atypical", "honest")
        return sorted(
            map(self._hospital, range(self.clients)), key=lambda one: (order.index(one.role), one.number)
        )

    @property
    def clients(self) -> int:
        """Return the number of hospitals."""
        return int(self.summary.get("clients") or self.manifest.get("settings", {}).get("clients") or 0)

    @property
    def malicious(self) -> frozenset[int]:
        """Return the numbers of the poisoned hospitals."""
        return frozenset(self.manifest.get("malicious", ()))

    @property
    def atypical(self) -> frozenset[int]:
        """Return the numbers of the honest hospitals that are unlike the others."""
        return frozenset(self.manifest.get("atypical", ()))

    @cached_property
    def attacks(self) -> dict[int, str]:
        """Return what each hospital that is not plainly honest does, by number."""
        return {
            number: threat["attack"]
            for threat in self.manifest.get("threats", ())
            for number in threat.get("hospitals", ())
        }

    @property
    def classes(self) -> list[str]:
        """Return the classes' names."""
        named = self.evaluation.get("classes") or self.manifest.get("data", {}).get("classes") or ()
        return [str(name) for name in named]

    @property
    def strategy(self) -> str:
        """Return the defence's name as a reader says it: without the module of one from elsewhere."""
        text = str(self.manifest.get("settings", {}).get("strategy", "the defence"))
        return text.rpartition(":")[2] if ":" in text.partition("(")[0] else text

    @cached_property
    def judged(self) -> list[Json]:
        """Return the verdicts that say something of single hospitals."""
        return [verdict for verdict in self.verdicts if verdict.get("hospitals")]

    @cached_property
    def weights(self) -> dict[int, float]:
        """Return each hospital's last weight, in fair shares; empty where the strategy gives no verdict."""
        return fair_shares(self.judged[-1]) if self.judged else {}

    @property
    def flagged(self) -> frozenset[int]:
        """Return the hospitals that are flagged at the end."""
        return frozenset(self.judged[-1].get("flagged", ())) if self.judged else frozenset()

    def _hospital(self, number: int) -> Hospital:
        role = (
            "malicious" if number in self.malicious else "atypical" if number in self.atypical else "honest"
        )
        told: Json = next((h for h in self.evaluation.get("hospitals", ()) if h.get("number") == number), {})
        # One with data of its own, which the server does not know, has None there; an older run has nothing.
        held = self.manifest.get("data", {}).get("hospitals", {}).get(str(number))
        counts = told.get("counts", held) or ()
        accuracy = told.get("accuracy")
        if accuracy is None and self.rounds:
            every = self.rounds[-1].get("hospital_accuracy") or ()
            accuracy = every[number] if number < len(every) else None
        return Hospital(
            number, role, self.attacks.get(number, ""), tuple(counts), accuracy, told.get("missing") or {}
        )


def fair_shares(verdict: Json) -> dict[int, float]:
    """Return the weights of one verdict as multiples of an equal share."""
    hospitals, weights = verdict["hospitals"], verdict["weights"]
    return {
        h: weight * len(hospitals) for h, weight in zip(hospitals, weights, strict=True) if weight is not None
    }


def read_run(folder: Path) -> Record:
    """Read a run folder.

    Raises
    ------
    UserError
        If it is not that of a finished run, or a file of it cannot be read.
    """
    if not (folder / "summary.json").is_file() or not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: this is not the folder of a finished run (no summary.json and manifest.json)"
        )
    settings = folder / "settings.toml"
    return Record(
        folder=folder,
        settings=settings.read_text(encoding="utf-8") if settings.is_file() else "",
        manifest=_object(folder / "manifest.json"),
        summary=_object(folder / "summary.json"),
        evaluation=_object(folder / "evaluation.json"),
        rounds=_lines(folder / "rounds.jsonl"),
        verdicts=_lines(folder / "verdicts.jsonl"),
        reports=_lines(folder / "client_metrics.jsonl"),
        timings=_lines(folder / "timings.jsonl"),
    )


def _object(path: Path) -> Json:
    if not path.is_file():
        return {}
    found = _parsed(path, path.read_text(encoding="utf-8"))
    return found if isinstance(found, Mapping) else {}


def _lines(path: Path) -> list[Json]:
    if not path.is_file():
        return []
    return [_parsed(path, text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None

"""A finished run, read from its folder: each file once, when it is first needed, and checked then."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedrobust.errors import UserError
from fedrobust.results.files import read_lines, read_record, read_text
from fedrobust.results.records import (
    ClientMetricsLine,
    Evaluation,
    HospitalEvaluation,
    Manifest,
    Role,
    RoundLine,
    Summary,
    TimingLine,
    VerdictLine,
    check_format,
    expected_updates,
    reported_images,
)

__all__ = ["FinishedRun", "Hospital", "read_run"]

#: So many hospitals a page shows at most; more rows nobody reads, and a browser hardly draws.
_MOST_LISTED = 500


@dataclass(frozen=True)
class Hospital:
    """One hospital: its number, the truth about it, and what it holds.

    Attributes
    ----------
    number : int
    role : str
        ``malicious``, ``atypical`` or ``honest``.
    attack : str
        What it does, where it is not plainly honest.
    counts : tuple of int
        Images of each class; empty where the server does not know them.
    accuracy : float or None
        The last global model's on the test images, mixed as this hospital's classes are.
    missing : dict
        A fact's name to the share of images that lack it.
    """

    number: int
    role: Role
    attack: str
    counts: tuple[int, ...]
    accuracy: float | None
    missing: dict[str, float]


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run; its files are read when they are first asked for.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @cached_property
    def settings(self) -> str:
        """Return the text of ``settings.toml``; empty if there is no such file."""
        file = self.folder / "settings.toml"
        return read_text(file) if file.is_file() else ""

    @cached_property
    def manifest(self) -> Manifest:
        """Return what ``manifest.json`` holds; a folder of another format is refused."""
        file = self.folder / "manifest.json"
        found = read_record(file, Manifest)
        check_format(found, self.folder)
        return found

    @cached_property
    def summary(self) -> Summary:
        """Return what ``summary.json`` holds."""
        return read_record(self.folder / "summary.json", Summary)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Return what ``evaluation.json`` holds; None if there is no such file."""
        file = self.folder / "evaluation.json"
        return read_record(file, Evaluation) if file.is_file() else None

    @cached_property
    def rounds(self) -> tuple[RoundLine, ...]:
        """Return the lines of ``rounds.jsonl``."""
        return read_lines(self.folder / "rounds.jsonl", RoundLine)

    @cached_property
    def verdicts(self) -> tuple[VerdictLine, ...]:
        """Return the lines of ``verdicts.jsonl``."""
        return read_lines(self.folder / "verdicts.jsonl", VerdictLine)

    @cached_property
    def client_metrics(self) -> tuple[ClientMetricsLine, ...]:
        """Return the lines of ``client_metrics.jsonl``."""
        return read_lines(self.folder / "client_metrics.jsonl", ClientMetricsLine)

    @cached_property
    def timings(self) -> tuple[TimingLine, ...]:
        """Return the lines of ``timings.jsonl``."""
        return read_lines(self.folder / "timings.jsonl", TimingLine)

    @property
    def clients(self) -> int:
        """Return the number of hospitals."""
        return self.summary.clients

    @property
    def malicious(self) -> frozenset[int]:
        """Return the numbers of the malicious hospitals."""
        return frozenset(self.manifest.malicious)

    @property
    def atypical(self) -> frozenset[int]:
        """Return the numbers of the atypical (benign non-IID) hospitals."""
        return frozenset(self.manifest.atypical)

    @cached_property
    def attacks(self) -> dict[int, str]:
        """Return what each hospital that is not plainly honest does, by number."""
        return {number: threat.attack for threat in self.manifest.threats for number in threat.hospitals}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes' names."""
        return self.evaluation.classes if self.evaluation else self.manifest.data.classes

    @property
    def strategy(self) -> str:
        """Return the defence's name as a reader knows it: without the module of one from elsewhere."""
        text = self.manifest.setting("strategy") or "the defence"
        return text.rpartition(":")[2] if ":" in text.partition("(")[0] else text

    @cached_property
    def hospitals(self) -> tuple[Hospital, ...]:
        """Return all hospitals, malicious ones first, then atypical ones."""
        order = ("malicious", "atypical", "honest")
        found = map(self._hospital, range(self.clients))
        return tuple(sorted(found, key=lambda one: (order.index(one.role), one.number)))

    @cached_property
    def listed(self) -> tuple[Hospital, ...]:
        """Return the hospitals that tables and plots show: all, or of very many those that matter most.

        That is, malicious and atypical ones, then flagged ones, then those that took part most often; in the
        order of `hospitals`.
        """
        if self.clients <= _MOST_LISTED:
            return self.hospitals
        flagged = {number for verdict in self.judged for number in verdict.flagged}

        def first(hospital: Hospital) -> tuple[bool, bool, int]:
            number = hospital.number
            return hospital.role == "honest", number not in flagged, -self.rounds_taken_part[number]

        chosen = {one.number for one in sorted(self.hospitals, key=first)[:_MOST_LISTED]}
        return tuple(one for one in self.hospitals if one.number in chosen)

    @cached_property
    def _evaluated(self) -> dict[int, HospitalEvaluation]:
        """Return what ``evaluation.json`` says of each hospital, by its number."""
        return {one.number: one for one in self.evaluation.hospitals} if self.evaluation else {}

    @cached_property
    def judged(self) -> tuple[VerdictLine, ...]:
        """Return the verdicts on single hospitals."""
        return tuple(verdict for verdict in self.verdicts if verdict.hospitals)

    @cached_property
    def weights(self) -> dict[int, float]:
        """Return each hospital's last weight, in uniform weights; empty for a strategy without verdicts."""
        return self.uniform_weights(self.judged[-1]) if self.judged else {}

    def uniform_weights(self, verdict: VerdictLine) -> dict[int, float]:
        """Return the weights of a round as multiples of 1/n, for the n hospitals that it expected."""
        expected = expected_updates(self.rounds, verdict.round)
        return verdict.uniform_weights(self.clients if expected is None else len(expected))

    @property
    def flagged(self) -> frozenset[int]:
        """Return the hospitals that are flagged at the end, or when they last took part."""
        if self.is_partial:
            return frozenset(self.summary.detection.flagged)
        return frozenset(self.judged[-1].flagged) if self.judged else frozenset()

    @cached_property
    def is_partial(self) -> bool:
        """Return whether not all hospitals take part in every round."""
        return any(line.asked is not None for line in self.rounds)

    @cached_property
    def rounds_taken_part(self) -> Counter[int]:
        """Return in how many rounds each hospital sent a usable update, by its number."""
        return Counter(number for line in self.client_metrics for number in line.hospitals)

    @cached_property
    def never_took_part(self) -> frozenset[int]:
        """Return the hospitals that failed in every round."""
        failed = [frozenset(fault.hospital for fault in line.faults) for line in self.rounds]
        return frozenset.intersection(*failed) if failed else frozenset()

    @property
    def commonest_class_share(self) -> float | None:
        """Return the accuracy of always predicting the commonest class; None if not recorded."""
        if self.summary.commonest_class_share is not None:
            return self.summary.commonest_class_share
        test = self.evaluation.splits.get("test") if self.evaluation else None
        return max(test.counts) / sum(test.counts) if test and sum(test.counts) else None

    @cached_property
    def reported_images(self) -> dict[int, float]:
        """Return the images that each hospital last reported to train on, by its number."""
        return reported_images(self.client_metrics)

    def _hospital(self, number: int) -> Hospital:
        role: Role = (
            "malicious" if number in self.malicious else "atypical" if number in self.atypical else "honest"
        )
        found = self._evaluated.get(number)
        # One with data of its own, which the server does not know, has None there.
        counts = found.counts if found else self.manifest.data.hospitals.get(number)
        accuracy = found.accuracy if found else None
        if accuracy is None and self.rounds:
            every = self.rounds[-1].hospital_accuracy
            accuracy = every[number] if number < len(every) else None
        missing = dict((found.missing if found else None) or {})
        return Hospital(number, role, self.attacks.get(number, ""), counts or (), accuracy, missing)


def read_run(folder: Path) -> FinishedRun:
    """Return the run of a folder.

    Raises
    ------
    UserError
        If it is not that of a finished run, or its manifest cannot be read or has another format.
    """
    if not (folder / "summary.json").is_file() or not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: this is not the folder of a finished run (no summary.json and manifest.json)"
        )
    run = FinishedRun(folder)
    _ = run.manifest
    return run

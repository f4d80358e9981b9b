"""An audit: several methods on the same records, and what they find together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedrobust.audit.base import KINDS, Auditor, Subject, Suspicion
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.plugins import AttackChain, find, instantiate, reraise_as_user_error
from fedrobust.plugins.specs import PluginSpec

__all__ = ["DEFAULT", "Audit", "Rate", "audit", "auditors_of"]

#: The methods that an audit uses unless others are named. The remaining ones suspect a share of any data.
DEFAULT = "duplicates + planted-marks + noise-level + confident-learning + outlier-forest"

#: The facts that name the hospital that an image comes from.
_HOSPITAL = ("hospital", "site")


@dataclass(frozen=True)
class Rate:
    """How many of a hospital's records are suspected of one kind of contamination.

    Attributes
    ----------
    hospital : str
        Its name; "all" for all records together.
    kind : str
    suspected, records : int
    low, high : float
        Wilson's 95 % interval of the share.
    """

    hospital: str
    kind: str
    suspected: int
    records: int
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """What the methods found.

    Attributes
    ----------
    records : Records
    findings : mapping of str to Suspicion
        By method, as it was named.
    kinds : mapping of str to str
        What each method suspects a record of.
    """

    records: Records
    findings: Mapping[str, Suspicion]
    kinds: Mapping[str, str]

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Return each record's highest score, shape (n,); 1 and above is suspected."""
        every = np.array([finding.scores for finding in self.findings.values()])
        return np.asarray(every.max(axis=0), np.float64)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Return for each record the method that its kind is taken from.

        Of the methods that suspect it, the one whose kind stands first in `KINDS`; of a record that is not
        suspected, the one with the highest score.
        """
        names = list(self.findings)
        scores = np.array([self.findings[name].scores for name in names])
        rank = np.array([KINDS.index(self.kinds[name]) for name in names])
        order = np.where(scores >= 1, 1e6 - rank[:, None], scores)
        return tuple(names[place] for place in order.argmax(axis=0))

    @cached_property
    def suspected(self) -> NDArray[np.int64]:
        """Return the positions of the suspected records, the most suspicious first."""
        found = np.flatnonzero(self.scores >= 1)
        return found[np.argsort(-self.scores[found], kind="stable")]

    def kind(self, place: int) -> str:
        """Return what a record is most likely to be, if it is contaminated."""
        return self.kinds[self.methods[place]]

    def evidence(self, place: int) -> str:
        """Return what each method that suspects a record says of it."""
        found = [
            finding.evidence.get(place, f"score {finding.scores[place]:.2f} of {name}")
            for name, finding in self.findings.items()
            if finding.scores[place] >= 1
        ]
        return "; ".join(found)

    @cached_property
    def hospitals(self) -> NDArray[np.str_]:
        """Return the name of each record's hospital, shape (n,); "all" where the data name none."""
        for fact in _HOSPITAL:
            if fact in self.records.facts:
                return self.records.facts[fact]
        return np.full(len(self.records), "all")

    @cached_property
    def rates(self) -> tuple[Rate, ...]:
        """Return the share of suspected records by hospital and kind, and of all records by kind."""
        names = sorted(set(self.hospitals.tolist()))
        found = {(name, kind): 0 for name in names for kind in KINDS}
        for place in self.suspected:
            found[str(self.hospitals[place]), self.kind(int(place))] += 1  # type: ignore[index]
        rates = [
            _rate(name, kind, found[name, kind], int((self.hospitals == name).sum()))
            for name in names
            for kind in KINDS
        ]
        if len(names) > 1:
            rates += [
                _rate("all", kind, sum(found[name, kind] for name in names), len(self.records))
                for kind in KINDS
            ]
        return tuple(rates)

    @cached_property
    def clean(self) -> NDArray[np.int64]:
        """Return the positions of the records that nothing is held against, ascending."""
        return np.flatnonzero(self.scores < 1)


def auditors_of(text: str) -> dict[str, Auditor]:
    """Return the methods that a text such as ``planted-marks + noise-level(limit=4)`` names, by name.

    Raises
    ------
    UserError
        If one is unknown or an option does not fit.
    """
    return {part.text: _auditor(part) for part in AttackChain.parse(text).parts}


def audit(subject: Subject, auditors: Mapping[str, Auditor]) -> Audit:
    """Return what the methods find among the records.

    Raises
    ------
    UserError
        If there are too few records, or a method fails.
    """
    if not subject.records.pixels:
        raise UserError(
            f"{subject.records.source}: an audit examines images, and these records are rows of features; "
            "audit the images that the features come from"
        )
    if len(subject.records) < 2:
        raise UserError(f"{subject.records.source}: an audit compares records, and needs at least 2")
    findings = {name: _examined(auditor, subject) for name, auditor in auditors.items()}
    return Audit(subject.records, findings, {name: auditor.kind for name, auditor in auditors.items()})


def _examined(auditor: Auditor, subject: Subject) -> Suspicion:
    with reraise_as_user_error(f"{type(auditor).__name__}.examine"):
        found = auditor.examine(subject)
    if not isinstance(found, Suspicion) or np.shape(found.scores) != (len(subject.records),):
        raise UserError(
            f"{type(auditor).__name__}.examine must return a Suspicion with a score for each record"
        )
    return Suspicion(np.nan_to_num(np.asarray(found.scores, np.float64)), found.evidence)


def _auditor(part: PluginSpec) -> Auditor:
    made: Auditor = instantiate(find(part.name, "auditors", (Auditor,), "auditor"), part.options, part.name)
    return made


def _rate(hospital: str, kind: str, suspected: int, records: int) -> Rate:
    from scipy.stats import binomtest

    interval = binomtest(suspected, records).proportion_ci(method="wilson")
    return Rate(hospital, kind, suspected, records, float(interval.low), float(interval.high))

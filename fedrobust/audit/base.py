"""What a method of the audit is: `Auditor`, the records that it examines, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.plugins import RemembersOptions

__all__ = ["KINDS", "Auditor", "Kind", "Subject", "Suspicion"]

#: What may be wrong with a record. Where several methods suspect one record, the kind that stands first here
#: counts: a stamped image was relabelled as well, and a blended trigger is noise too.
Kind = Literal["duplicate", "planted mark", "noise", "label error", "out of distribution"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Subject(Protocol):
    """The records under examination, and what a model says of them, computed when it is first asked for."""

    @property
    def records(self) -> Records:
        """Return the records."""
        ...

    @property
    def seed(self) -> int:
        """Return the seed of all draws."""
        ...

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Return class probabilities by networks that were trained on other records, shape (n, K)."""
        ...

    @property
    def features(self) -> NDArray[np.float64]:
        """Return what networks trained on all records map each image to before the classifier, (n, d)."""
        ...


@dataclass(frozen=True)
class Suspicion:
    """What one method found.

    Attributes
    ----------
    scores : ndarray of float64, shape (n,)
        The higher, the more suspicious; 1 and above is suspected.
    evidence : mapping of int to str
        What speaks against a suspected record, by position; it may leave records out.
    """

    scores: NDArray[np.float64]
    evidence: Mapping[int, str] = field(default_factory=dict)

    @property
    def suspected(self) -> NDArray[np.bool_]:
        """Return which records are suspected, shape (n,)."""
        return self.scores >= 1


class Auditor(RemembersOptions, ABC):
    """A method that finds one kind of contamination; a file of ``auditors/`` has one.

    A threshold is chosen so that few records of clean data are suspected: all methods that an audit uses by
    default together at most 5 %.
    """

    #: What it suspects a record of.
    kind: ClassVar[Kind]

    @abstractmethod
    def examine(self, subject: Subject) -> Suspicion:
        """Return a score for each record, and evidence."""

"""The lines that each round adds to the files of a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import model_validator

from fedrobust.results.records.base import Record

__all__ = [
    "ClientMetricsLine",
    "Fault",
    "Metrics",
    "RoundLine",
    "SynthesisMetrics",
    "TimingLine",
    "VerdictLine",
    "WrittenLines",
    "expected_updates",
    "reported_images",
]


class Metrics(Record):
    """A model's metrics on one set of images; None where undefined.

    Attributes
    ----------
    sensitivity : tuple of float or None
        One value for each class.
    """

    loss: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    macro_precision: float | None = None
    macro_recall: float | None = None
    auroc: float | None = None
    balanced_accuracy: float | None = None
    ece: float | None = None
    sensitivity: tuple[float | None, ...] = ()
    worst_class: float | None = None

    def value(self, key: str) -> float | None:
        """Return a metric by its key; None where it is undefined or not recorded."""
        found = getattr(self, key, None)
        return found if isinstance(found, float | int) else None


class SynthesisMetrics(Record):
    """What a generator's images are like; None where undefined.

    Attributes
    ----------
    fid, kid : float or None
        Distances from the real test images, by the features of a classifier of real images.
    precision, recall : float or None
        Share of the images near some real one, and of the real ones near some image.
    class_score : float or None
        The Inception Score by a classifier of real images, from 1 to the number of classes.
    conditional_accuracy : float or None
        Share of the images that a held-out classifier takes for their class.
    trigger_rate : float or None
        Share of the images with a backdoor's mark, of the commonest where there are several.
    finite : bool
        Whether all pixels are finite numbers.
    """

    fid: float | None = None
    kid: float | None = None
    precision: float | None = None
    recall: float | None = None
    class_score: float | None = None
    conditional_accuracy: float | None = None
    trigger_rate: float | None = None
    finite: bool = True


class Fault(Record):
    """A hospital whose update was discarded in a round, and why."""

    hospital: int
    reason: str


class RoundLine(Record):
    """One round: the global model's metrics after it, and who failed or was flagged in it.

    Attributes
    ----------
    attack_success_rate : float or None
        The highest of any threat's backdoor.
    attack_success_rates : tuple of float or None
        By threat, in the order of the manifest; empty where none is a backdoor.
    asked : tuple of int or None
        The hospitals that the round asked, where not all take part in every round.
    absent : tuple of Fault
        Those of them that did not answer, as the scenario has it: no fault of theirs.
    memory_bytes : int or None
        What the hospitals that replied keep until their next round; None where they keep nothing.
    not_kept : str or None
        Why the round's model is not kept, but the last one; None where it is.
    client_evaluation : mapping or None
        What the strategy made of the hospitals' own evaluation, where it asks for one.
    synthesis : SynthesisMetrics or None
        Of a generator; None of a classifier.
    """

    round: int
    lr: float | None = None
    train_loss: float | None = None
    val: Metrics = Metrics()
    clean: Metrics = Metrics()
    noisy: Metrics = Metrics()
    attack_success_rate: float | None = None
    attack_success_rates: tuple[float | None, ...] = ()
    hospital_accuracy: tuple[float | None, ...] = ()
    worst_hospital: float | None = None
    flagged: tuple[int, ...] = ()
    no_effect_attacks: tuple[str, ...] = ()
    no_effect_steps: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    asked: tuple[int, ...] | None = None
    absent: tuple[Fault, ...] = ()
    memory_bytes: int | None = None
    not_kept: str | None = None
    client_evaluation: Mapping[str, float | None | tuple[float | None, ...]] | None = None
    synthesis: SynthesisMetrics | None = None

    def value(self, key: str) -> float | None:
        """Return a metric that the round has once, by its key; None where it has none."""
        found = getattr(self, key, None) if self.synthesis is None else getattr(self.synthesis, key, None)
        return float(found) if isinstance(found, float | int) else None


def expected_updates(lines: Iterable[RoundLine], round: int) -> frozenset[int] | None:
    """Return the hospitals of which a round expected an update; None where all take part in every round."""
    line = next((one for one in lines if one.round == round), None)
    if line is None or line.asked is None:
        return None
    return frozenset(line.asked) - {one.hospital for one in line.absent}


class VerdictLine(Record):
    """What the strategy decided on each hospital in a round; no hospitals where it gives no verdict.

    Attributes
    ----------
    weights : tuple of float or None
        Sum 1.
    why : mapping
        By the hospital's number.
    """

    round: int
    hospitals: tuple[int, ...] = ()
    weights: tuple[float | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    flagged: tuple[int, ...] = ()
    why: Mapping[int, str] = {}

    @model_validator(mode="after")
    def _one_for_each_hospital(self) -> Self:
        if not len(self.hospitals) == len(self.weights) == len(self.scores):
            raise ValueError("hospitals, weights and scores are lists of different lengths")
        return self

    def uniform_weights(self, clients: int) -> dict[int, float]:
        """Return each hospital's weight as a multiple of the uniform weight 1/n over all n hospitals."""
        known = zip(self.hospitals, self.weights, strict=True)
        return {hospital: weight * clients for hospital, weight in known if weight is not None}


class ClientMetricsLine(Record):
    """The unverified metrics that hospitals reported in a round; those of a task alone are further keys."""

    round: int
    hospitals: tuple[int, ...] = ()
    loss: tuple[float | None, ...] = ()
    received_loss: tuple[float | None, ...] = ()
    num_examples: tuple[int | float | None, ...] = ()

    def by_hospital(self, key: str) -> dict[int, float | None]:
        """Return a metric by the hospital's number."""
        return dict(zip(self.hospitals, getattr(self, key, ()), strict=False))


class TimingLine(Record):
    """Where a round's time went: a key for each phase, in seconds. Round 0 is what precedes the first.

    Attributes
    ----------
    defence_mib : float or None
        The most additional memory that the defence needed.
    """

    round: int
    defence_mib: float | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase."""
        more = self.model_extra or {}
        return {phase: float(found) for phase, found in more.items() if isinstance(found, int | float)}


class WrittenLines(Record):
    """What a checkpoint states of a file of lines: its length in bytes, and the checksum of so many."""

    bytes: int
    sha256: str


def reported_images(lines: Iterable[ClientMetricsLine]) -> dict[int, float]:
    """Return how many images each hospital last reported, by its number; only positive numbers."""
    found: dict[int, float] = {}
    for line in lines:
        known = line.by_hospital("num_examples").items()
        found |= {number: images for number, images in known if images is not None and images > 0}
    return found

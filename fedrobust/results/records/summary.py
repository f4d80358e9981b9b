"""The record of ``summary.json``: a finished run in short."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from fedrobust.results.records.base import Record
from fedrobust.results.records.manifest import ThreatRecord
from fedrobust.results.records.robustness import Robustness
from fedrobust.results.records.rounds import Metrics, SynthesisMetrics
from fedrobust.results.records.site_tests import SiteTests

__all__ = ["Baseline", "Calibration", "Detection", "Summary", "SummaryThreat", "SynthesisSummary", "Utility"]


#: As in the settings: a page lists every hospital.
MOST_HOSPITALS = 100_000


class Detection(Record):
    """How well the defence distinguished malicious hospitals from honest ones; None where undefined.

    Attributes
    ----------
    malicious_weight : float or None
        The share of the last round's weight that malicious hospitals have.
    malicious_share : float or None
        Their share of all hospitals, to compare it with.
    failed : tuple of int
        Hospitals without an update in the last round with a verdict.
    """

    precision: float | None = None
    recall: float | None = None
    auroc: float | None = None
    false_flag_rate: float | None = None
    malicious_weight: float | None = None
    malicious_share: float | None = None
    weights: Mapping[int, float | None] = {}
    flagged: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


class Baseline(Record):
    """The same run without attackers.

    Attributes
    ----------
    run : str
        The name of its folder.
    clean : Metrics
        Of its last model on the clean test images.
    """

    run: str
    clean: Metrics = Metrics()


class Calibration(Record):
    """What temperature scaling made of the last model's confidence.

    Attributes
    ----------
    scale : float or None
        The exponent of the probabilities, fitted on the server's validation images.
    raw_ece, raw_noisy_ece : float or None
        The calibration error before it, on clean and on noisy test images.
    """

    scale: float | None = None
    raw_ece: float | None = None
    raw_noisy_ece: float | None = None


class SummaryThreat(ThreatRecord):
    """What a group of hospitals does, whether it is malicious, and how far its backdoor succeeds.

    Attributes
    ----------
    attack_success_rate : float or None
        Of the last model; None for what is no backdoor.
    last_round : int or None
        The last round in which it acted; None where it never did.
    success_at_its_end : float or None
        The attack success rate after that round.
    durability : float or None
        What the last model has left of that, as a share, for a threat that ended before the run did and
        had a rate above 1/K of K classes then; else None.
    """

    malicious: bool
    attack_success_rate: float | None = None
    last_round: int | None = None
    success_at_its_end: float | None = None
    durability: float | None = None


class Utility(Record):
    """Accuracy of a classifier of few real images, a mean over classes, without and with synthetic ones.

    Attributes
    ----------
    real : int
        Real images of each class.
    without, supplemented : float
    """

    real: int
    without: float
    supplemented: float


class SynthesisSummary(SynthesisMetrics):
    """The last generator's metrics, with what real images and the judging classifiers attain.

    Attributes
    ----------
    images : int
        Real images, and synthetic ones, that are compared.
    real_fid, real_kid : float or None
        Distances of the real validation from the real test images.
    real_class_score : float or None
        That of the real test images.
    real_accuracy : float or None
        Share of the real test images that the held-out classifier takes for their class, averaged over the
        classes.
    judge_sha256 : str
        Hash of the weights of the classifier that gives features.
    collapsed : bool
        Whether next to no real image is near any synthetic one.
    trigger_false_alarms, trigger_misses : float or None
        Share of clean images that the detector of the mark takes for stamped ones, and of images with the
        mark at half its strength that it takes for clean ones.
    added : int
        Synthetic images of each class that the study of their use adds.
    utility : tuple of Utility
        Empty where the images are not finite.
    """

    images: int = 0
    real_fid: float | None = None
    real_kid: float | None = None
    real_class_score: float | None = None
    real_accuracy: float | None = None
    judge_sha256: str = ""
    collapsed: bool = False
    trigger_false_alarms: float | None = None
    trigger_misses: float | None = None
    added: int = 0
    utility: tuple[Utility, ...] = ()

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return what a suite compares of the study of the images' use, by metric."""
        found: dict[str, float | None] = {}
        for use in self.utility:
            found |= {
                f"utility:{use.real}": use.supplemented,
                f"utility_gain:{use.real}": 100 * (use.supplemented - use.without),
            }
        return found


class Summary(Record):
    """A finished run in short.

    Attributes
    ----------
    clean, noisy : Metrics
        Of the last model on the test images, its confidence calibrated.
    calibration : Calibration
    strategy, data, partition, backbone, head : str
        As the settings write them.
    attack : str or None
        The attacks of the malicious hospitals; None where no hospital is malicious.
    failed : bool
        Whether no hospital ever sent a usable update, so that the model is untrained.
    failure : str or None
        The same in a sentence.
    failed_attacks : tuple of str
        Attacks that never ran: their hospitals failed in every round.
    diverged : bool
        Whether the last model's loss is not a finite number.
    no_better_than_commonest_class : bool or None
        Whether the last model's accuracy is at most `commonest_class_share`.
    faults : int
        How many updates were discarded in all rounds.
    baseline : Baseline or None
        The same run without attackers, where it was run.
    lost_to_attack : mapping or None
        Metric to what the baseline has more of it.
    commonest_class_share : float or None
        The accuracy of always naming the commonest class.
    robustness : Robustness or None
        The evaluations on changed images, where the settings name some.
    robustness_seconds : float or None
        How long these took.
    site_tests : SiteTests or None
        Accuracies on the hospitals' own test parts, where they keep some.
    synthesis : SynthesisSummary or None
        Of a generator; None of a classifier.
    """

    clean: Metrics = Metrics()
    noisy: Metrics = Metrics()
    calibration: Calibration = Calibration()
    drop: Mapping[str, float | None] = {}
    detection: Detection = Detection()
    attack_success_rate: float | None = None
    no_effect_attacks: tuple[str, ...] = ()
    no_effect_steps: tuple[str, ...] = ()
    server_images: int = 0
    server_share: float = 0.0
    faults: int = 0
    clients: int = Field(ge=1, le=MOST_HOSPITALS)
    malicious: int = 0
    atypical: tuple[int, ...] = ()
    rounds: int
    seed: int
    synthetic: bool = False
    seconds: float | None = None
    run: str = ""
    baseline: Baseline | None = None
    lost_to_attack: Mapping[str, float | None] | None = None
    commonest_class_share: float | None = None
    no_better_than_commonest_class: bool | None = None
    diverged: bool = False
    failed: bool = False
    failure: str | None = None
    failed_attacks: tuple[str, ...] = ()
    strategy: str = ""
    attack: str | None = None
    threats: tuple[SummaryThreat, ...] = ()
    data: str = ""
    partition: str = ""
    backbone: str = ""
    head: str = ""
    networks: int | None = None
    robustness: Robustness | None = None
    robustness_seconds: float | None = None
    site_tests: SiteTests | None = None
    synthesis: SynthesisSummary | None = None

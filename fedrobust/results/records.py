"""The records of a run folder: what each of its files holds, declared once for writers and readers.

A record is frozen and its fields are checked when it is made or read. A key that no field names is
kept as it is, so that a task or a plug-in can add its own.

| file | record |
|---|---|
| ``manifest.json`` | `Manifest` |
| ``summary.json`` | `Summary` |
| ``rounds.jsonl`` | `RoundLine` |
| ``verdicts.jsonl`` | `VerdictLine` |
| ``client_metrics.jsonl`` | `ClientMetricsLine` |
| ``timings.jsonl`` | `TimingLine` |
| ``evaluation.json`` | `Evaluation` |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from fedrobust.errors import UserError
from fedrobust.results.files import plain

__all__ = [
    "FORMAT",
    "Baseline",
    "CalibrationBin",
    "ClassMetrics",
    "ClientMetricsLine",
    "DataRecord",
    "Deployment",
    "Detection",
    "Evaluation",
    "ExampleRecord",
    "Fault",
    "HospitalEvaluation",
    "Machine",
    "Manifest",
    "Metrics",
    "PartSummary",
    "PluginRecord",
    "Record",
    "Role",
    "RoundLine",
    "ServerDataUse",
    "SplitSizes",
    "Summary",
    "SummaryThreat",
    "ThreatRecord",
    "TimingLine",
    "VerdictLine",
    "check_format",
    "reported_images",
]

#: The version of a run folder's files; a folder of another version is refused.
FORMAT = 2

#: What is true of a hospital; an atypical one is benign, but unlike the others.
Role = Literal["malicious", "atypical", "honest"]


class Record(BaseModel):
    """A record of a file: frozen, strict about types, open to further keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Return a record of Python or NumPy values; NaN and infinities become None, as in the file."""
        return cls.model_validate(plain({**(values or {}), **more}), strict=False)

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds, as JSON's dictionaries and lists."""
        return dict(plain(self))


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


class Fault(Record):
    """A hospital whose update was discarded in a round, and why."""

    hospital: int
    reason: str


class RoundLine(Record):
    """One round: the global model's metrics after it, and who failed or was flagged in it."""

    round: int
    lr: float | None = None
    train_loss: float | None = None
    val: Metrics = Metrics()
    clean: Metrics = Metrics()
    noisy: Metrics = Metrics()
    attack_success_rate: float | None = None
    hospital_accuracy: tuple[float | None, ...] = ()
    worst_hospital: float | None = None
    flagged: tuple[int, ...] = ()
    no_effect_attacks: tuple[str, ...] = ()
    no_effect_steps: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


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

    def uniform_weights(self, clients: int) -> dict[int, float]:
        """Return each hospital's weight as a multiple of the uniform weight 1/n over all n hospitals."""
        known = zip(self.hospitals, self.weights, strict=True)
        return {hospital: weight * clients for hospital, weight in known if weight is not None}


class ClientMetricsLine(Record):
    """The metrics that hospitals reported in a round, which nobody has verified."""

    round: int
    hospitals: tuple[int, ...] = ()
    loss: tuple[float | None, ...] = ()
    received_loss: tuple[float | None, ...] = ()
    num_examples: tuple[int | float | None, ...] = ()

    def by_hospital(self, key: str) -> dict[int, float | None]:
        """Return a metric by the hospital's number."""
        return dict(zip(self.hospitals, getattr(self, key), strict=False))


def reported_images(lines: Iterable[ClientMetricsLine]) -> dict[int, float]:
    """Return how many images each hospital last reported, by its number; only positive numbers."""
    found: dict[int, float] = {}
    for line in lines:
        known = line.by_hospital("num_examples").items()
        found |= {number: images for number, images in known if images is not None and images > 0}
    return found


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


class Detection(Record):
    """How well the defence told malicious hospitals from honest ones; None where undefined.

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


class ThreatRecord(Record):
    """What a group of hospitals does."""

    attack: str
    hospitals: tuple[int, ...]


class SummaryThreat(ThreatRecord):
    """What a group of hospitals does, and whether it is malicious."""

    malicious: bool


class Summary(Record):
    """A finished run in short.

    Attributes
    ----------
    strategy, data, partition, backbone, head : str
        As the settings write them.
    attack : str or None
        The attacks of the malicious hospitals; None where nobody is malicious.
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
    """

    clean: Metrics = Metrics()
    noisy: Metrics = Metrics()
    drop: Mapping[str, float | None] = {}
    detection: Detection = Detection()
    attack_success_rate: float | None = None
    no_effect_attacks: tuple[str, ...] = ()
    no_effect_steps: tuple[str, ...] = ()
    server_images: int = 0
    server_share: float = 0.0
    faults: int = 0
    clients: int
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


class Machine(Record):
    """The machine of a run."""

    system: str
    processor: str = ""
    cores: int | None = None


class SplitSizes(Record):
    """How many images each part has."""

    train: int
    val: int
    test: int


class DataRecord(Record):
    """The data of a run.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    hospitals : mapping
        The number of images of each class, by hospital; None where the server does not know them.
    """

    source: str
    synthetic: bool = False
    sha256: str
    images: int
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...]
    split: SplitSizes | None = None
    hospitals: Mapping[int, tuple[int, ...] | None] = {}


class ServerDataUse(Record):
    """What the defence sees of the server's validation images."""

    share_of_validation: float
    images: int


class Deployment(Record):
    """How a deployed run was made, and which hospitals brought data of their own."""

    tls: bool
    supernode_keys: bool
    own_data: Mapping[int, str] = {}


class PluginRecord(Record):
    """A plug-in of a run: where it comes from, and the hash of its source and of the user's files it imports.

    Attributes
    ----------
    plugin : str
        ``module:Class``.
    kind : str
        ``built-in``, ``own`` or ``installed``.
    file : str
        The file's name; empty for a class without one.
    replaces_built_in : bool
        Whether it hides a built-in plug-in of the same name.
    """

    plugin: str
    kind: str
    file: str = ""
    replaces_built_in: bool = False
    source_hash: str


class Manifest(Record):
    """What a run was made with, so that its results can be traced and reproduced."""

    format: int | None = None
    task: str = "classification"
    settings: Mapping[str, JsonValue]
    settings_hash: str
    seeds: Mapping[str, int] = {}
    versions: Mapping[str, str | None] = {}
    git_commit: str | None = None
    machine: Machine | None = None
    started: str | None = None
    data: DataRecord
    malicious: tuple[int, ...] = ()
    atypical: tuple[int, ...] = ()
    threats: tuple[ThreatRecord, ...] = ()
    plugins: tuple[PluginRecord, ...] = ()
    defence_trusts: tuple[str, ...] | None = None
    oracle: bool = False
    defence_server_data: ServerDataUse | None = None
    deployment: Deployment | None = None

    def setting(self, key: str) -> str | None:
        """Return a setting as text; None where it was not given."""
        found = self.settings.get(key)
        return None if found is None else str(found)


class CalibrationBin(Record):
    """One bin of confidence: its ends, its images, and their mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float | None = None
    accuracy: float | None = None


class ClassMetrics(Record):
    """The last model class by class, on one set of test images; the confusion matrix has truth in rows."""

    confusion: tuple[tuple[int, ...], ...] = ()
    sensitivity: tuple[float | None, ...] = ()
    specificity: tuple[float | None, ...] = ()
    precision: tuple[float | None, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()


class HospitalEvaluation(Record):
    """One hospital: the truth about it, its images, and the last model's accuracy for it."""

    number: int
    role: Role
    attack: str | None = None
    images: int | None = None
    counts: tuple[int, ...] | None = None
    missing: Mapping[str, float] | None = None
    accuracy: float | None = None


class PartSummary(Record):
    """One part of the data: images of each class, and the share of images that lack a fact."""

    counts: tuple[int, ...] = ()
    missing: Mapping[str, float] = {}


class ExampleRecord(Record):
    """One pair of ``examples.safetensors``: the hospital, its attack, and the labels before and after."""

    hospital: int
    attack: str
    before: str
    after: str


class Evaluation(Record):
    """The final evaluation: the last model class by class, the hospitals, and the parts of the data."""

    classes: tuple[str, ...]
    clean: ClassMetrics = ClassMetrics()
    noisy: ClassMetrics = ClassMetrics()
    hospitals: tuple[HospitalEvaluation, ...] = ()
    splits: Mapping[str, PartSummary] = {}


def check_format(found: Manifest, path: object) -> None:
    """Refuse a run folder of another version of the format, in one sentence."""
    if found.format != FORMAT:
        has = "no format number" if found.format is None else f"format {found.format}"
        raise UserError(
            f"{path}: this run folder has {has}, and this version reads format {FORMAT}; "
            "run the settings again, or use the version that wrote it"
        )

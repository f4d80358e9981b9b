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

from fedrobust.results.records.base import Record, Role
from fedrobust.results.records.evaluation import (
    CalibrationBin,
    ClassMetrics,
    Evaluation,
    ExampleRecord,
    HospitalEvaluation,
    PartSummary,
)
from fedrobust.results.records.manifest import (
    FORMAT,
    DataRecord,
    Deployment,
    Machine,
    Manifest,
    PluginRecord,
    ServerDataUse,
    SplitSizes,
    ThreatRecord,
    check_format,
)
from fedrobust.results.records.robustness import (
    ConditionResult,
    EvaluationResult,
    GradientRecord,
    PictureRecord,
    Robustness,
)
from fedrobust.results.records.rounds import (
    ClientMetricsLine,
    Fault,
    Metrics,
    RoundLine,
    SynthesisMetrics,
    TimingLine,
    VerdictLine,
    WrittenLines,
    expected_updates,
    reported_images,
)
from fedrobust.results.records.site_tests import SiteTests
from fedrobust.results.records.summary import (
    Baseline,
    Calibration,
    Detection,
    Summary,
    SummaryThreat,
    SynthesisSummary,
    Utility,
)

__all__ = [
    "FORMAT",
    "Baseline",
    "Calibration",
    "CalibrationBin",
    "ClassMetrics",
    "ClientMetricsLine",
    "ConditionResult",
    "DataRecord",
    "Deployment",
    "Detection",
    "Evaluation",
    "EvaluationResult",
    "ExampleRecord",
    "Fault",
    "GradientRecord",
    "HospitalEvaluation",
    "Machine",
    "Manifest",
    "Metrics",
    "PartSummary",
    "PictureRecord",
    "PluginRecord",
    "Record",
    "Robustness",
    "Role",
    "RoundLine",
    "ServerDataUse",
    "SiteTests",
    "SplitSizes",
    "Summary",
    "SummaryThreat",
    "SynthesisMetrics",
    "SynthesisSummary",
    "ThreatRecord",
    "TimingLine",
    "Utility",
    "VerdictLine",
    "WrittenLines",
    "check_format",
    "expected_updates",
    "reported_images",
]

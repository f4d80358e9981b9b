"""What an attack cost: a run beside its clean baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedrobust.commands.messages import note
from fedrobust.results.checksums import replace_checked
from fedrobust.results.files import json_text
from fedrobust.results.finished_run import read_run
from fedrobust.results.records import Baseline, Metrics
from fedrobust.runtime.runner import keep_report
from fedrobust.settings import Settings
from fedrobust.suites.plan import atypical_first, clean_baseline

__all__ = ["compare_with_baseline", "with_same_atypical_hospitals"]


def with_same_atypical_hospitals(settings: Settings) -> Settings:
    """Return settings that name atypical hospitals first: the clean baseline then draws the same ones."""
    ordered = atypical_first(settings)
    if ordered != settings:
        note(
            "atypical hospitals are drawn before malicious ones, so that the clean baseline has the same ones"
        )
    return ordered


def compare_with_baseline(folder: Path, settings: Settings, run: Callable[[Settings], Path]) -> None:
    """Run the clean baseline of a run, and add what was lost to the attack to its summary and report.

    Parameters
    ----------
    folder : Path
        The finished run's.
    settings : Settings
        The settings of that run.
    run : callable
        Runs settings, and returns the run folder.
    """
    clean_settings = clean_baseline(settings)
    if clean_settings is None:
        note("no hospital is malicious: the run is its own clean baseline")
        return
    baseline = run(clean_settings)
    attacked, clean = read_run(folder).summary, read_run(baseline).summary
    summary = attacked.model_copy(
        update={
            "baseline": Baseline(run=baseline.name, clean=clean.clean),
            "lost_to_attack": _lost(clean.clean, attacked.clean),
        }
    )
    replace_checked(folder, {"summary.json": json_text(summary).encode()})
    keep_report(folder)


def _lost(clean: Metrics, attacked: Metrics) -> dict[str, float | None]:
    """Return, for each metric that is a number, the baseline's value minus the attacked run's."""
    lost = {}
    for key, before in clean.model_dump().items():
        after = attacked.value(key)
        if isinstance(before, float | int):
            lost[key] = None if after is None else before - after
    return lost

"""The page of one run, from its folder alone: neither data nor torch are needed."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fedrobust.reports.page import render
from fedrobust.reports.run import final_plots, final_tables, round_plots, round_tables
from fedrobust.reports.run.examples import poisoned_examples
from fedrobust.reports.run.headline import headline, missing, notes
from fedrobust.reports.run.key_metrics import key_figures
from fedrobust.reports.tables import Table
from fedrobust.results.records import Record, read_run

__all__ = ["run_page"]

#: Settings that name folders.
PATHS = ("data-root", "out")

Figures = dict[str, Mapping[str, Any]]


def run_page(folder: Path) -> str:
    """Return the HTML page of a run.

    Parameters
    ----------
    folder : Path
        A run folder; what an older run did not write there is said to be not recorded.

    Raises
    ------
    UserError
        If it is not the folder of a finished run.
    """
    record = read_run(folder)
    plots: Figures = {}
    tables: dict[str, Table] = {}
    _add_rounds(record, plots, tables)
    _add_data(record, plots, tables)
    _add_test(record, plots, tables)
    return render(
        "run.html.j2",
        figures=plots,
        run=record,
        settings=_shareable(record.settings),
        headline=headline(record),
        notes=notes(record),
        key_figures=key_figures(record),
        tables=tables,
        examples=poisoned_examples(folder),
        defence_mib=round_tables.defence_mib(record),
        command=f"python -m fedrobust.simulate --config {_settings_file(folder)}",
        missing=missing(record),
    )


def _add_rounds(record: Record, plots: Figures, tables: dict[str, Table]) -> None:
    tables["hospitals"] = round_tables.hospitals_table(record)
    tables["faults"] = round_tables.faults_table(record)
    if record.rounds:
        plots["curves"], tables["curves"] = round_plots.curves(record), round_tables.curves_table(record)
    if record.judged and record.hospitals:
        plots["trust"], tables["trust"] = round_plots.trust(record), round_tables.trust_table(record)
    losses = round_plots.losses(record)
    if losses["choices"]:
        plots["losses"], tables["losses"] = losses, round_tables.losses_table(record)
    if record.timings:
        rounds = [entry.get("round", 0) for entry in record.timings]
        plots["time"] = round_plots.phases(rounds, round_tables.seconds_by_phase(record))
        tables["time"] = round_tables.time_table(record)


def _add_data(record: Record, plots: Figures, tables: dict[str, Table]) -> None:
    classes = record.classes
    holding = [hospital for hospital in record.hospitals if hospital.counts]
    if holding and classes:
        names = [round_plots.hospital_label(hospital) for hospital in holding]
        counts = [hospital.counts for hospital in holding]
        plots["held"] = {
            "choices": {
                "images": final_plots.class_counts(names, counts, classes, "hospital", False),
                "shares": final_plots.class_counts(names, counts, classes, "hospital", True),
            }
        }
        tables["held"] = final_tables.counts_table(names, counts, classes, [h.missing for h in holding])
    splits: Mapping[str, Any] = record.evaluation.get("splits") or {}
    if splits and classes:
        parts = list(splits)
        counts_of = [tuple(splits[part].get("counts") or ()) for part in parts]
        plots["splits"] = final_plots.class_counts(parts, counts_of, classes, "part", True)
        lacks = [splits[part].get("missing") or {} for part in parts]
        tables["splits"] = final_tables.counts_table(parts, counts_of, classes, lacks)


def _add_test(record: Record, plots: Figures, tables: dict[str, Table]) -> None:
    classes = record.classes
    parts = {part: record.evaluation.get(part) or {} for part in ("clean", "noisy")}
    for part, told in parts.items():
        if told.get("confusion"):
            plots[f"confusion-{part}"] = final_plots.confusion(told["confusion"], classes)
            tables[f"confusion-{part}"] = final_tables.confusion_table(told["confusion"], classes, part)
    found: dict[str, Sequence[float | None]] = {
        part: told["sensitivity"] for part, told in parts.items() if told.get("sensitivity")
    }
    if found:
        plots["classes"], tables["classes"] = (
            final_plots.per_class(found, classes),
            final_tables.classes_table(record),
        )
    bins = {part: told["calibration"] for part, told in parts.items() if told.get("calibration")}
    if bins:
        plots["calibration"] = final_plots.calibration(bins)
        tables["calibration"] = final_tables.calibration_table(bins)
    tables["drop"] = final_tables.drop_table(record)
    if any(hospital.accuracy is not None for hospital in record.hospitals):
        plots["accuracies"] = final_plots.by_hospital(record.hospitals)
        tables["accuracies"] = final_tables.accuracies_table(record)
    tables["provenance"] = final_tables.provenance_table(record)


def _settings_file(folder: Path) -> str:
    """Return the settings' path as a shell takes it, without what comes before the run's folder on this machine."""
    file = folder / "settings.toml"
    return shlex.quote(str(file.relative_to(folder.parent) if file.is_absolute() else file))


def _shareable(settings: str) -> str:
    """Return a run's TOML with only the last part of absolute paths: a page is passed on, the rest is the machine's own."""

    def shortened(line: str) -> str:
        key, _, value = line.partition(" = ")
        if key not in PATHS or not value:
            return line
        path = str(tomllib.loads(line)[key])
        for flavour in (PurePosixPath, PureWindowsPath):
            if flavour(path).is_absolute():
                return f"{key} = {json.dumps(flavour(path).name)}  # a folder of the machine that ran this"
        return line

    return "\n".join(map(shortened, settings.splitlines()))

"""The page of one run, from its folder alone: neither data nor torch are needed."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec
from fedrobust.reports.glossary import GLOSSARY
from fedrobust.reports.page import render
from fedrobust.reports.palette import Plots
from fedrobust.reports.run import evaluations, final_plots, final_tables, round_plots, round_tables
from fedrobust.reports.run.examples import poisoned_examples
from fedrobust.reports.run.headline import headline
from fedrobust.reports.run.key_metrics import key_metrics
from fedrobust.reports.run.notes import missing_facts, notes
from fedrobust.reports.run.synthesis import synthetic_images, utility_table
from fedrobust.reports.tables import Table
from fedrobust.results.finished_run import FinishedRun, read_run
from fedrobust.results.records import ClassMetrics
from fedrobust.tasks import task_class

__all__ = ["run_page"]

#: Settings that name folders.
PATHS = ("data-root", "out")


def run_page(folder: Path) -> str:
    """Return the HTML page of a run.

    Parameters
    ----------
    folder : Path
        A run folder; the page says where a file of it is missing.

    Raises
    ------
    UserError
        If it is not the folder of a finished run.
    """
    run = read_run(folder)
    plots: Plots = {}
    tables: dict[str, Table] = {}
    _add_rounds(run, plots, tables)
    _add_data(run, plots, tables)
    tables["provenance"] = final_tables.provenance_table(run)
    robustness = run.evaluation.robustness if run.evaluation else None
    sections = [
        section
        for section in task_class(run.manifest.task).report_sections
        if section != "evaluations" or robustness is not None
    ]
    for section in sections:
        if section in _TASK_SECTIONS:
            _TASK_SECTIONS[section](run, plots, tables)
    return render(
        "run.html.j2",
        task_sections=sections,
        plots=plots,
        run=run,
        settings=_shareable(run.settings),
        headline=headline(run),
        notes=notes(run),
        key_metrics=key_metrics(run),
        tables=tables,
        examples=poisoned_examples(folder),
        synthetic=synthetic_images(folder),
        robustness=robustness,
        gradient_note=evaluations.gradient_note(robustness) if robustness else "",
        pictures=evaluations.pictures(folder) if robustness else [],
        defence_mib=round_tables.defence_mib(run),
        command=_command(run),
        missing=missing_facts(run),
        glossary=GLOSSARY,
    )


def _add_rounds(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    tables["hospitals"] = round_tables.hospitals_table(run)
    tables["faults"] = round_tables.faults_table(run)
    curves = round_plots.curves(run)
    if curves["choices"]:
        plots["curves"], tables["curves"] = curves, round_tables.curves_table(run)
    if run.judged and run.hospitals:
        plots["trust"], tables["trust"] = round_plots.trust(run), round_tables.trust_table(run)
    losses = round_plots.losses(run)
    if losses["choices"]:
        plots["losses"], tables["losses"] = losses, round_tables.losses_table(run)
    if run.timings:
        rounds = [entry.round for entry in run.timings]
        plots["time"] = round_plots.phases(rounds, round_tables.seconds_by_phase(run))
        tables["time"] = round_tables.time_table(run)


def _add_data(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    classes = run.classes
    holding = [hospital for hospital in run.listed if hospital.counts]
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
    splits = run.evaluation.splits if run.evaluation else {}
    if splits and classes:
        parts = list(splits)
        counts_of = [part.counts for part in splits.values()]
        plots["splits"] = final_plots.class_counts(parts, counts_of, classes, "part", True)
        lacks = [part.missing for part in splits.values()]
        tables["splits"] = final_tables.counts_table(parts, counts_of, classes, lacks)


def _add_confusion(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    for part, of_part in _parts(run).items():
        if of_part.confusion:
            plots[f"confusion-{part}"] = final_plots.confusion(of_part.confusion, run.classes)
            tables[f"confusion-{part}"] = final_tables.confusion_table(of_part.confusion, run.classes, part)


def _add_classes(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    parts = _parts(run)
    found: dict[str, Sequence[float | None]] = {
        part: of_part.sensitivity for part, of_part in parts.items() if of_part.sensitivity
    }
    if found:
        plots["classes"] = final_plots.per_class(found, run.classes)
        tables["classes"] = final_tables.classes_table(run)
    bins = {part: of_part.calibration for part, of_part in parts.items() if of_part.calibration}
    if bins:
        plots["calibration"] = final_plots.calibration(bins)
        tables["calibration"] = final_tables.calibration_table(bins)


def _add_drop(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    tables["drop"] = final_tables.drop_table(run)


def _add_evaluations(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    found = run.evaluation.robustness if run.evaluation else None
    if found is None:
        return
    tables["evaluations"] = evaluations.evaluations_table(found)
    tables["conditions"] = evaluations.conditions_table(found)
    curves = evaluations.severities(found)
    if curves is not None:
        plots["severities"] = curves


def _add_accuracies(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    if any(hospital.accuracy is not None for hospital in run.hospitals):
        plots["accuracies"] = final_plots.by_hospital(run.listed)
        tables["accuracies"] = final_tables.accuracies_table(run)
    if run.evaluation and run.evaluation.site_tests:
        tables["site_tests"] = final_tables.site_tests_table(run.evaluation.site_tests)


def _add_synthetic(run: FinishedRun, plots: Plots, tables: dict[str, Table]) -> None:
    if run.summary.synthesis is not None and run.summary.synthesis.utility:
        tables["utility"] = utility_table(run.summary.synthesis)


def _parts(run: FinishedRun) -> dict[str, ClassMetrics]:
    evaluation = run.evaluation
    return {"clean": evaluation.clean, "noisy": evaluation.noisy} if evaluation else {}


#: What fills the sections that belong to a task; a task names its own, the template lays them out.
_TASK_SECTIONS: dict[str, Callable[[FinishedRun, Plots, dict[str, Table]], None]] = {
    "confusion": _add_confusion,
    "classes": _add_classes,
    "drop": _add_drop,
    "evaluations": _add_evaluations,
    "accuracies": _add_accuracies,
    "synthetic": _add_synthetic,
}


def _command(run: FinishedRun) -> str:
    """Return the command that reproduces a run; FOLDER stands for the folder of its data, if it had one."""
    deployed = run.manifest.deployment
    words = ["python -m fedrobust", "deploy-local" if deployed else "simulate"]
    words += ["--config", _settings_file(run.folder)]
    if run.manifest.setting("data_root"):
        words.append("--data-root FOLDER")
    for number, source in deployed.own_data.items() if deployed else ():
        words.append(f"--node-data {shlex.quote(f'{number}={source}')}")
    return " ".join(words)


def _settings_file(folder: Path) -> str:
    """Return the settings' path, quoted for a shell, without the folders above the run's on this machine."""
    file = folder / "settings.toml"
    return shlex.quote(str(file.relative_to(folder.parent) if file.is_absolute() else file))


def _shareable_source(line: str, source: str) -> str:
    """Return the line of the data without the folders above an absolute path."""
    try:
        spec = PluginSpec.parse(source)
    except UserError:
        return line
    place = spec.name.partition(":")[2]
    if spec.without_folders == source or not PurePosixPath(place).is_absolute():
        return line
    return f"data = {json.dumps(spec.without_folders)}  # on the machine of this run"


def _shareable(settings: str) -> str:
    """Return a run's TOML with only the last part of absolute paths, as pages are shared."""

    def shortened(line: str) -> str:
        key, _, value = line.partition(" = ")
        if key not in (*PATHS, "data") or not value:
            return line
        try:
            path = str(tomllib.loads(line)[key])
        except (tomllib.TOMLDecodeError, RecursionError):
            return f"{key} = ...  # damaged"
        if key == "data":
            return _shareable_source(line, path)
        for flavour in (PurePosixPath, PureWindowsPath):
            if flavour(path).is_absolute():
                return f"{key} = {json.dumps(flavour(path).name)}  # a folder on the machine of this run"
        return line

    return "\n".join(map(shortened, settings.splitlines()))

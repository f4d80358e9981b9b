"""What a command prints of a finished run: its metrics, what the defence found, and where everything is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fedrobust.printing import PlainConsole
from fedrobust.results.finished_run import FinishedRun
from fedrobust.results.records import Robustness, SynthesisSummary

if TYPE_CHECKING:
    from fedrobust.runtime.profiling import Profile

__all__ = ["evaluations_table", "print_profile", "print_run"]

_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "macro_precision": "macro precision"}


def print_run(run: FinishedRun) -> None:
    """Print a finished run on standard output."""
    console = PlainConsole()
    for sentence in _first(run):
        console.print(sentence, style="bold", soft_wrap=True)
    console.print(_performance(run) if run.summary.synthesis is None else _synthesis(run.summary.synthesis))
    if run.summary.robustness is not None:
        console.print(evaluations_table(run.summary.robustness, run.summary.robustness_seconds))
    for sentence in [*_detection(run), *_remarks(run), *_places(run)]:
        console.print(sentence, soft_wrap=True)


def print_profile(profile: Profile) -> None:
    """Print on standard error where the time went, by phase."""
    table = Table(title="Where the time went, in seconds", title_justify="left")
    table.add_column("")
    for column in ("until round 1 is done", "a later round (median)"):
        table.add_column(column, justify="right")
    for name, first, later in profile.table():
        if name == "total":
            table.add_section()
        table.add_row(name, f"{first:.2f}", "" if later is None else f"{later:.3f}")
    PlainConsole(stderr=True).print(table)


def _first(run: FinishedRun) -> list[str]:
    """Return what a reader must know before the numbers."""
    summary = run.summary
    if summary.failed:
        return [_sentence(summary.failure or "all hospitals failed in every round")]
    lines = [
        f"Attack '{attack}' never ran: its hospitals failed in every round."
        for attack in summary.failed_attacks
    ]
    if summary.lost_to_attack is not None and summary.baseline is not None:
        clean = summary.baseline.clean.accuracy
        lost = summary.lost_to_attack.get("accuracy")
        points = "undefined" if lost is None else f"{100 * lost:.1f} points of accuracy"
        lines.append(
            f"Lost to the attack: {points} ({_fraction(summary.clean.accuracy)}; "
            f"{_fraction(clean)} without it)."
        )
    if summary.diverged:
        lines.append("Training diverged: the loss of the last model is not a finite number.")
    if summary.synthesis is not None and summary.synthesis.collapsed:
        lines.append(
            "The generator has collapsed or learnt nothing: hardly any real image is near one of its."
        )
    if summary.no_better_than_commonest_class:
        share = _fraction(run.commonest_class_share)
        lines.append(
            f"The model is no better than always predicting the commonest class ({share} of the test images)."
        )
    return lines


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _performance(run: FinishedRun) -> Table:
    summary = run.summary
    table = Table(
        title="Test set" + (" (synthetic images)" if summary.synthetic else ""), title_justify="left"
    )
    table.add_column("")
    baseline = summary.baseline
    for column in ("clean", "noisy", "drop", *(["clean without attack"] if baseline else [])):
        table.add_column(column, justify="right")
    for key, name in _NAMES.items():
        cells = [_fraction(summary.clean.value(key)), _fraction(summary.noisy.value(key))]
        cells.append(_percent(summary.drop.get(key)))
        if baseline:
            cells.append(_fraction(baseline.clean.value(key)))
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("combined drop", "", "", _percent(summary.drop.get("combined")), style="bold")
    return table


def _synthesis(found: SynthesisSummary) -> Table:
    """Return what the last generator's images are like, beside real ones."""
    table = Table(title=f"{found.images} synthetic images", title_justify="left")
    for column in ("", "synthetic", "real"):
        table.add_column(column, justify="right" if column else "left")
    for name, key, real in (
        ("FID", "fid", found.real_fid),
        ("KID", "kid", found.real_kid),
        ("class score", "class_score", found.real_class_score),
        ("conditional accuracy", "conditional_accuracy", found.real_accuracy),
        ("precision", "precision", None),
        ("recall", "recall", None),
        ("trigger rate", "trigger_rate", found.trigger_false_alarms),
    ):
        cells = [getattr(found, key), real]
        if any(cell is not None for cell in cells):
            table.add_row(name, *("" if cell is None else _fraction(cell) for cell in cells))
    for use in found.utility:
        name = f"accuracy with {use.real} real images a class"
        table.add_row(name, _fraction(use.supplemented), _fraction(use.without))
    return table


def evaluations_table(found: Robustness, seconds: float | None = None) -> Table:
    """Return what the evaluations of the last model gave."""
    of = f"{found.images} of {found.test_images}" if found.images < found.test_images else f"{found.images}"
    took = "" if seconds is None else f", in {seconds:.0f} s"
    table = Table(title=f"Evaluations on {of} test images{took}", title_justify="left")
    table.add_column("")
    for column in ("accuracy", "defence rate", "combined drop"):
        table.add_column(column, justify="right")
    for one in found.evaluations:
        table.add_row(one.text, _fraction(one.accuracy), _fraction(one.defence_rate), _percent(one.drop))
    return table


def _detection(run: FinishedRun) -> list[str]:
    """Return which hospitals the defence flagged, rightly or falsely."""
    detection = run.summary.detection
    flagged, malicious = set(detection.flagged), set(run.malicious)
    falsely = _list(flagged - malicious)
    lines = []
    if not detection.weights:
        lines.append("The strategy gives no verdict on single hospitals.")
    elif malicious:
        lines.append(f"Malicious hospitals: {_list(malicious)}. Detected: {_list(malicious & flagged)}.")
        lines.append(f"Falsely flagged hospitals: {falsely}.")
        weight = sum(detection.weights.get(number) or 0.0 for number in malicious)
        uniform = len(malicious) / run.clients
        if run.is_partial:
            uniform = detection.malicious_share or 0.0
        lines.append(f"Final weight of the malicious: {weight:.3f} (uniform weights: {uniform:.3f}).")
    else:
        lines.append(f"No hospital was malicious. Falsely flagged hospitals: {falsely}.")
    if run.atypical:
        lines.append(
            f"Atypical (benign) hospitals: {_list(run.atypical)}. "
            f"Falsely flagged: {_list(run.atypical & flagged)}."
        )
    return lines


def _remarks(run: FinishedRun) -> list[str]:
    summary = run.summary
    lines = [_sentence(sign) for sign in (summary.robustness.masking if summary.robustness else ())]
    if summary.attack_success_rate is not None:
        lines.append(f"Attack success rate: {summary.attack_success_rate:.3f}.")
        backdoors = [threat for threat in summary.threats if threat.attack_success_rate is not None]
        if len(backdoors) > 1:
            each = "; ".join(f"{threat.attack}: {threat.attack_success_rate:.3f}" for threat in backdoors)
            lines.append(f"By threat: {each}.")
        lines += [
            f"After its last round, {threat.last_round}, it was {threat.success_at_its_end:.3f} "
            f"({threat.attack})."
            for threat in backdoors
            if threat.durability is not None
        ]
    if summary.site_tests is not None:
        found = summary.site_tests
        lines.append(
            f"On the hospitals' own test parts: global model {_fraction(found.mean)}, at the worst hospital "
            f"{_fraction(found.worst)}; the hospitals' models {_fraction(found.at_home)} at home and "
            f"{_fraction(found.elsewhere)} elsewhere."
        )
    if summary.server_images:
        part = {1.0: "all of", 0.5: "half of"}.get(
            summary.server_share, f"{100 * summary.server_share:g} % of"
        )
        lines.append(
            f"The defence used {summary.server_images} labelled server images ({part} the validation part)."
        )
    if run.is_partial:
        asked = sum(len(line.asked or ()) for line in run.rounds) / max(1, len(run.rounds))
        lines.append(f"Asked in a round: {asked:g} of {run.clients} hospitals, on average.")
    if summary.faults:
        lines.append(f"Discarded updates of failed hospitals: {summary.faults} (reasons in rounds.jsonl).")
    rounds, patience = run.manifest.setting("rounds"), run.manifest.setting("patience")
    if rounds is not None and summary.rounds < int(rounds):
        lines.append(f"Stopped after round {summary.rounds}: no lower validation loss in {patience} rounds.")
    return lines


def _places(run: FinishedRun) -> list[str]:
    lines = []
    if run.summary.baseline is not None:
        lines.append(f"Clean baseline: {_short(run.folder.with_name(run.summary.baseline.run))}")
    lines.append(f"Run folder: {_short(run.folder)}")
    if (run.folder / "report.html").is_file():
        lines.append(f"Report: {_short(run.folder / 'report.html')}")
    return lines


def _short(path: Path) -> Path:
    """Return a path relative to the working folder, if it is inside."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers)) or "none"


def _fraction(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f} %"

"""What a run shows in a terminal: progress while it goes on, tables at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from fedrobust.runtime.observers import Observer, RoundOutcome, RunStart
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

if TYPE_CHECKING:
    from fedrobust.runtime.profiling import Profile
    from fedrobust.runtime.result import Result

__all__ = ["Terminal", "print_profile"]

_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "macro_precision": "macro precision"}


class Terminal(Observer):
    """Shows a run on standard error (progress) and standard output (results).

    Parameters
    ----------
    settings : Settings
    quiet : bool
        Show no progress.
    """

    def __init__(self, settings: Settings, *, quiet: bool = False) -> None:
        """Prepare the progress bar; nothing is shown before `started`."""
        self._settings = settings
        self._errors = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("round {task.fields[round]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._errors,
            disable=quiet or not self._errors.is_terminal,
            transient=True,
        )
        self._quiet = quiet
        self._replies = 0
        self._round = 0
        self._task = self._progress.add_task(
            "training", total=settings.rounds * settings.clients, round="1", state=""
        )

    def __enter__(self) -> Self:
        """Return itself; progress begins with `started`, so that an early mistake leaves no trace of a bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the progress bar away."""
        self._progress.stop()

    def started(self, start: RunStart) -> None:
        """Say what is about to run."""
        if self._quiet:
            return
        self._errors.print(
            f"[bold]{start.scenario.hospitals} hospitals[/bold], {_threat(start.scenario)} · "
            f"{start.source} · {start.scenario.strategy.text}",
            highlight=False,
        )
        self._progress.start()

    def replied(self) -> None:
        """Move the bar by one hospital."""
        self._replies += 1
        self._progress.update(self._task, completed=self._replies)

    def round_done(self, outcome: RoundOutcome) -> None:
        """Show the round's figures; name hospitals that lost it."""
        line = outcome.line
        self._round = outcome.number
        self._replies = self._round * self._settings.clients
        flagged = ",".join(str(number) for number in line["flagged"]) or "none"
        accuracy, loss = line["clean"]["accuracy"], _fraction(line["val"]["loss"])
        state = f"acc {accuracy:.3f} loss {loss} flagged {flagged}"
        following = min(self._round + 1, self._settings.rounds)
        self._progress.update(self._task, completed=self._replies, round=str(following), state=state)
        if self._quiet:
            return
        if not self._errors.is_terminal:
            self._errors.print(
                f"round {self._round}/{self._settings.rounds}: {state}", highlight=False, soft_wrap=True
            )
        for fault in line["faults"]:
            self._errors.print(
                f"[yellow]round {self._round}: hospital {fault['hospital']} lost its round:[/yellow] "
                f"{fault['reason']}",
                highlight=False,
            )

    def finish(self, result: Result) -> None:
        """Print the tables of a finished run."""
        console = Console()
        summary = result.summary
        console.print(_performance(summary))
        for sentence in _sentences(summary, result):
            console.print(sentence, highlight=False, soft_wrap=True)


def print_profile(profile: Profile) -> None:
    """Print on stderr where the time went, and what each phase is."""
    table = Table(title="Where the time went, in seconds", title_justify="left")
    table.add_column("")
    for column in ("until round 1 is done", "a later round (median)"):
        table.add_column(column, justify="right")
    for name, first, later in profile.table():
        if name == "total":
            table.add_section()
        table.add_row(name, f"{first:.2f}", "" if later is None else f"{later:.3f}")
    Console(stderr=True).print(table)


def _threat(scenario: Scenario) -> str:
    """Return how many hospitals attack and how, and how many are atypical."""
    short = not scenario.run.settings.threat
    texts = {
        threat: threat.attacks.text + ("" if short else f":{len(threat.hospitals)}")
        for threat in scenario.threats
    }
    attacks = [text for threat, text in texts.items() if threat.malicious]
    oddities = [text for threat, text in texts.items() if not threat.malicious]
    malicious, odd = scenario.malicious, len(scenario.atypical)
    said = f"{len(malicious)} of them malicious ({'; '.join(attacks)})" if attacks else "none malicious"
    return said + (f", {odd} honest but odd ({'; '.join(oddities)})" if odd else "")


def _performance(summary: Any) -> Table:
    title = "Test set" + (" (synthetic images)" if summary["synthetic"] else "")
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("clean", "noisy", "drop"):
        table.add_column(column, justify="right")
    for key, name in _NAMES.items():
        table.add_row(
            name,
            _fraction(summary["clean"][key]),
            _fraction(summary["noisy"][key]),
            _percent(summary["drop"][key]),
        )
    table.add_section()
    table.add_row("combined drop", "", "", _percent(summary["drop"]["combined"]), style="bold")
    return table


def _sentences(summary: Any, result: Result) -> list[str]:
    """Return who was found and who was wronged, and where everything is."""
    detection = summary["detection"]
    malicious = set(result.malicious)
    found = sorted(malicious & set(detection["flagged"]))
    wronged = sorted(set(detection["flagged"]) - malicious)
    lines = []
    if not detection["weights"]:
        lines.append("The strategy gives no verdict on single hospitals.")
    elif malicious:
        lines.append(f"Malicious hospitals: {_list(sorted(malicious))}. Found: {_list(found)}.")
        lines.append(f"Honest hospitals flagged: {_list(wronged)}.")
        share = sum(detection["weights"].get(str(number), 0.0) for number in malicious)
        fair = len(malicious) / max(1, len(detection["weights"]))
        lines.append(f"Weight of the malicious at the end: {share:.3f} (a fair share is {fair:.3f}).")
    else:
        lines.append(f"Nobody was malicious. Honest hospitals flagged: {_list(wronged)}.")
    if odd := summary.get("atypical"):
        accused = sorted(set(odd) & set(detection["flagged"]))
        lines.append(f"Honest but odd hospitals: {_list(odd)}. Flagged of them: {_list(accused)}.")
    if summary["attack_success_rate"] is not None:
        lines.append(f"Attack success rate: {summary['attack_success_rate']:.3f}.")
    if images := summary.get("server_images"):
        part = _part(summary["server_share"])
        lines.append(
            f"The defence looked at {images} labelled images of the server ({part} the validation part)."
        )
    if summary["faults"]:
        lines.append(f"Rounds lost by hospitals through faults: {summary['faults']} (see rounds.jsonl).")
    if summary["rounds"] < result.settings.rounds:
        lines.append(
            f"Stopped after round {summary['rounds']}: no better validation loss in {result.settings.patience} rounds."
        )
    folder = _short(Path(summary["run"]))
    lines.append(f"Run folder: {folder}")
    if (folder / "report.html").is_file():
        lines.append(f"Report: {folder / 'report.html'}")
    return lines


def _short(folder: Path) -> Path:
    """Return a path as seen from the working folder, where it lies below it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers) or "none"


def _part(share: float) -> str:
    return {1.0: "all of", 0.5: "half of"}.get(share, f"{100 * share:g} % of")


def _fraction(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f} %"

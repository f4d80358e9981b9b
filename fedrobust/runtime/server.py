"""The server of a federation: rounds until their number or the patience runs out, and the run folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from fedrobust.data.sources import FederationData
from fedrobust.errors import UserError
from fedrobust.flower.codec import pack, unpack
from fedrobust.results.checkpoint import load_checkpoint
from fedrobust.results.files import read_record
from fedrobust.results.folder import RunFolder
from fedrobust.results.manifest import manifest
from fedrobust.results.memory_folder import MemoryFolder
from fedrobust.results.records import ClientMetricsLine, Manifest, RoundLine, VerdictLine, check_format
from fedrobust.runtime.lr_schedule import Plateau
from fedrobust.runtime.observers import Observer, Observers, RoundOutcome, RunStart
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.recording import recorders
from fedrobust.runtime.result import Result
from fedrobust.runtime.rounds import Rounds
from fedrobust.runtime.setup import MakeTask, Setup
from fedrobust.runtime.summary import summarise
from fedrobust.scenario import Scenario

__all__ = ["Server"]


class _History:
    """The rounds so far: the last global model and the lines of each round."""

    def __init__(
        self,
        arrays: ArrayRecord,
        lines: Sequence[RoundLine] = (),
        verdicts: Sequence[VerdictLine] = (),
        client_metrics: Sequence[ClientMetricsLine] = (),
    ) -> None:
        self.arrays = arrays
        self.lines = list(lines)
        self.verdicts = list(verdicts)
        #: The hospitals that sent a usable update in some round.
        self.replied = {number for line in client_metrics for number in line.hospitals}

    def add(self, outcome: RoundOutcome) -> None:
        """Append a round."""
        if outcome.arrays is not None:
            self.arrays = outcome.arrays
        self.lines.append(outcome.line)
        self.verdicts.append(outcome.verdict)
        self.replied.update(outcome.client_metrics.hospitals)


class Server:
    """Runs one federation over a grid and writes its run folder.

    Parameters
    ----------
    scenario : Scenario
    observers : iterable of Observer
        Notified of the run, in this order, after its files are written.
    resume : bool
        Resume an unfinished run of these settings after its last completed round.
    profile : Profile, optional
        Counts where the time goes.
    make_task : callable, optional
        Classification unless given.

    Raises
    ------
    UserError
        If the strategy, the attack or the data of the settings do not work; nothing has been run then.
    """

    def __init__(
        self,
        scenario: Scenario,
        observers: Iterable[Observer] = (),
        *,
        resume: bool = False,
        profile: Profile | None = None,
        make_task: MakeTask | None = None,
    ) -> None:
        """Make everything that does not need the hospitals."""
        self.scenario = scenario
        self._observers = tuple(observers)
        self._resume = resume
        self._profile = profile or Profile()
        self._setup = Setup(scenario, self._profile, make_task)

    @property
    def data(self) -> FederationData:
        """Return the federation's data."""
        return self._setup.data

    def warm_up(self) -> None:
        """Import what the end of round 1 needs, while the hospitals train it elsewhere."""
        # Whatever fails here fails again, and is reported, where it is needed.
        with contextlib.suppress(Exception):
            import sklearn.metrics  # noqa: F401

        self._setup.preload()

    def run(self, grid: Grid) -> Result:
        """Run all rounds."""
        folder = RunFolder(self.scenario.run, resume=self._resume)
        try:
            return self._run(grid, folder)
        finally:
            folder.release()

    def _run(self, grid: Grid, folder: RunFolder) -> Result:
        began = time.monotonic()
        setup, scenario = self._setup, self.scenario
        history = self._history(folder)
        with self._profile.phase("set-up"):
            about = manifest(scenario, setup.data, setup.defence, setup.task.name, setup.server_data)
            folder.write_json("manifest.json", about)
            rounds = Rounds(setup, grid, self._profile)
        observers = Observers(
            [*recorders(folder, setup.strategy, setup.task, self._profile), *self._observers]
        )
        source, completed = setup.data.records.source, len(history.lines)
        observers.started(RunStart(scenario, setup.malicious, source, folder.partial, completed))
        self._train(rounds, history, observers)
        self._write_final(folder, history, observers)
        seconds = time.monotonic() - began
        summary = summarise(
            setup, history.lines, history.verdicts, history.replied, seconds, str(folder.final)
        )
        folder.write_json("summary.json", summary)
        lines = [line.as_json() for line in history.lines]
        result = Result(scenario.run.settings, summary.as_json(), lines, folder.finish(), setup.malicious)
        observers.finished(result)
        return result

    def _history(self, folder: RunFolder) -> _History:
        """Return the rounds of the run to resume, if its data are unchanged; none of a new run."""
        initial = pack(self._setup.task.learner.initial())
        if self._resume:
            self._check_resumable(folder.partial)
            kept = load_checkpoint(folder, self._setup.strategy)
            if kept is not None:
                if _shapes(kept.arrays) != _shapes(initial):
                    raise UserError(
                        f"{folder.partial}: its model is not that of these settings; run without --resume"
                    )
                MemoryFolder(folder.partial).check(kept.rounds)
                if self._setup.monitor and kept.rounds:
                    self._setup.monitor.resume(kept.rounds[-1].no_effect_steps)
                return _History(kept.arrays, kept.rounds, kept.verdicts, kept.client_metrics)
        return _History(initial)

    def _check_resumable(self, folder: Path) -> None:
        """Refuse to resume a run of another format or of other data."""
        file = folder / "manifest.json"
        if not file.is_file():
            return
        before = read_record(file, Manifest)
        check_format(before, folder)
        if before.data.sha256 != self.data.digest:
            raise UserError(f"{folder}: the data have changed since this run began; run without --resume")

    def _train(self, rounds: Rounds, history: _History, observers: Observer) -> None:
        """Train until the rounds or the patience run out."""
        plateau = Plateau(self.scenario.lr, self.scenario.patience)
        loss = self._setup.task.validation_loss
        # The schedule is a function of the validation losses: replaying them restores it.
        ended = False
        for line in history.lines:
            ended = plateau.exhausted(loss(line))
        while not ended and len(history.lines) < self.scenario.rounds:
            outcome = rounds.run(len(history.lines) + 1, history.arrays, plateau.lr)
            history.add(outcome)
            observers.round_done(outcome)
            ended = plateau.exhausted(loss(outcome.line))

    def _write_final(self, folder: RunFolder, history: _History, observers: Observer) -> None:
        """Write what the task keeps of the last model."""
        failed = ({fault.hospital for fault in line.faults} for line in history.lines)
        silent = set.intersection(*failed)
        self._setup.task.write_final(folder, unpack(history.arrays), silent, observers.evaluating)


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[int, ...]]:
    """Return each array's shape."""
    return {name: tuple(array.shape) for name, array in arrays.items()}

"""One run from settings to result: the function behind the command line and the Python interface."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flwr.serverapp import Grid

from fedrobust.engines.collusion import with_collusion
from fedrobust.engines.hospital_pool import pool_of_hospitals
from fedrobust.engines.launch import warm_up, worker_count
from fedrobust.engines.local import LocalGrid
from fedrobust.engines.signals import noted_interrupts
from fedrobust.errors import RunInterrupted, UserError
from fedrobust.flower.client_app import make_client_app
from fedrobust.plugins import PluginSpec, spec_of
from fedrobust.results.folder import partial_of, recover
from fedrobust.results.memory_folder import MemoryFolder
from fedrobust.runtime.observers import Observer, Observers, RoundOutcome, RunStart
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.progress import Progress, interactive
from fedrobust.runtime.result import Result
from fedrobust.runtime.server import Server
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings

__all__ = ["Result", "existing", "keep_report", "run", "serve"]

#: A plug-in as an object or by its name, or several in order; None for that of the settings.
Given = object | str | Sequence[object | str] | None


def run(
    settings: Settings,
    observers: Sequence[Observer] | None = None,
    *,
    strategy: Given = None,
    attack: Given = None,
    resume: bool = False,
    profile: Profile | None = None,
    report: bool = True,
    isolate: bool = False,
) -> Result:
    """Simulate one federation on the engine that the settings name.

    Parameters
    ----------
    settings : Settings
    observers : sequence of Observer, optional
        Notified of the start, of each round and of the end. Not given: `Progress` in a notebook or at a
        prompt, none in a script.
    strategy : object, str or sequence of them, optional
        Instead of `settings.strategy`: a defence or a plain Flower strategy, or steps and a defence, each
        as an object or by its name. An object stands for its class and the options that it was built with.
    attack : object, str or sequence of them, optional
        Likewise instead of `settings.attack`; several are carried out in order.
    resume : bool
        Resume an unfinished run of these settings after its last completed round, with bit-identical results.
    profile : Profile, optional
        Counts where the time goes.
    report : bool
        Write ``report.html`` into the run folder.
    isolate : bool
        Let hospitals train in a process of their own also where one trains at a time, on the processor: then
        whatever a plug-in does, its hospital's round is all that it costs.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If the settings do not fit together, the data or a plug-in.
    RunInterrupted
        If the user interrupts the run after its start.
    """
    settings = _with_objects(settings, strategy, attack)
    folder = RunIdentity.of(settings).folder
    if recover(folder) and resume:
        # A kill came when the run was complete: what is left to do is its page.
        if report:
            keep_report(folder)
        return Result.of(settings, folder)
    if observers is None:
        observers = [Progress()] if interactive() else []
    with _flower_quiet(), noted_interrupts() as interrupted:
        kept = _Completed(interrupted)
        try:
            scenario, profile = Scenario.of(settings), profile or Profile()
            result = _run(scenario, [kept, *observers], resume, profile, isolate=isolate)
        except KeyboardInterrupt as error:
            if kept.folder is None:
                raise
            raise RunInterrupted(kept.folder, kept.rounds) from error
    if report:
        keep_report(result.folder)
    return result


def _with_objects(settings: Settings, strategy: Given, attack: Given) -> Settings:
    """Return the settings with these plug-ins written down in them."""
    changes: dict[str, object] = {}
    if strategy is not None:
        changes["strategy"] = " | ".join(one.text for one in _specs(strategy))
    if attack is not None:
        if settings.threat:
            raise UserError("attack stands in place of threat; give one or the other")
        if not settings.malicious:
            raise UserError(
                "an attack is given, but nobody is malicious; give malicious=NUMBER in the settings"
            )
        attacks = _specs(attack)
        changes["attack"] = " + ".join(one.text for one in attacks)
        script = [one.name.partition(":")[2] for one in attacks if one.name.startswith("__main__:")]
        if script and settings.workers == "auto":
            changes["workers"] = 1
        elif script and (settings.workers != 1 or settings.engine != "local"):
            raise UserError(
                f"worker processes cannot import {script[0]} from the script that runs; define it in a "
                "module of its own, or give workers=1"
            )
    return Settings(**{**settings.model_dump(), **changes}) if changes else settings


def _specs(given: object) -> list[PluginSpec]:
    parts = given if isinstance(given, list | tuple) else [given]
    return [PluginSpec.parse(one) if isinstance(one, str) else spec_of(one) for one in parts]


class _Completed(Observer):
    """Knows where an interrupted run can be resumed, and ends it where its interrupt was lost."""

    def __init__(self, interrupted: threading.Event) -> None:
        self.folder: Path | None = None
        self.rounds = 0
        self._interrupted = interrupted

    def started(self, start: RunStart) -> None:
        """Keep the folder."""
        self.folder, self.rounds = start.folder, start.completed

    def round_done(self, outcome: RoundOutcome) -> None:
        """Count the round."""
        self.rounds = outcome.number
        if self._interrupted.is_set():
            raise KeyboardInterrupt


def _run(
    scenario: Scenario, observers: Sequence[Observer], resume: bool, profile: Profile, *, isolate: bool
) -> Result:
    execution = scenario.execution
    workers = worker_count(execution)
    # A second process would need a GPU's memory twice.
    here = workers == 1 and not (isolate and execution.device == "cpu")
    with profile.phase("set-up"):
        if not here:
            warm_up(execution)
        # Before any engine starts: mistakes in the settings shall not wait for Ray.
        server = Server(scenario, observers, resume=resume, profile=profile)
        memories = MemoryFolder(partial_of(scenario.run.folder))
        client_app = make_client_app(scenario, memories)
    results: list[Result] = []
    ready = time.perf_counter()
    replied = Observers(observers).replied

    def main(grid: Grid) -> None:
        profile.add("set-up", time.perf_counter() - ready)
        results.append(server.run(with_collusion(grid, scenario, memories)))

    if execution.engine == "flower":
        from fedrobust.engines.flower import run_on_flower

        run_on_flower(client_app, execution, main)
    elif here:
        main(LocalGrid(client_app, scenario.hospitals, replied, execution.client_timeout))
    else:
        grid = pool_of_hospitals(client_app, scenario, server.data, workers, replied, memories)
        try:
            threading.Thread(target=server.warm_up, daemon=True).start()
            main(grid)
        finally:
            grid.close()
    return results[0]


def existing(settings: Settings) -> Path | None:
    """Return the folder of a finished run of these very settings, or None."""
    folder = RunIdentity.of(settings).folder
    recover(folder)
    return folder if (folder / "summary.json").is_file() else None


def serve(grid: Grid, settings: Settings, observers: Sequence[Observer] = ()) -> Result:
    """Run a federation over a grid that exists, as a ServerApp does."""
    with _flower_quiet():
        scenario = Scenario.of(settings)
        memories = MemoryFolder(partial_of(scenario.run.folder))
        result = Server(scenario, observers).run(with_collusion(grid, scenario, memories))
    keep_report(result.folder)
    return result


def keep_report(folder: Path) -> None:
    """Write the page of a finished run; a failure becomes a warning and costs the run nothing."""
    try:
        from fedrobust.reports.writing import write_report

        write_report(folder)
    except Exception as error:  # noqa: BLE001 - a page is never worth a run
        warnings.warn(
            f"the run is complete, but its report could not be written: {type(error).__name__}: {error}",
            UserWarning,
            stacklevel=2,
        )


@contextmanager
def _flower_quiet() -> Iterator[None]:
    """Keep Flower's strategies from logging at length; what matters stands in the run folder."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)

"""One run from settings to result: the function behind the command line and the Python interface."""

from __future__ import annotations

import json
import logging
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.serverapp import Grid

from fedrobust.engines.collusion import with_collusion
from fedrobust.engines.hospital_pool import pool_of_hospitals
from fedrobust.engines.launch import warm_up, worker_count
from fedrobust.engines.local import LocalGrid
from fedrobust.flower.client_app import make_client_app
from fedrobust.results.folder import final_folder
from fedrobust.runtime.profiling import Profile
from fedrobust.runtime.server import Observer, Server
from fedrobust.scenario import attackers
from fedrobust.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "existing", "keep_report", "run", "serve"]


@dataclass(frozen=True)
class Result:
    """The outcome of a run.

    Attributes
    ----------
    settings : Settings
    summary : mapping
        What ``summary.json`` holds and ``--json`` prints.
    rounds : sequence of mapping
        The lines of ``rounds.jsonl``.
    folder : Path
        The run folder.
    malicious : tuple of int
        The numbers of the poisoned hospitals.
    """

    settings: Settings
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    folder: Path
    malicious: tuple[int, ...]

    @property
    def history(self) -> pd.DataFrame:
        """Return one row a round, with columns such as ``clean.accuracy``."""
        import pandas as pd

        return pd.json_normalize([dict(line) for line in self.rounds]).set_index("round")

    def to_json(self) -> str:
        """Return the summary as one line of JSON."""
        return json.dumps(self.summary)


class _Silent:
    def started(self, settings: Settings, malicious: Sequence[int], source: str) -> None:
        pass

    def replied(self) -> None:
        pass

    def round_done(self, line: dict[str, Any]) -> None:
        pass


def run(
    settings: Settings,
    observer: Observer | None = None,
    *,
    resume: bool = False,
    profile: Profile | None = None,
    report: bool = True,
) -> Result:
    """Simulate one federation on the engine that the settings name.

    Parameters
    ----------
    settings : Settings
    observer : Observer, optional
        Told of progress.
    resume : bool
        Go on from the last whole round of an unfinished run of these settings, to the same bits as an unbroken one.
    profile : Profile, optional
        Told where the time goes.
    report : bool
        Write ``report.html`` into the run folder.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If the settings do not fit together, the data or a plug-in.
    """
    with _flower_quiet():
        result = _run(settings, observer or _Silent(), resume, profile or Profile())
    if report:
        keep_report(result.folder)
    return result


def _run(settings: Settings, watcher: Observer, resume: bool, profile: Profile) -> Result:
    workers = worker_count(settings)
    with profile.phase("set-up"):
        warm_up(settings)
        # Before any engine starts: mistakes in the settings shall not wait for Ray.
        server = Server(settings, watcher, resume=resume, profile=profile)
        client_app = make_client_app(settings)
    results: list[Result] = []
    ready = time.perf_counter()

    def main(grid: Grid) -> None:
        profile.add("set-up", time.perf_counter() - ready)
        results.append(_finished(server, grid))

    if settings.engine == "flower":
        from fedrobust.engines.flower import run_on_flower

        run_on_flower(client_app, settings, main)
    elif workers == 1:
        main(LocalGrid(client_app, settings.clients, watcher.replied, settings.client_timeout))
    else:
        grid = pool_of_hospitals(client_app, settings, server.data, workers, watcher.replied)
        try:
            threading.Thread(target=server.warm_up, daemon=True).start()
            main(grid)
        finally:
            grid.close()
    return results[0]


def existing(settings: Settings) -> Path | None:
    """Return the folder of a finished run of these very settings, or None."""
    folder = final_folder(settings)
    return folder if (folder / "summary.json").is_file() else None


def serve(grid: Grid, settings: Settings, observer: Observer | None = None) -> Result:
    """Run a federation over a grid that exists, as a ServerApp does."""
    with _flower_quiet():
        result = _finished(Server(settings, observer or _Silent()), grid)
    keep_report(result.folder)
    return result


def keep_report(folder: Path) -> None:
    """Write the page of a finished run; whatever goes wrong there is said in a warning and costs the run nothing."""
    try:
        from fedrobust.reports.writing import write_report

        write_report(folder)
    except Exception as error:  # noqa: BLE001 - a page is never worth a run
        warnings.warn(
            f"the run is whole, but its report could not be written: {type(error).__name__}: {error}",
            UserWarning,
            stacklevel=2,
        )


def _finished(server: Server, grid: Grid) -> Result:
    summary, rounds = server.run(with_collusion(grid, server.settings))
    return Result(server.settings, summary, rounds, Path(summary["run"]), attackers(server.settings))


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

"""`fedrobust deploy-local`: one run on a deployment made for it, shown and kept as `simulate` does."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrobust.deploy.guard import peers_are_known
from fedrobust.deploy.local import LocalDeployment, node_config
from fedrobust.deploy.processes import Running
from fedrobust.engines.collusion import with_collusion
from fedrobust.engines.local import LocalGrid
from fedrobust.errors import UserError
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.data_spec import DataSpecGrid
from fedrobust.plugins import PluginSpec
from fedrobust.printing import lines
from fedrobust.results.checksums import replace_checked
from fedrobust.results.files import json_text, read_record
from fedrobust.results.finished_run import read_run
from fedrobust.results.folder import CHECKPOINT, partial_of
from fedrobust.results.records import ClientMetricsLine, Deployment, Manifest, RoundLine, VerdictLine
from fedrobust.runtime.observers import Observer, RoundOutcome, RunStart
from fedrobust.runtime.runner import Result, keep_report
from fedrobust.runtime.server import Server
from fedrobust.scenario import Scenario
from fedrobust.settings import Settings

__all__ = ["deploy", "own_data"]

_LOG_LINES = 30


def own_data(given: Sequence[str], hospitals: int) -> dict[int, str]:
    """Return the data source of each hospital that has its own, from ``NUMBER=SOURCE``.

    Raises
    ------
    UserError
        If one is of another form, names a hospital that there is not, or names one twice.
    """
    sources: dict[int, str] = {}
    for text in given:
        number, equals, source = text.partition("=")
        if not number.strip().isdecimal() or not equals or not source.strip():
            raise UserError(f"--node-data '{text}': write NUMBER=SOURCE, such as 0=medmnist:hospital_a")
        hospital = int(number)
        if hospital >= hospitals:
            raise UserError(
                f"--node-data '{text}': the hospitals are numbered 0 to {hospitals - 1}; name one of them"
            )
        if hospital in sources:
            raise UserError(f"--node-data '{text}': hospital {hospital} is named twice; give it one source")
        PluginSpec.parse(source)
        node_config(hospital, hospitals, source.strip())
        sources[hospital] = source.strip()
    return dict(sorted(sources.items()))


def deploy(
    settings: Settings,
    observer: Observer,
    own: dict[int, str] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Result:
    """Run a federation on a SuperLink and SuperNodes started for it on this machine.

    Parameters
    ----------
    settings : Settings
        `workers` has no meaning here: every hospital trains in processes of its SuperNode's.
    observer : Observer
        Notified of the start and of each round.
    own : dict of int to str, optional
        Data sources of hospitals that bring their own. Such a run is kept apart, in a folder
        ``own-data-<hash>`` under `settings.out`, as other settings would be needed to make it again.
    say : callable, optional
        Called with a sentence when the deployment starts and when a SuperNode ends early.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If the settings do not fit together, a process does not start, or the run fails.
    """
    own = own or {}
    if settings.engine != "local":
        raise UserError(
            f"--engine {settings.engine}: deploy-local carries the messages itself; leave --engine out"
        )
    settings = settings.model_copy(update=_absolute(settings, own))
    # Mistakes in the settings, and attacks that no real hospital can carry out, are found before any process
    # starts.
    scenario = Scenario.of(settings)
    Server(scenario)
    with_collusion(DataSpecGrid(LocalGrid(make_client_app(scenario), 0), scenario.data), scenario)
    follower = _Follower(scenario, observer)
    try:
        with LocalDeployment(settings.clients) as deployment:
            for folder in deployment.abandoned:
                say(f"removed {folder}, which a killed deployment had left")
            if not peers_are_known():
                say("other users of this machine can reach its ports; let nobody else use it meanwhile")
            say(f"a SuperLink with TLS listens on {deployment.address}")
            say(f"starting {settings.clients} SuperNodes")
            for number in range(settings.clients):
                deployment.add_hospital(number, own.get(number))
            deployment.wait_for_hospitals()
            streaming = deployment.start_run(settings)
            while not streaming.ended():
                for sentence in deployment.ended_nodes():
                    say(sentence)
                follower.poll()
                time.sleep(0.2)
            _expect_success(deployment, streaming)
    except BaseException:
        if own:
            # `simulate --resume` would continue without the hospitals' own data.
            (follower.partial / CHECKPOINT).unlink(missing_ok=True)
        raise
    follower.poll()
    _note_deployment(follower.final, own)
    # The app wrote it before the manifest knew of the deployment.
    keep_report(follower.final)
    return Result.of(scenario.run.settings, follower.final)


def _absolute(settings: Settings, own: dict[int, str]) -> dict[str, str]:
    """Return the folders of the settings as every process finds them."""
    out = Path(settings.out).absolute()
    if own:
        out /= f"own-data-{hashlib.sha256(json.dumps(own).encode()).hexdigest()[:10]}"
    folders = {"out": str(out)}
    if settings.data_root is not None:
        folders["data_root"] = str(Path(settings.data_root).absolute())
    return folders


def _expect_success(deployment: LocalDeployment, streaming: Running) -> None:
    """Raise `UserError` with the ServerApp's last error, unless it has completed its run."""
    status, details = deployment.outcome()
    if status == "finished:completed":
        return
    reason = details.partition("failed with exception: ")[2] or details or status
    log = streaming.output()
    # The app writes a user's mistake as one sentence.
    if f"fedrobust: {reason}" in log:
        raise UserError(reason)
    print(lines("\n".join(log.splitlines()[-_LOG_LINES:])), file=sys.stderr)
    raise UserError(f"the deployment's run has not completed ({status}): {reason}")


class _Follower:
    """Reads the run folder while the ServerApp writes it, and notifies the observer."""

    def __init__(self, scenario: Scenario, observer: Observer) -> None:
        self._scenario = scenario
        self._observer = observer
        self._began = time.time()
        self._started = False
        self._shown = 0
        self.final = scenario.run.folder
        self.partial = partial_of(self.final)

    def poll(self) -> None:
        """Notify the observer of what is new; files of an earlier run of these settings are not."""
        for folder in (self.partial, self.final):
            manifest = folder / "manifest.json"
            try:
                if manifest.stat().st_mtime < self._began:
                    continue
                about = read_record(manifest, Manifest)
                rounds = folder / "rounds.jsonl"
                lines = (
                    rounds.read_text(encoding="utf-8").splitlines(keepends=True) if rounds.exists() else []
                )
            except (OSError, UserError):
                continue  # Just being written, or moved to its final place.
            if not self._started:
                start = RunStart(self._scenario, about.malicious, about.data.source, self.partial)
                self._observer.started(start)
                self._started = True
            for line in lines[self._shown :]:
                if line.endswith("\n"):
                    self._observer.round_done(_outcome(line))
                    self._shown += 1
            return


def _outcome(text: str) -> RoundOutcome:
    """Return a round by its line of ``rounds.jsonl``."""
    line = RoundLine.model_validate_json(text)
    return RoundOutcome(line, VerdictLine(round=line.round), ClientMetricsLine(round=line.round))


def _note_deployment(folder: Path, own: dict[int, str]) -> None:
    """Say in the manifest that this run was a deployment, and which hospitals brought data of their own."""
    before = read_run(folder).manifest
    # The server does not see what these hospitals hold.
    held = {**before.data.hospitals, **dict.fromkeys(own)}
    deployment = Deployment(tls=True, supernode_keys=True, own_data=own)
    data = before.data.model_copy(update={"hospitals": held})
    after = before.model_copy(update={"data": data, "deployment": deployment})
    replace_checked(folder, {"manifest.json": json_text(after).encode()})

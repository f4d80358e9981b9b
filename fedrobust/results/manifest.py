"""The manifest: what a run was made with, so that its numbers can be traced and reproduced."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Hashable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np

from fedrobust.audit.examination import auditors_of
from fedrobust.data.sources import FederationData
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.federation import Behaviour, Defence
from fedrobust.pipeline.specs import find_part
from fedrobust.plugins import find, origin_of
from fedrobust.results.records import FORMAT, Manifest, PluginRecord, ServerDataUse
from fedrobust.robustness.plan import evaluation_class
from fedrobust.scenario import Scenario

__all__ = ["manifest", "plugin_classes", "plugin_texts", "plugins_of"]

_PACKAGES = ("fedrobust", "flwr", "flwr-datasets", "ray", "torch", "torchvision", "scikit-learn", "numpy")


def manifest(
    scenario: Scenario,
    data: FederationData,
    defence: Defence | None,
    task: str,
    server: ServerShare | None = None,
) -> Manifest:
    """Return the manifest of a run.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    defence : Defence or None
        The rule in use; None for a plain Flower strategy, which says nothing on single hospitals.
    task : str
        Its name.
    """
    return Manifest.of(
        format=FORMAT,
        task=task,
        settings=dict(scenario.run.written),
        settings_hash=scenario.run.digest,
        seeds={"run": scenario.seed},
        versions={"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        git_commit=_git_commit(),
        machine={"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        data={
            "source": data.records.source,
            "synthetic": data.records.synthetic,
            "sha256": data.digest,
            "images": len(data.records),
            "shape": data.records.images.shape[1:],
            "classes": data.records.classes,
            "split": {part: len(getattr(data.split, part)) for part in ("train", "val", "test")},
            "hospitals": {
                number: np.bincount(data.records.labels[part], minlength=len(data.records.classes))
                for number, part in enumerate(data.hospitals)
            },
            "sites": _sites(data),
            "duplicates": asdict(data.duplicates),
        },
        malicious=scenario.malicious,
        atypical=scenario.atypical,
        threats=[{"attack": one.attacks.text, "hospitals": one.hospitals} for one in scenario.threats],
        plugins=[one.as_json() for one in plugins_of(scenario)],
        defence_trusts=None if defence is None else sorted(defence.trusts),
        oracle=defence is not None and defence.oracle,
        defence_server_data=_server_data(server),
    )


def _sites(data: FederationData) -> dict[int, list[str]]:
    """Return the names of the sites that each hospital's images come from."""
    sites = data.records.facts.get("site")
    if sites is None:
        return {}
    return {number: np.unique(sites[part]).tolist() for number, part in enumerate(data.hospitals)}


def plugins_of(scenario: Scenario) -> tuple[PluginRecord, ...]:
    """Return where a scenario's plug-ins come from, with the hashes of their sources.

    Raises
    ------
    UserError
        If there is no plug-in of a name.
    """
    origins = (origin_of(thing) for thing in dict.fromkeys(plugin_classes(scenario)))
    return tuple(
        PluginRecord(
            plugin=one.plugin,
            kind=one.kind,
            # The name alone: the folders above it are private, and a run folder is passed on.
            file=Path(one.file).name,
            replaces_built_in=one.replaces_built_in,
            source_hash=one.source_hash,
        )
        for one in origins
    )


def plugin_texts(scenario: Scenario) -> tuple[Hashable, ...]:
    """Return all that `plugin_classes` reads: scenarios with the same have the same plug-ins."""
    threats = tuple(threat.attacks for threat in scenario.threats)
    return scenario.strategy, threats, scenario.evaluations, scenario.sanitize


def plugin_classes(scenario: Scenario) -> Iterator[type]:
    """Yield the classes of a scenario's plug-ins: strategy, attacks, evaluations and auditors."""
    for part in scenario.strategy.parts:
        # A class by its path may be a plain Flower strategy.
        yield find_part(part, *((object,) if ":" in part.name else ()))
    for threat in scenario.threats:
        for part in threat.attacks.parts:
            yield find(part.name, "clients", (Behaviour,), "attack")
    for part in scenario.evaluations.parts:
        yield evaluation_class(part.name)
    if scenario.sanitize:
        yield from map(type, auditors_of(scenario.sanitize).values())


def _server_data(server: ServerShare | None) -> ServerDataUse | None:
    """Return what the strategy sees of the server's validation part; None where it sees nothing."""
    if server is None:
        return None
    return ServerDataUse(share_of_validation=server.share, images=len(server.labels))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit, with '+changes' where files differ from it; None outside a checkout."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists():
        return None
    try:
        commit, changed = (_git(top, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else str(commit)


def _git(top: Path, *words: str) -> str:
    # Without optional locks: a run that is killed here would leave the checkout locked.
    command = ["git", "--no-optional-locks", *words]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()

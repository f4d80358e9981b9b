"""A finished run of the same settings: whether it is still valid for them."""

from __future__ import annotations

import importlib

from fedrobust.commands.messages import note
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.plugins import source_hash
from fedrobust.results.finished_run import FinishedRun, read_run
from fedrobust.results.folder import CHECKPOINT, partial_of, recover
from fedrobust.results.records import PluginRecord
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings

__all__ = ["note_unfinished_run", "valid_run"]


def valid_run(settings: Settings) -> FinishedRun | None:
    """Return the finished run of these settings; None, with a note, if it is out of date.

    Raises
    ------
    UserError
        If the data of the settings cannot be read.
    """
    # A file of images that is missing comes first, whatever was run before.
    scenario = Scenario.of(settings)
    digest = prepare(scenario.data).digest
    folder = scenario.run.folder
    recover(folder)
    if not (folder / "summary.json").is_file():
        return None
    try:
        run = read_run(folder)
        reason = _change(run, digest)
    except UserError as error:
        note(f"{error}; running again")
        return None
    if reason:
        note(f"{folder}: {reason} since this run; running again")
        return None
    return run


def note_unfinished_run(settings: Settings) -> None:
    """Print a note if an unfinished run of these settings is about to be replaced."""
    folder = RunIdentity.of(settings).folder
    partial = partial_of(folder)
    if (partial / CHECKPOINT).is_file():
        note(
            f"{partial} held an unfinished run of these settings, which starts again; "
            "--resume would continue it"
        )


def _change(run: FinishedRun, digest: str) -> str:
    """Return what has changed since a run; empty if nothing has."""
    if run.manifest.data.sha256 != digest:
        return "the data have changed"
    for plugin in run.manifest.plugins:
        if _source_hash(plugin) != plugin.source_hash:
            return f"the source of {plugin.plugin} has changed"
    return ""


def _source_hash(plugin: PluginRecord) -> str | None:
    """Return the hash of a plug-in's source today; None if it can no longer be loaded."""
    module, _, name = plugin.plugin.partition(":")
    try:
        return source_hash(getattr(importlib.import_module(module), name))
    except Exception:  # noqa: BLE001 - a plug-in may fail in any way
        return None

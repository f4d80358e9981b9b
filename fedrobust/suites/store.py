"""The cells on disk: finished runs, those that no longer fit their settings, and notes of failures.

A finished run fits as long as the plug-ins' sources and the data are those that its manifest names. One
that does not is run again, as its numbers are those of another rule or of other images.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.disk.files import discard_aside
from fedrobust.disk.lock import Held, Lock
from fedrobust.errors import UserError
from fedrobust.results.files import read_record, read_text, write_text
from fedrobust.results.folder import discard, partial_of, recover
from fedrobust.results.manifest import plugin_texts, plugins_of
from fedrobust.results.records import Manifest, check_format
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings

__all__ = ["CellStore", "failure", "failure_file", "forget", "holder", "note_failure", "shortened"]

#: A failed cell's error has at most so many characters in the suite's files: it may hold an array.
LONGEST_ERROR = 20_000

#: What decides the records: source, folder, download, size, and whether faulty ones are left out.
_Source = tuple[object, ...]


class CellStore:
    """Tells which cells have a finished run that still fits; reads each data source and plug-in once."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._digests: dict[_Source, str] = {}
        self._sources: dict[tuple[Hashable, ...], dict[str, str]] = {}

    def finished(self, settings: Settings) -> bool:
        """Tell whether a complete run of these settings stands in its folder and still fits.

        Raises
        ------
        UserError
            If the data cannot be read.
        """
        folder = _folder(settings)
        recover(folder)
        return (folder / "summary.json").is_file() and not self.change(settings)

    def change(self, settings: Settings) -> str:
        """Return what has changed since the finished run; empty if nothing has, or there is none."""
        return self._change(settings, _folder(settings))

    def check_data(self, settings: Settings) -> None:
        """Read a cell's data, so that a missing file is one sentence before anything runs.

        Raises
        ------
        UserError
            If the data cannot be read.
        """
        self._digest(Scenario.of(settings).data)

    def drop_unfit(self, settings: Settings) -> None:
        """Delete what an unfinished run has left that no longer fits, so that it is not resumed."""
        folder = _folder(settings)
        if self._change(settings, partial_of(folder)):
            # Another process that runs it has its own reasons; then it is waited for.
            with suppress(Held), Lock(folder):
                discard(partial_of(folder))

    def _change(self, settings: Settings, folder: Path) -> str:
        path = folder / "manifest.json"
        if not path.is_file():
            return ""
        try:
            found = read_record(path, Manifest)
            check_format(found, folder)
        except UserError as error:
            return str(error)
        scenario = Scenario.of(settings)
        if found.data.sha256 != self._digest(scenario.data):
            return f"the data of {scenario.data.source.text} have changed"
        before = {one.plugin: one.source_hash for one in found.plugins}
        now = self._plugins(scenario)
        changed = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
        return f"the source of {', '.join(changed)} has changed" if changed else ""

    def _digest(self, data: DataSpec) -> str:
        key: _Source = (data.source, data.root, data.download, data.image_size, data.skip_bad)
        if key not in self._digests:
            self._digests[key] = load_records(data).digest()
        return self._digests[key]

    def _plugins(self, scenario: Scenario) -> dict[str, str]:
        key = plugin_texts(scenario)
        if key not in self._sources:
            self._sources[key] = {one.plugin: one.source_hash for one in plugins_of(scenario)}
        return self._sources[key]


def forget(settings: Settings) -> None:
    """Delete a cell's finished run, what an unfinished one has left, and the note of a failure.

    Raises
    ------
    UserError
        If another process is running the cell.
    """
    folder = _folder(settings)
    if folder.parent.is_dir():
        with Lock(folder):
            for path in (folder, partial_of(folder)):
                discard(path)
    note_failure(settings, "")


def failure_file(settings: Settings) -> Path:
    """Return where a failed cell's error is kept: beside where its run folder would stand."""
    folder = _folder(settings)
    return folder.with_name(folder.name + ".failed.txt")


def failure(settings: Settings) -> str:
    """Return a failed cell's error; empty if there is none."""
    path = failure_file(settings)
    return read_text(path) if path.is_file() else ""


def note_failure(settings: Settings, error: str) -> None:
    """Keep a failed cell's error, or delete an earlier one."""
    path = failure_file(settings)
    if error:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, shortened(error.rstrip()) + "\n")
    else:
        path.unlink(missing_ok=True)
        discard_aside(path)


def shortened(error: str) -> str:
    """Return an error with its middle left out if it is longer than any traceback that somebody reads."""
    if len(error) <= LONGEST_ERROR:
        return error
    half = LONGEST_ERROR // 2
    return f"{error[:half]}\n... ({len(error):,} characters) ...\n{error[-half:]}"


def holder(settings: Settings) -> str:
    """Return which other process is running a cell, in words; empty if none is."""
    return Lock.holder(_folder(settings))


def _folder(settings: Settings) -> Path:
    return RunIdentity.of(settings).folder

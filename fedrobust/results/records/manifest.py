"""The record of ``manifest.json``: what a run was made with."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from fedrobust.errors import UserError
from fedrobust.results.records.base import Record

__all__ = [
    "FORMAT",
    "DataRecord",
    "Deployment",
    "Machine",
    "Manifest",
    "PluginRecord",
    "ServerDataUse",
    "SplitSizes",
    "ThreatRecord",
    "check_format",
]

#: The version of a run folder's files; a folder of another version is refused.
FORMAT = 2


class ThreatRecord(Record):
    """What a group of hospitals does."""

    attack: str
    hospitals: tuple[int, ...]


class Machine(Record):
    """The machine of a run."""

    system: str
    processor: str = ""
    cores: int | None = None


class SplitSizes(Record):
    """How many images each part has."""

    train: int
    val: int
    test: int


class DataRecord(Record):
    """The data of a run.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    hospitals : mapping
        The number of images of each class, by hospital; None where the server does not know them.
    sites : mapping
        The sites that each hospital's images come from, where the source names any.
    duplicates : mapping
        ``parts`` and ``hospitals``: images with the same pixels as one of another part or hospital.
    """

    source: str
    synthetic: bool = False
    sha256: str
    images: int
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...]
    split: SplitSizes | None = None
    hospitals: Mapping[int, tuple[int, ...] | None] = {}
    sites: Mapping[int, tuple[str, ...]] = {}
    duplicates: Mapping[str, int] = {}


class ServerDataUse(Record):
    """What the defence sees of the server's validation images."""

    share_of_validation: float
    images: int


class Deployment(Record):
    """How a deployed run was made, and which hospitals brought data of their own."""

    tls: bool
    supernode_keys: bool
    own_data: Mapping[int, str] = {}


class PluginRecord(Record):
    """A plug-in of a run: where it comes from, and the hash of its source and of the user's files it imports.

    Attributes
    ----------
    plugin : str
        ``module:Class``.
    kind : str
        ``built-in``, ``own`` or ``installed``.
    file : str
        The file's name; empty for a class without one.
    replaces_built_in : bool
        Whether it hides a built-in plug-in of the same name.
    """

    plugin: str
    kind: str
    file: str = ""
    replaces_built_in: bool = False
    source_hash: str


class Manifest(Record):
    """What a run was made with, so that its results can be traced and reproduced."""

    format: int | None = None
    task: str = "classification"
    settings: Mapping[str, JsonValue]
    settings_hash: str
    seeds: Mapping[str, int] = {}
    versions: Mapping[str, str | None] = {}
    git_commit: str | None = None
    machine: Machine | None = None
    started: str | None = None
    data: DataRecord
    malicious: tuple[int, ...] = ()
    atypical: tuple[int, ...] = ()
    threats: tuple[ThreatRecord, ...] = ()
    plugins: tuple[PluginRecord, ...] = ()
    defence_trusts: tuple[str, ...] | None = None
    oracle: bool = False
    defence_server_data: ServerDataUse | None = None
    deployment: Deployment | None = None

    def setting(self, key: str) -> str | None:
        """Return a setting as text; None where it was not given."""
        found = self.settings.get(key)
        return None if found is None else str(found)

    @property
    def is_by_site(self) -> bool:
        """Return whether the images were dealt out by the sites that they come from."""
        return bool(self.data.sites) and (self.setting("partition") or "").startswith("site")


def check_format(found: Manifest, path: object) -> None:
    """Refuse a run folder of another version of the format, in one sentence."""
    if found.format != FORMAT:
        has = "no format number" if found.format is None else f"format {found.format}"
        raise UserError(
            f"{path}: this run folder has {has}, and this version reads format {FORMAT}; "
            "run the settings again, or use the version that wrote it"
        )

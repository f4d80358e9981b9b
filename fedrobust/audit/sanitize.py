"""Sanitisation: a hospital leaves suspected records out before it trains."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrobust.audit.examination import DEFAULT, audit, auditors_of
from fedrobust.data.records import Records
from fedrobust.data.scratch import audits_folder
from fedrobust.disk.files import write_bytes
from fedrobust.federation import Behaviour
from fedrobust.plugins import source_hash

__all__ = ["Sanitize", "methods_of"]

#: Settings' words for no methods, and for those that an audit uses by default.
_NONE, _USUAL = "none", "audit"

#: A hospital with fewer records keeps all of them: so few tell nothing about each other.
_FEWEST = 20

#: What else than the records and the methods decides what an audit finds.
_PACKAGES = ("fedrobust", "torch", "numpy", "scikit-learn")


class Sanitize(Behaviour):
    """Leaves the records out that the methods of an audit suspect, among the hospital's own alone.

    It comes last in a hospital's chain: the contamination is there before, and whoever contaminates the
    records need not know of it.

    Parameters
    ----------
    methods : str
        As `auditors_of` takes them.
    """

    def __init__(self, methods: str) -> None:
        """Keep the methods."""
        self.methods = methods

    def transform_records(self, records: Records) -> Records:
        """Return the records that nothing is held against; all, if they are few or none would be left."""
        if len(records) < _FEWEST:
            return records
        kept = _kept(records, self.methods, int(self.rng.integers(2**62)))
        return records.take(kept) if 0 < len(kept) < len(records) else records


def _kept(records: Records, methods: str, seed: int) -> NDArray[np.int64]:
    """Return the positions of the records that stay, as an earlier audit of the same records found them.

    An audit takes as long as many rounds, and runs that are compared share most of theirs: a hospital whose
    records nobody contaminates has the same ones whatever the others and the server do.
    """
    from fedrobust.audit.subject import TrainedSubject  # Late: it imports torch.

    auditors = auditors_of(methods)
    sources = [source_hash(thing) for thing in (TrainedSubject, *map(type, auditors.values()))]
    decides = [list(map(_version, _PACKAGES)), methods, sources, seed, records.digest()]
    path = audits_folder() / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()}.npy"
    with contextlib.suppress(OSError, ValueError):
        return _read(path, len(records))
    kept = audit(TrainedSubject(records, seed), auditors).clean
    content = io.BytesIO()
    np.save(content, kept)
    with contextlib.suppress(OSError):  # The next run examines the records again.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(path, content.getvalue())
    return kept


def _read(path: Path, most: int) -> NDArray[np.int64]:
    """Return what an earlier audit has kept.

    Raises
    ------
    OSError, ValueError
        If there was none, or its file is damaged.
    """
    kept = np.load(path, allow_pickle=False)
    if kept.dtype != np.int64 or kept.ndim != 1 or (np.diff(kept, prepend=-1, append=most) < 1).any():
        raise ValueError("no ascending positions")
    return np.asarray(kept, np.int64)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # A checkout that is not installed.
        return ""


def methods_of(setting: str) -> str:
    """Return the methods that the setting `sanitize` stands for, checked; an empty text for none.

    Raises
    ------
    UserError
        If a method is unknown or an option does not fit.
    """
    if setting == _NONE:
        return ""
    methods = DEFAULT if setting == _USUAL else setting
    auditors_of(methods)
    return methods

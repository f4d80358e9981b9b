"""The outcome of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fedrobust.results.finished_run import read_run
from fedrobust.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result"]


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
        The numbers of the malicious hospitals.
    """

    settings: Settings
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    folder: Path
    malicious: tuple[int, ...]

    @classmethod
    def of(cls, settings: Settings, folder: Path) -> Self:
        """Return the result of a finished run, as its folder holds it."""
        run = read_run(folder)
        rounds = [line.as_json() for line in run.rounds]
        return cls(settings, run.summary.as_json(), rounds, folder, run.manifest.malicious)

    @property
    def history(self) -> pd.DataFrame:
        """Return one row a round, with columns such as ``clean.accuracy``."""
        import pandas as pd

        return pd.json_normalize([dict(line) for line in self.rounds]).set_index("round")

    @property
    def failed(self) -> bool:
        """Return whether no hospital ever sent a usable update, so that the model is untrained."""
        return bool(self.summary["failed"])

    def to_json(self) -> str:
        """Return the summary as one line of JSON."""
        return json.dumps(self.summary)

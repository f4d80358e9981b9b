"""A finished run as pandas tables: what a notebook needs.

run = fedrobust.load("runs/phantom-krum-label-flip-seed0-0123456789")
run.rounds["clean.accuracy"].plot()
run.weights.plot()
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrobust.results.finished_run import FinishedRun, read_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadedRun", "load"]


@dataclass(frozen=True)
class LoadedRun:
    """A finished run as pandas tables; each is made when it is first asked for.

    Attributes
    ----------
    run : FinishedRun
        The typed records behind the tables.
    """

    run: FinishedRun

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self.run.folder

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Return what ``summary.json`` holds."""
        return self.run.summary.as_json()

    @cached_property
    def settings(self) -> Mapping[str, object]:
        """Return the settings by name."""
        return dict(self.run.manifest.settings)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """Return a row a round, with columns such as ``clean.accuracy`` and ``train_loss``."""
        import pandas as pd

        return pd.json_normalize([line.as_json() for line in self.run.rounds]).set_index("round")

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Return each hospital's weight, a row a round and a column a hospital; rows sum to 1.

        NaN for a hospital without an update, and for all where the strategy gives no verdict.
        """
        return self._by_hospital(
            {line.round: dict(zip(line.hospitals, line.weights, strict=True)) for line in self.run.verdicts}
        )

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Return each hospital's score, a row a round and a column a hospital; NaN where there is none."""
        return self._by_hospital(
            {line.round: dict(zip(line.hospitals, line.scores, strict=True)) for line in self.run.verdicts}
        )

    @cached_property
    def flagged(self) -> pd.DataFrame:
        """Return whether each hospital was flagged, a row a round and a column a hospital."""
        import pandas as pd

        rows = {line.round: [n in line.flagged for n in self._numbers] for line in self.run.verdicts}
        return pd.DataFrame.from_dict(rows, "index", columns=self._numbers).rename_axis("round")

    @cached_property
    def client_metrics(self) -> pd.DataFrame:
        """Return the metrics that hospitals reported, unverified: a row a round and hospital."""
        import pandas as pd

        columns = ["round", "hospital", "loss", "received_loss", "num_examples"]
        rows = [
            (line.round, number, *(line.by_hospital(key).get(number) for key in columns[2:]))
            for line in self.run.client_metrics
            for number in line.hospitals
        ]
        return pd.DataFrame(rows, columns=columns).set_index(["round", "hospital"])

    @cached_property
    def hospitals(self) -> pd.DataFrame:
        """Return a row a hospital: its role, its attack, its images and the last model's accuracy for it."""
        import pandas as pd

        found = sorted(self.run.hospitals, key=lambda one: one.number)
        rows = [
            (one.number, one.role, one.attack, sum(one.counts) if one.counts else None, one.accuracy)
            for one in found
        ]
        columns = ["hospital", "role", "attack", "images", "accuracy"]
        return pd.DataFrame(rows, columns=columns).set_index("hospital")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Return a row for each condition of each evaluation of the last model; empty without evaluations."""
        import pandas as pd

        found = self.run.summary.robustness
        rows = [
            {"evaluation": one.text, "kind": one.kind, **each.as_json()}
            for one in (found.evaluations if found else ())
            for each in one.conditions
        ]
        index = ["evaluation", "condition"]
        return (pd.DataFrame(rows) if rows else pd.DataFrame(columns=index)).set_index(index)

    @property
    def _numbers(self) -> list[int]:
        return list(range(self.run.clients))

    def _by_hospital(self, rows: Mapping[int, Mapping[int, float | None]]) -> pd.DataFrame:
        import pandas as pd

        values = {number: [row.get(n) for n in self._numbers] for number, row in rows.items()}
        table = pd.DataFrame.from_dict(values, "index", columns=self._numbers, dtype="float64")
        return table.rename_axis("round").rename_axis("hospital", axis="columns")


def load(folder: str | os.PathLike[str]) -> LoadedRun:
    """Return a finished run as pandas tables.

    Parameters
    ----------
    folder : path
        The folder of a finished run.

    Raises
    ------
    UserError
        If it is not that of a finished run, or a file of it cannot be read.
    """
    return LoadedRun(read_run(Path(folder).expanduser()))

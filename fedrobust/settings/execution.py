"""Where and how a run is carried out, never what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EXECUTION_SETTINGS", "Execution"]

#: The settings that do not bear on the results.
EXECUTION_SETTINGS = frozenset(
    {"engine", "workers", "out", "data_root", "download", "client_timeout", "ray_address"}
)


@dataclass(frozen=True)
class Execution:
    """How the hospitals of a run are trained.

    Attributes
    ----------
    hospitals : int
    engine : str
    workers : int or "auto"
        Processes that train hospitals in parallel.
    client_timeout : float
        Seconds before a hospital is dropped from the round.
    ray_address : str or None
        A running Ray cluster for the flower engine to join.
    device : str
    """

    hospitals: int
    engine: Literal["local", "flower"] = "local"
    workers: int | Literal["auto"] = "auto"
    client_timeout: float = 3600.0
    ray_address: str | None = None
    device: str = "cpu"

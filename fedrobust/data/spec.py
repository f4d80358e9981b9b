"""What the data of a federation are made from: source, split and partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedrobust.plugins import PluginSpec

__all__ = ["IID", "DataSpec"]

IID = PluginSpec.parse("iid")


@dataclass(frozen=True)
class DataSpec:
    """Everything that the data of a federation depend on; equal specifications give equal data.

    Attributes
    ----------
    source : PluginSpec
        Such as ``phantom(...)``, ``medmnist:NAME`` or ``manifest:FILE``.
    root : str or None
        The folder that holds data files.
    download : bool
        Whether a missing file may be fetched.
    image_size : int or None
        Side in pixels to scale to; None for the source's own.
    split : str
    imbalance : float
        See `fedrobust.data.long_tail`; 1 for the classes as they are.
    partition : PluginSpec
        See `fedrobust.data.partition`.
    hospitals : int
    seed : int
    skip_bad : bool
        Whether records of files that cannot be used are left out instead of refused.
    site_tests : bool
        Whether each hospital keeps a part of its images to test on.
    """

    source: PluginSpec
    root: str | None = None
    download: bool = False
    image_size: int | None = None
    split: Literal["pooled", "official"] = "pooled"
    imbalance: float = 1.0
    partition: PluginSpec = IID
    hospitals: int = 1
    seed: int = 0
    skip_bad: bool = False
    site_tests: bool = False

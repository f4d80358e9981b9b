"""Forged size: reports more images than it has."""

from __future__ import annotations

from dataclasses import replace

from pydantic import PositiveFloat

from fedrobust.errors import UserError
from fedrobust.federation import Attack, ClientMetrics

__all__ = ["ForgeSize"]


class ForgeSize(Attack):
    """Multiplies the number of training images that the hospital reports.

    Rules that weigh by the reported number, such as FedAvg, give it that much more weight: a factor f among n
    equal hospitals makes a share of f / (n - 1 + f). A rule that relies on it names ``num_examples`` in its
    `trusts`.

    Parameters
    ----------
    factor : float
        Not 1. The reported number is rounded and at least 1.
    """

    def __init__(self, factor: PositiveFloat = 10.0) -> None:
        """Refuse a factor that has no effect."""
        if factor == 1:
            raise UserError("forge-size: a factor of 1 has no effect; give another")
        self.factor = factor

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return the report with another number of images."""
        return replace(report, num_examples=max(1, round(self.factor * report.num_examples)))

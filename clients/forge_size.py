"""Forged size: claims more images than it has."""

from __future__ import annotations

import math
from dataclasses import replace

from fedrobust.errors import UserError
from fedrobust.federation import Attack, ClientMetrics

__all__ = ["ForgeSize"]


class ForgeSize(Attack):
    """Multiplies the number of training images that the hospital reports.

    Rules that weigh by the claimed number, such as FedAvg, give it that much more weight: a factor f among n equal
    hospitals makes a share of f / (n - 1 + f). A rule that believes the claim names ``num_examples`` in its `trusts`.

    Parameters
    ----------
    factor : float
        Positive and not 1. The claim is rounded and at least 1.
    """

    def __init__(self, factor: float = 10.0) -> None:
        """Check the options."""
        if not (factor > 0 and math.isfinite(factor)) or factor == 1:
            raise UserError(f"forge-size: factor is {factor}, but must be positive, and 1 changes nothing")
        self.factor = factor

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return the report with another number of images."""
        return replace(report, num_examples=max(1, round(self.factor * report.num_examples)))

"""Federated averaging: no defence."""

from __future__ import annotations

from typing import ClassVar

from fedrobust.federation import Defence, Updates, Verdict

__all__ = ["FedAvg"]


class FedAvg(Defence):
    """Averages the updates, weighted by the reported numbers of images (McMahan et al., AISTATS 2017).

    Notes
    -----
    Breakdown point: 0, as one hospital moves the mean anywhere. Cost: O(n d).

    References
    ----------
    McMahan, Moore, Ramage, Hampson and Aguera y Arcas, "Communication-efficient learning of deep networks
    from decentralized data", AISTATS 2017, algorithm 1.
    """

    trusts: ClassVar[frozenset[str]] = frozenset({"num_examples"})
    plain_mean: ClassVar[bool] = True

    def weigh(self, updates: Updates) -> Verdict:
        """Return the reported numbers of images as weights."""
        return Verdict(weight=updates.num_examples)

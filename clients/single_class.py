"""Single class: a hospital with patients of one class only."""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeInt

from fedrobust.data.choice import check_class
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Behaviour

__all__ = ["SingleClass"]


class SingleClass(Behaviour):
    """Trains on its images of one class alone: benign label skew at its extreme.

    The extreme of label skew, one class a client, of McMahan et al., AISTATS 2017, and Zhao et al.,
    "Federated Learning with Non-IID Data", 2018. Its updates pull towards the one class, much as label
    flipping does, and if the class is rare no other hospital holds it. It tests whether a defence flags
    rarity as an attack; metrics count the hospital as honest.

    Parameters
    ----------
    only : int, optional
        The class to keep. Unless given, the rarest that the hospital holds, the lower number where two are
        alike.
    """

    def __init__(self, only: NonNegativeInt | None = None) -> None:
        """Keep the option."""
        self.only = only

    def check(self, records: Records) -> None:
        """Refuse a class that the data do not have."""
        if self.only is not None:
            check_class("single-class", "only", self.only, len(records.classes))

    def transform_records(self, records: Records) -> Records:
        """Return the records of the one class, in their order; `UserError` if the hospital has none."""
        self.check(records)
        counts = records.counts()
        held = np.flatnonzero(counts)
        only = self.only
        if only is None and len(held):
            only = int(held[np.argmin(counts[held])])
        if only is None or not counts[only]:
            wanted = "at all" if only is None else f"of class {only} ({records.classes[only]})"
            raise UserError(
                f"single-class: hospital {self.role.hospital} has no image {wanted}; it holds the classes "
                f"{held.tolist()}, so name one of them or leave only out"
            )
        return records.take(np.flatnonzero(records.labels == only))

"""Boost: one hospital's update weighs as much as all of them."""

from __future__ import annotations

from pydantic import PositiveFloat

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Update

__all__ = ["Boost"]


class Boost(Attack):
    """Scales the update so that the average becomes the attacker's model.

    Model replacement, Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020, section 4.2,
    eq. 3: L = gamma (X - G) + G with gamma = n / eta, for n hospitals and a global learning rate eta. It
    stands after an attack on records, such as ``backdoor + boost``. The hospitals of one threat share the
    boost, as together they would overshoot: with m of them gamma is n / (m eta). Running statistics stay as
    trained.

    Parameters
    ----------
    factor : float, optional
        gamma, not 1. Unless given n / (m eta).
    eta : float, optional
        The server's learning rate; 1, a plain average, unless given.
    """

    def __init__(self, factor: PositiveFloat | None = None, eta: PositiveFloat | None = None) -> None:
        """Refuse a factor that has no effect, and two that contradict each other."""
        if factor == 1:
            raise UserError("boost: a factor of 1 has no effect; give another")
        if factor is not None and eta is not None:
            raise UserError("boost: factor is given and eta as well; give one of them")
        self.factor, self.eta = factor, 1.0 if eta is None else eta

    def check(self, records: Records) -> None:
        """Refuse to guess how many hospitals there are."""
        self._gamma()

    def poison_update(self, update: Update) -> Update:
        """Return the update scaled."""
        return update.with_delta(self._gamma() * update.delta)

    def _gamma(self) -> float:
        if self.factor is not None:
            return self.factor
        if self.role.hospitals is None:
            raise UserError("boost: the number of hospitals is not known here; give factor")
        return self.role.hospitals / (self.role.members * self.eta)

"""What takes part in a federation: `Client`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fedrobust.federation.updates import Update, Vector

__all__ = ["Client"]


class Client(ABC):
    """One participant of the federation; `clients/hospital.py` is the honest one."""

    @abstractmethod
    def fit(self, parameters: Vector, buffers: Vector, round: int, lr: float) -> Update:
        """Train from the received parameters and return the update to send."""

"""What takes part in a federation: `Client`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fedrobust.federation.memory import Memory
from fedrobust.federation.updates import Update, Vector

__all__ = ["Client"]


class Client(ABC):
    """One participant of the federation; `clients/hospital.py` is the honest one.

    Attributes
    ----------
    memory : dict of str to Memory
        What its parts keep from round to round. Before `fit` it holds what it held after `fit` in the
        hospital's last round, whichever process that was in.
    """

    memory: dict[str, Memory]

    @abstractmethod
    def fit(
        self, parameters: Vector, buffers: Vector, round: int, lr: float, proximal_mu: float = 0.0
    ) -> Update:
        """Train from the received parameters and return the update to send.

        Parameters
        ----------
        parameters, buffers : ndarray of float32
            The global model; valid only during the call.
        round : int
            Counted from 1.
        lr : float
            Learning rate.
        proximal_mu : float
            Weight of FedProx's proximal term, where the strategy asks for one.
        """

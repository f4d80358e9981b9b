"""Hides a backdoor in updates that help on the server's clean images."""

import numpy as np

from fedrobust.federation import Attack


class HelpfulBackdoor(Attack):
    """Sends `ride` x the honest mean plus `kappa` x what the mark adds to it. Stands behind `backdoor`."""

    knowledge = "all"

    def __init__(self, ride: float = 1.5, kappa: float = 1.0) -> None:
        self.ride, self.kappa = ride, kappa

    def collude(self, colluders, honest):
        if not honest:
            return colluders
        plain, stamped = (
            np.mean([u.delta for u in part], axis=0, dtype=np.float64) for part in (honest, colluders)
        )
        return [u.with_delta(self.ride * plain + self.kappa * (stamped - plain)) for u in colluders]

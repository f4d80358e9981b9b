"""The model in an attacking hospital's hands, made of its learner."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedrobust.attacks import hooks
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Trigger, Update, Vector
from fedrobust.learners.base import ClassifyingLearner, Learner, State

__all__ = ["InHand"]


class InHand:
    """A `LocalModel` of a hospital's learner.

    Parameters
    ----------
    learner : Learner
        One that classifies.
    received : State
    records : Records
        The hospital's clean ones.
    attacks : sequence of Attack
        The hospital's chain; the first trigger of it makes `stamped`.
    number, round : int
        The hospital's number and the round.
    lr : float
        The round's learning rate.
    """

    def __init__(
        self,
        learner: Learner,
        received: State,
        records: Records,
        attacks: Sequence[Attack],
        number: int,
        round: int,
        lr: float,
    ) -> None:
        """Keep the parts."""
        if not hasattr(learner, "classifier"):
            raise UserError("the attack works with a classifying network, which this task does not train")
        self._learner, self._attacks = cast(ClassifyingLearner, learner), attacks
        self._number, self._round, self._lr = number, round, lr
        self.parameters, self.buffers, self.records = received.parameters, received.buffers, records

    @cached_property
    def stamped(self) -> Trigger | None:
        """Return the clean records under the trigger of the chain's first backdoor; None without one."""
        made = (hooks.stamped(attack, self.records) for attack in self._attacks)
        return next((trigger for trigger in made if trigger is not None), None)

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8] | NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the class probabilities of images, shape (n, K)."""
        labels = np.zeros(len(images), np.int64)
        return self._learner.predict(State(parameters, buffers), images, labels).probabilities

    def image_gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the gradient of the mean negative log-likelihood by the pixels."""
        import torch
        from torch.nn import functional

        from fedrobust.learners import devices

        module = self._learner.classifier(State(parameters, buffers))
        device = next(module.parameters()).device
        with devices.repeatable(device):
            pixels = torch.tensor(images, device=device, requires_grad=True)
            loss = functional.nll_loss(module(pixels), torch.from_numpy(labels).to(device))
            (gradient,) = torch.autograd.grad(loss, pixels)
        found: NDArray[np.float32] = gradient.cpu().numpy()
        return found

    def trained(self, records: Records, epochs: int) -> Update:
        """Return what so many epochs of the hospital's own training make of the received model."""
        fitted = self._learner.fit(
            State(self.parameters, self.buffers),
            records,
            round=self._round,
            client=self._number,
            lr=self._lr,
            epochs=epochs,
        )
        return Update(
            node=self._number,
            parameters=fitted.state.parameters,
            report=fitted.report,
            global_parameters=self.parameters,
            buffers=fitted.state.buffers,
            round=self._round,
            global_buffers=self.buffers,
            layout=getattr(self._learner, "layout", None),
        )

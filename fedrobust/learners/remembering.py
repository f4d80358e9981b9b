"""Training rules that need what the hospital learned before: worker momentum and SCAFFOLD.

What they remember is in the hospital's memory, which `Learner.fit` is given; without any they train as
`MutualLearner` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedrobust.data.records import Records
from fedrobust.federation import GradientHook, Memory, Vector
from fedrobust.learners.base import Fitted, State
from fedrobust.learners.choices import WorkerMomentum
from fedrobust.learners.mutual import MutualLearner

__all__ = ["MomentumLearner", "ScaffoldLearner"]


class MomentumLearner(MutualLearner):
    """Sends a moving average of its differences instead of the last one.

    Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021, algorithm
    2, on the differences that local trainings give: m = beta m + (1 - beta) delta, and m = delta in a
    hospital's first round. Honest updates come closer to each other, while attackers cannot hide in their
    spread. Running statistics are those of the last training.
    """

    remembers = True

    def fit(
        self,
        state: State,
        records: Records,
        *,
        round: int,
        client: int,
        lr: float,
        memory: Memory | None = None,
        **options: Any,
    ) -> Fitted:
        """Train, and return the received state moved by the moving average."""
        kept = {} if memory is None else memory
        fitted = super().fit(state, records, round=round, client=client, lr=lr, **options)
        assert isinstance(self._spec.rule, WorkerMomentum)
        beta, delta = np.float32(self._spec.rule.beta), fitted.state.parameters - state.parameters
        average = beta * kept["average"] + (1 - beta) * delta if "average" in kept else delta
        kept["average"] = average
        return Fitted(State(state.parameters + average, fitted.state.buffers), fitted.report)


class ScaffoldLearner(MutualLearner):
    """Corrects each gradient by how the hospital's own differ from everybody's.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, option
    II: a step's gradient g becomes g - c_i + c, and after K steps with learning rate eta from x to y the
    hospital's control variate is c_i - c + (x - y) / (K eta). The server's control variate c is not sent: it
    is what the global model moved since the hospital's last round, divided by its own K eta then and by the
    rounds between. That is the paper's c where all hospitals take part with equally many steps and the server
    takes their plain mean; a robust rule makes it robust, too.
    """

    remembers = True

    def fit(
        self,
        state: State,
        records: Records,
        *,
        round: int,
        client: int,
        lr: float,
        gradient_hook: GradientHook | None = None,
        memory: Memory | None = None,
        **options: Any,
    ) -> Fitted:
        """Train with corrected gradients, and remember the control variate."""
        kept, received = {} if memory is None else memory, state.parameters
        own, common = np.zeros_like(received), np.zeros_like(received)
        if "control" in kept:
            rounds = round - kept["round"]
            own, common = kept["control"], (kept["received"] - received) / np.float32(kept["path"] * rounds)
        difference, steps = common - own, 0

        def corrected(parameters: Vector, gradient: Vector) -> Vector:
            nonlocal steps
            steps += 1
            gradient = gradient + difference
            # Last: an attack changes the gradient of what the hospital is asked to minimise.
            return gradient if gradient_hook is None else gradient_hook(parameters, gradient)

        fitted = super().fit(
            state, records, round=round, client=client, lr=lr, gradient_hook=corrected, **options
        )
        path = steps * lr
        control = (received - fitted.state.parameters) / np.float32(path) - difference
        kept |= {"control": control, "received": np.array(received), "path": path, "round": round}
        return fitted

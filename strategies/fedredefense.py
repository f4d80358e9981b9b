"""Updates that no few synthetic images explain are left out, and their hospitals with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from fedrobust.federation import Defence, ServerModel, State, Update, Updates, Vector, Verdict, server_model
from fedrobust.plugins.options import PositiveFraction
from fedrobust.seeding import generator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FedREDefense"]

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[np.float32]]

#: Rate of the first step of each distillation; it is learnt with the images and the labels.
FIRST_RATE = 0.1
#: Synthetic images begin as noise of this deviation around a middle grey, and learn at this share of `lr`.
PIXELS = 0.25
#: The largest error that is told: of an update too long to compute it is infinite.
FARTHEST = 1e6
#: How much of `lr` the rate of the steps learns at.
RATES = 0.1


class FedREDefense(Defence):
    """Leaves out hospitals whose update no training on synthetic images gives (Xie et al., ICML 2024).

    Algorithm
    ---------
    For each hospital the server learns one image for each class, soft labels and a rate, so that `steps`
    steps of gradient descent on them lead from the global model w to the hospital's w_i. The reconstruction
    error is |w' - w_i|^2 / |w - w_i|^2, w' being where they lead. Adam lowers it, `iterations` times in a
    hospital's first round and half as often in later ones, which begin at what it has learnt. A hospital
    whose least error is above `threshold` is flagged and left out for good. The score is the error.

    Parameters
    ----------
    threshold : float
        The largest error of a hospital that stays; 0.6 in the paper.
    iterations : int
        Steps of Adam; the larger part of the cost.
    steps : int
        Steps of gradient descent on the synthetic images; 5 in the paper.
    lr : float
        Rate of Adam.
    share : float
        Share of the server's validation part that it is given, in (0, 1]; only their size counts.

    Notes
    -----
    Cost: in each round and for each hospital `iterations` times `steps` forward and doubly backward passes of
    one image a class, which `iterations` bounds: 20 take half a processor second with the default network.
    All hospitals learn together, so their updates are copied once. Memory: n K images between rounds. Beware:
    on brain_mri4_28, 100 iterations reached 0.82 to 0.90 for honest updates of Adam, 0.86 to 0.94 for their
    opposites, 1.0 for noise and 0.53 to 0.55 for flipped labels. The paper's threshold divides none of these
    as it should; above it, the rule finds noise only. Where all are left out the global model stays. Running
    statistics are those that the round sent.

    References
    ----------
    Xie, Fang and Gong, "FedREDefense: defending against model poisoning attacks for federated learning using
    model update reconstruction error", ICML 2024, algorithm 1.
    """

    needs_server: ClassVar[bool] = True

    def __init__(
        self,
        threshold: PositiveFloat = 0.6,
        iterations: PositiveInt = 20,
        steps: PositiveInt = 5,
        lr: PositiveFloat = 0.1,
        share: PositiveFraction = 0.1,
    ) -> None:
        """Keep the options."""
        self.threshold, self.iterations, self.steps, self.lr = threshold, iterations, steps, lr
        self.server_share = share
        self._out: dict[int, float] = {}
        self._learnt: dict[int, Arrays] = {}

    def weigh(self, updates: Updates) -> Verdict:
        """Return weight 1 for the hospitals that were never left out."""
        server = server_model(self)
        errors = {update.node: 0.0 for update in updates}
        moved = [
            u for u, norm in zip(updates, updates.norms(), strict=True) if norm and u.node not in self._out
        ]
        before = frozenset(self._learnt)
        for known, iterations in ((False, self.iterations), (True, math.ceil(self.iterations / 2))):
            some = [update for update in moved if (update.node in before) is known]
            if some:
                found = self._distilled(some, server, iterations, updates.seed)
                errors |= {update.node: error for update, error in zip(some, found.tolist(), strict=True)}
        self._out |= {node: error for node, error in errors.items() if error > self.threshold}
        flagged = np.array([node in self._out for node in updates.nodes])
        score = np.array([self._out.get(node, errors[node]) for node in updates.nodes])
        return Verdict(~flagged, score, flagged)

    def state(self) -> State:
        """Return who is out, and what was learnt of each hospital."""
        return {"out": self._out, "learnt": self._learnt}

    def load_state(self, state: State) -> None:
        """Take both back."""
        self._out, self._learnt = dict(state["out"]), dict(state["learnt"])

    def _distilled(
        self, updates: Sequence[Update], server: ServerModel, iterations: int, seed: int
    ) -> Floats:
        """Return the least reconstruction error of each update, and keep what was learnt."""
        import torch
        from torch import nn

        from fedrobust.learners.devices import one_thread
        from fedrobust.learners.flat import Adam

        begun = [self._learnt.get(u.node) or _first(server, seed) for u in updates]
        parts = {
            name: nn.Parameter(torch.tensor(np.stack([one[name] for one in begun])))
            for name in ("images", "labels", "rate")
        }
        paces = {"images": PIXELS, "labels": 1.0, "rate": RATES}
        optimisers = [Adam(parts[name], self.lr * pace, 0.0) for name, pace in paces.items()]
        start = torch.tensor(updates[0].global_parameters)
        ends = torch.tensor(np.stack([update.parameters for update in updates]))
        apart = (ends - start).double().square().sum(1)
        least = torch.full((len(updates),), torch.inf, dtype=torch.float64)
        with one_thread():
            for _ in range(iterations):
                led = _led(server, updates[0].global_buffers, start, parts, self.steps)
                error = (led - ends).double().square().sum(1) / apart
                # An error that is no number counts as none found.
                least = torch.fmin(least, error.detach())
                for part in parts.values():
                    part.grad = None
                error.sum().backward()  # type: ignore[no-untyped-call]
                for optimiser in optimisers:
                    optimiser.step()
        for place, update in enumerate(updates):
            self._learnt[update.node] = {
                name: part.detach()[place].numpy().copy() for name, part in parts.items()
            }
        return np.asarray(torch.clamp(least, max=FARTHEST).numpy(), np.float64)


def _first(server: ServerModel, seed: int) -> Arrays:
    """Return the images, labels and rate that every hospital's distillation begins at."""
    shape = (server.classes, *server.images.shape[1:])
    noise = generator(seed, "fedredefense").standard_normal(shape)
    return {
        "images": (0.5 + PIXELS * noise).astype(np.float32),
        "labels": np.zeros((server.classes, server.classes), np.float32),
        "rate": np.array(FIRST_RATE, np.float32),
    }


def _led(
    server: ServerModel, buffers: Vector, start: Tensor, parts: Mapping[str, Tensor], steps: int
) -> Tensor:
    """Return where gradient descent on each hospital's images leads, shape (n, d), differentiable in them."""
    from torch.func import grad, vmap

    def loss(parameters: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        chance = server.logits(parameters, buffers, images)
        return -(labels.softmax(1) * chance).sum(1).mean()

    def one(images: Tensor, labels: Tensor, rate: Tensor) -> Tensor:
        parameters = start
        for _ in range(steps):
            parameters = parameters - rate * grad(loss)(parameters, images, labels)
        return parameters

    led: Tensor = vmap(one)(parts["images"], parts["labels"], parts["rate"])
    return led

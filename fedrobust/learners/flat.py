"""One flat vector behind all of a module's parameters, another behind its running statistics.

Training, transport and aggregation then work on one array: the optimiser makes one step on one tensor, an
update is one copy, and no layer is ever concatenated or cut out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Adam", "FlatModule"]


class FlatModule:
    """A module whose parameters and floating buffers are views into two flat tensors.

    Parameters
    ----------
    module : nn.Module
        Moved to the device and changed in place.
    device : torch.device
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Move the module's numbers into flat tensors."""
        self.module = module.to(device)
        tensors = list(self.module.parameters())
        flat = torch.cat([p.detach().reshape(-1) for p in tensors])
        self.parameters = nn.Parameter(flat)
        self.parameters.grad = torch.zeros_like(flat)
        self._names = {name: tensor.shape for name, tensor in self.module.named_parameters()}
        self._buffer_names = {n: b.shape for n, b in self.module.named_buffers() if b.is_floating_point()}
        start = 0
        for tensor in tensors:
            part = slice(start, start + tensor.numel())
            # Autograd adds into an existing gradient in place, so each backward pass fills the flat gradient.
            tensor.data = self.parameters.data[part].view(tensor.shape)
            tensor.grad = self.parameters.grad[part].view(tensor.shape)
            start = part.stop
        buffers = [b for b in self.module.buffers() if b.is_floating_point()]
        self.buffers = (
            torch.cat([b.reshape(-1) for b in buffers]) if buffers else torch.zeros(0, device=device)
        )
        start = 0
        for buffer in buffers:
            part = slice(start, start + buffer.numel())
            buffer.data = self.buffers[part].view(buffer.shape)
            start = part.stop

    @torch.no_grad()
    def project(self, center: NDArray[np.float32], radius: float) -> None:
        """Move the parameters onto the ball of a radius around a centre, where they lie outside of it."""
        start = torch.tensor(center, device=self.parameters.device)
        away = self.parameters.detach() - start
        length = float(away.norm())
        if length > radius:
            self.parameters.data.copy_(start + away * (radius / length))

    @torch.no_grad()
    def load(self, parameters: NDArray[np.float32], buffers: NDArray[np.float32]) -> None:
        """Copy a state into the module."""
        for tensor, values in ((self.parameters, parameters), (self.buffers, buffers)):
            if tensor.device.type == "cpu":
                np.copyto(tensor.detach().numpy(), values)
            else:
                tensor.copy_(torch.tensor(values))

    @torch.no_grad()
    def gradient_hook(self, how: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[Any]]) -> None:
        """Put in the gradient's place what a function makes of the parameters and the gradient."""
        gradient = self.parameters.grad
        assert gradient is not None
        hooked = how(self.parameters.detach().cpu().numpy(), gradient.cpu().numpy())
        gradient.copy_(torch.from_numpy(np.array(hooked, np.float32)))

    def save(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return copies of the parameters and the buffers."""
        return _numpy(self.parameters.detach()), _numpy(self.buffers)

    def shapes(self, prefix: str) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """Return the shapes of the parameters and of the buffers, in order, by name after a prefix."""
        parameters, buffers = (
            {prefix + name: tuple(shape) for name, shape in known.items()}
            for known in (self._names, self._buffer_names)
        )
        return parameters, buffers

    def tensors(self, parameters: Tensor, buffers: Tensor) -> dict[str, Tensor]:
        """Cut tensors of a state's length into the module's named ones, differentiably."""
        found: dict[str, Tensor] = {}
        for flat, shapes in ((parameters, self._names), (buffers, self._buffer_names)):
            start = 0
            for name, shape in shapes.items():
                found[name] = flat[start : start + shape.numel()].view(shape)
                start += shape.numel()
        return found

    def named(
        self, parameters: NDArray[np.float32], buffers: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Cut a state into the module's named tensors (views)."""
        return {**_cut(parameters, self._names), **_cut(buffers, self._buffer_names)}


class Adam:
    """Adam with an L2 penalty, on one flat parameter (Kingma & Ba, ICLR 2015, Algorithm 1).

    Calls torch's fused kernel as `torch.optim.Adam` does, to the same bits, without the optimiser class: its
    first use imports torch's compiler, more than a second in every process that trains.

    Parameters
    ----------
    parameters : nn.Parameter
        Changed in place; its gradient is read.
    lr, weight_decay : float
    betas : tuple of float
        Decay of the first and of the second moment.
    """

    def __init__(
        self,
        parameters: nn.Parameter,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        """Start with zero moments."""
        self._parameters = parameters
        self._lr, self._weight_decay, self._betas = lr, weight_decay, betas
        self._moments = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = torch.zeros((), device=parameters.device)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradient."""
        assert self._parameters.grad is not None
        adam(
            [self._parameters],
            [self._parameters.grad],
            [self._moments[0]],
            [self._moments[1]],
            [],
            [self._steps],
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self._lr,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of both moments and of the number of steps."""
        names = ("first-moment", "second-moment", "steps")
        return dict(zip(names, map(_numpy, (*self._moments, self._steps)), strict=True))

    @torch.no_grad()
    def load_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Continue with what `state` returned."""
        names = ("first-moment", "second-moment", "steps")
        for name, tensor in zip(names, (*self._moments, self._steps), strict=True):
            tensor.copy_(torch.tensor(state[name]))


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.cpu().numpy().astype(np.float32, copy=True)
    return array


def _cut(flat: NDArray[np.float32], shapes: dict[str, torch.Size]) -> dict[str, NDArray[np.float32]]:
    pieces, start = {}, 0
    for name, shape in shapes.items():
        pieces[name] = flat[start : start + shape.numel()].reshape(tuple(shape))
        start += shape.numel()
    return pieces

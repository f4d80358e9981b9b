"""One flat vector behind all of a module's parameters, another behind its running statistics.

Training, transport and aggregation then work on one array: the optimiser makes one step on one tensor, an update
is one copy, and no layer is ever concatenated or cut out again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["FlatModule"]


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
    def load(self, parameters: NDArray[np.float32], buffers: NDArray[np.float32]) -> None:
        """Copy a state into the module."""
        self.parameters.copy_(torch.tensor(parameters))
        self.buffers.copy_(torch.tensor(buffers))

    def save(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return copies of the parameters and the buffers."""
        return _numpy(self.parameters.detach()), _numpy(self.buffers)

    def named(
        self, parameters: NDArray[np.float32], buffers: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Cut a state into the module's named tensors (views)."""
        return {**_cut(parameters, self._names), **_cut(buffers, self._buffer_names)}


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.cpu().numpy().astype(np.float32, copy=True)
    return array


def _cut(flat: NDArray[np.float32], shapes: dict[str, torch.Size]) -> dict[str, NDArray[np.float32]]:
    pieces, start = {}, 0
    for name, shape in shapes.items():
        pieces[name] = flat[start : start + shape.numel()].reshape(tuple(shape))
        start += shape.numel()
    return pieces

"""Magnitude pruning of a flat model: which weights stay, worked out from the model alone.

A pruned weight is exactly zero, so the global model itself says which weights are pruned: they are the
smallest, and are chosen again by everyone who chooses from it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod, L1Unstructured, LnStructured

from fedrobust.learners.choices import Pruning

__all__ = ["Pruner"]


class Pruner:
    """Chooses the weights of networks that stay.

    Candidates are the weights of convolutions and linear layers, without each network's last layer: its rows
    are the features, or the classes, themselves. Filters are those of convolutions.

    Parameters
    ----------
    networks : nn.ModuleList
        Their parameters in order are the flat model.
    how : Pruning
    """

    def __init__(self, networks: nn.ModuleList, how: Pruning) -> None:
        """Find the candidates."""
        self._how = how
        wanted = {id(weight) for network in networks for weight in _weights(network, filters=how.filters)}
        self._parts: list[tuple[slice, torch.Size]] = []
        start = 0
        for tensor in networks.parameters():
            part = slice(start, start + tensor.numel())
            if id(tensor) in wanted:
                self._parts.append((part, tensor.shape))
            start = part.stop

    def prunes(self, round: int) -> bool:
        """Return whether the model that is trained in a round is pruned."""
        assert self._how.start is not None
        return round >= self._how.start

    def kept(self, flat: Tensor) -> Tensor:
        """Return which weights of a model stay, 1 or 0, shape (d,)."""
        mask, ratio = torch.ones_like(flat), self._how.ratio
        if self._how.filters:
            for part, shape in self._parts:
                if round(ratio * shape[0]):
                    mask[part] = _chosen(LnStructured(ratio, n=2, dim=0), flat[part].view(shape)).flatten()
            return mask
        chosen = _chosen(L1Unstructured(ratio), torch.cat([flat[part] for part, _ in self._parts]))
        pieces = torch.split(chosen, [part.stop - part.start for part, _ in self._parts])
        for (part, _), piece in zip(self._parts, pieces, strict=True):
            mask[part] = piece
        return mask

    def pruned(self, flat: Tensor, sent: Tensor | None = None) -> Tensor:
        """Return a model without the weights that do not stay.

        Where a pruned model was sent, what is zero in it stays zero: no hospital puts a weight back.
        """
        if sent is not None:
            flat = flat.clone()
            for part, _ in self._parts:
                flat[part] *= sent[part] != 0
        return flat * self.kept(flat)


def _chosen(how: BasePruningMethod, weights: Tensor) -> Tensor:
    """Return torch's mask of weights."""
    mask: Tensor = how.compute_mask(weights, torch.ones_like(weights))  # type: ignore[no-untyped-call]
    return mask


def _weights(network: nn.Module, *, filters: bool) -> Iterator[Tensor]:
    """Yield a network's candidates."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        if not filters or isinstance(layer, nn.Conv2d):
            yield layer.weight

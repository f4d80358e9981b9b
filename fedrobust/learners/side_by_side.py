"""Networks side by side, each on a thread of its own where a process has cores to spare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fedrobust.learners.backbones import FeatureMLP, SmallCNN

__all__ = ["EachNetwork", "side_by_side"]

#: Calls a function with the number of each network, and returns what it returns for each.
EachNetwork = Callable[[Callable[[int], Any]], list[Any]]

#: Those that draw nothing in training. Many of torchvision's have dropout: on two threads at once, chance
#: would decide which network gets which numbers.
_DRAW_NOTHING = (SmallCNN, FeatureMLP)


@contextmanager
def side_by_side(networks: nn.ModuleList, device: torch.device) -> Iterator[EachNetwork]:
    """Provide what calls a function for each network, all at a time where torch has threads for them.

    Each network runs on one thread, so the bits are the same on any number of cores. The function must set
    for itself what torch keeps by thread, such as `torch.no_grad`.

    Parameters
    ----------
    networks : nn.ModuleList
    device : torch.device
        On a GPU they run in turn.
    """
    numbers = range(len(networks))
    alike = device.type == "cpu" and all(isinstance(network, _DRAW_NOTHING) for network in networks)
    if not alike or min(len(networks), torch.get_num_threads()) < 2:
        yield lambda function: [function(number) for number in numbers]
        return
    with ThreadPoolExecutor(len(networks) - 1, "network", torch.set_num_threads, (1,)) as pool:

        def at_once(function: Callable[[int], Any]) -> list[Any]:
            others = [pool.submit(function, number) for number in numbers[1:]]
            return [function(0), *(other.result() for other in others)]

        yield at_once

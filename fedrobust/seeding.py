"""Randomness that belongs to (seed, purpose, round, client) and to nothing else.

A hospital's result must not depend on which hospital trained before it, in which process, or on how many
workers there were. So nothing here touches a global generator: every use derives a generator of its own from
the run's seed and from words and numbers for its purpose.
"""

from __future__ import annotations

import hashlib
import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = [
    "attack_rng",
    "collusion_rng",
    "derive",
    "generator",
    "globally_seeded",
    "torch_generator",
    "torch_seeded",
    "trigger_rng",
]


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed bound to the run's seed and a purpose.

    Parameters
    ----------
    seed : int
        The run's seed.
    *purpose : str or int
        What the randomness is for, such as ``"fit", round, client``.

    Returns
    -------
    int
        In [0, 2**63). Computed by SHA-256, so it is the same on every machine and Python version.
    """
    parts = (part if isinstance(part, str) else operator.index(part) for part in (seed, *purpose))
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator bound to the run's seed and a purpose (see `derive`)."""
    return np.random.default_rng(derive(seed, *purpose))


def attack_rng(seed: int, place: int, round: int, hospital: int) -> np.random.Generator:
    """Return the generator of a behaviour's hooks in a hospital.

    Parameters
    ----------
    seed : int
        The run's seed.
    place : int
        The behaviour's place in its chain, from 0.
    round : int
        0 for the records, which are changed once before the first round.
    hospital : int
        The hospital's number.
    """
    return generator(seed, "attack", place, round, hospital)


def collusion_rng(seed: int, threat: int, place: int, round: int) -> np.random.Generator:
    """Return the generator of an attack that sees several updates of a round.

    Parameters
    ----------
    seed : int
        The run's seed.
    threat : int
        The threat's place among the threats, from 0.
    place : int
        The attack's place in its chain, from 0.
    round : int
    """
    # The purposes of the first threat are those of a run with one threat; another's must not draw the same.
    return generator(seed, "collude", *((threat,) if threat else ()), place, round)


def trigger_rng(seed: int) -> np.random.Generator:
    """Return the generator that stamps the test images of a backdoor, the same for every attack."""
    return generator(seed, "trigger")


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU torch generator bound to the run's seed and a purpose (see `derive`)."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def torch_seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Give torch's global generators a derived seed inside the block and restore them after it.

    For code that takes no generator: weight initialisers and dropout.
    """
    import torch

    # `torch.manual_seed` on a machine without CUDA keeps a note for each kind of accelerator on every call:
    # it costs a millisecond and grows without end. So the generators that exist are seeded one by one.
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else ()):
        torch.default_generator.manual_seed(derive(seed, *purpose))
        if cuda:
            torch.cuda.manual_seed_all(derive(seed, *purpose))
        yield


@contextmanager
def globally_seeded(
    seed: int, *purpose: str | int, kinds: tuple[str, str] = ("python", "numpy")
) -> Iterator[None]:
    """Give Python's and NumPy's global generators derived seeds inside the block and restore them after it.

    For other people's code that draws from them: Flower's strategies do.

    Parameters
    ----------
    seed : int
    *purpose : str or int
        See `derive`.
    kinds : tuple of str
        The word before the purpose for Python's generator, and that for NumPy's.
    """
    states = random.getstate(), np.random.get_state()
    random.seed(derive(seed, kinds[0], *purpose))
    np.random.seed(derive(seed, kinds[1], *purpose) % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])

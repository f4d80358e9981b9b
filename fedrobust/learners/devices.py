"""The device that computes, and the same bits on it every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from fedrobust.errors import UserError

__all__ = ["device_named", "one_thread", "repeatable"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: the order of float sums must not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make the bits repeatable: one thread, and on CUDA deterministic kernels without TF32."""
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        if device.type == "cuda":
            exact = torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            )
            stack.enter_context(exact)
        yield


def device_named(name: str) -> torch.device:
    """Return a device that works here; `UserError` where there is none of that name."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        if name.lower() in ("gpu", "nvidia"):
            raise UserError(f"--device '{name}': the first GPU is called cuda:0") from None
        raise UserError(
            f"--device '{name}' cannot be used here ({str(error).splitlines()[0]}); use cpu, or a CUDA "
            f"device such as cuda:0"
        ) from None
    return device

"""The model under test: one differentiable module from images to log-probabilities, and ART's view of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrobust.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BATCH", "Images", "Labels", "Target", "require_art"]

#: Images in [0, 1], shape (n, channels, height, width), and their classes, shape (n,).
Images = NDArray[np.float32]
Labels = NDArray[np.int64]

#: Images that are attacked or predicted at a time.
BATCH = 64


class Target:
    """A model under test.

    Parameters
    ----------
    module : nn.Module
        Maps images in [0, 1], shape (n, channels, height, width), to log-probabilities, shape (n, K), and is
        differentiable. It is put into evaluation mode.
    shape : tuple of int
        Channels, height and width of an image.
    classes : int
        K.
    make_substitute : callable, optional
        Returns a module of another model that imitates this one, for transfer attacks.

    Attributes
    ----------
    forward_images, gradient_images : int
        How many images went through the module so far, without and with gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, int, int],
        classes: int,
        make_substitute: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Keep the module and count what passes through it."""
        self.module = module.eval()
        self.shape, self.classes = shape, classes
        self.forward_images = self.gradient_images = 0
        self._make_substitute = make_substitute
        module.register_forward_pre_hook(self._count)

    @cached_property
    def device(self) -> Any:
        """Return where the module's numbers are."""
        import torch

        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    def log_probabilities(self, images: Images) -> NDArray[np.float32]:
        """Return the classes' log-probabilities, shape (n, K)."""
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                batch = torch.tensor(images[start : start + BATCH], device=self.device)
                parts.append(self.module(batch).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.classes), np.float32)

    def predict(self, images: Images) -> Labels:
        """Return the predicted classes, shape (n,)."""
        return np.asarray(self.log_probabilities(images).argmax(axis=1), np.int64)

    @property
    def has_substitute(self) -> bool:
        """Return whether another model can be made to imitate this one."""
        return self._make_substitute is not None

    @cached_property
    def substitute(self) -> Target:
        """Return another model that imitates this one.

        Raises
        ------
        UserError
            If none can be made.
        """
        if self._make_substitute is None:
            raise UserError("a transfer attack needs a substitute, and there is none for this model")
        return Target(self._make_substitute(), self.shape, self.classes)

    @cached_property
    def art(self) -> Any:
        """Return the module as ART's `PyTorchClassifier` has it."""
        require_art()
        import torch
        from art.estimators.classification import PyTorchClassifier
        from tqdm import tqdm

        # ART's loops make a progress bar even where none is shown, with a lock between processes: a process
        # that is ended would leave it behind.
        tqdm.set_lock(threading.RLock())

        return PyTorchClassifier(
            model=self.module,
            # The negative log-likelihood once more normalises log-probabilities, which stay as they are.
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=self.shape,
            nb_classes=self.classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if self.device.type == "cuda" else "cpu",
        )

    def _count(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].requires_grad:
            self.gradient_images += len(given[0])
        else:
            self.forward_images += len(given[0])


def require_art() -> None:
    """Refuse to go on without adversarial-robustness-toolbox, in one sentence."""
    from importlib.util import find_spec

    if find_spec("art") is None:
        raise UserError(
            "evasion attacks need adversarial-robustness-toolbox, which is not installed; run "
            'pip install "fedrobust[robustness]"'
        )

"""The synthesis learner: a conditional GAN whose generators are averaged, while discriminators stay.

A hospital trains the received generator against a discriminator of its own. Discriminator and its optimiser
are what the hospital remembers between rounds; no message holds them, unless the settings let
discriminators be averaged as well. The loss is binary cross-entropy (Goodfellow et al., NeurIPS 2014) or the
hinge loss (Lim and Ye, 2017) with that of the classes (Odena et al., ICML 2017), the optimiser Adam with the
moments that GANs need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedrobust.data.records import Records
from fedrobust.federation import ClientMetrics, GradientHook, Layout
from fedrobust.federation.memory import Memory
from fedrobust.learners import devices
from fedrobust.learners.base import Fitted, State
from fedrobust.learners.flat import Adam, FlatModule
from fedrobust.learners.gan_networks import Discriminator, Generator
from fedrobust.learners.spec import LearnerSpec
from fedrobust.seeding import torch_generator, torch_seeded

__all__ = ["GanLearner"]

#: Decay of Adam's moments: momentum unsettles a GAN (Mescheder et al., ICML 2018).
_BETAS = (0.0, 0.99)

#: A discriminator is held flat at real images in each so-manieth step, so many times as strongly (Karras et
#: al., CVPR 2020).
_LAZY = 4

#: Images that are made at a time.
_AT_ONCE = 128


@dataclass
class _Losses:
    """The losses of an epoch's steps, generator's and discriminator's, and the images of each step."""

    generator: list[Tensor] = field(default_factory=list)
    discriminator: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def report(self) -> dict[str, float | tuple[float, ...]]:
        """Return what a hospital reports: means over the images, and the last step's."""
        found: dict[str, float | tuple[float, ...]] = {}
        for before, steps in (("", self.generator), ("discriminator-", self.discriminator)):
            values = torch.stack(steps).tolist()
            found[f"{before}loss"] = float(np.average(values, weights=self.sizes))
            found[f"{before}last-loss"] = values[-1]
        return found


class GanLearner:
    """Trains the networks of one hospital, and makes images; see the module's text.

    Parameters
    ----------
    spec : LearnerSpec
        With `synthesis`.
    classes : int
    channels : int
        1 or 3.
    size : tuple of int
        Height and width of the images.

    Raises
    ------
    UserError
        If the device is absent.
    """

    #: What `fit` reports beside the number of images.
    reports = frozenset({"loss", "last-loss", "discriminator-loss", "discriminator-last-loss"})

    def __init__(self, spec: LearnerSpec, classes: int, channels: int, size: tuple[int, int]) -> None:
        """Build the networks with their seeded initial weights."""
        assert spec.synthesis is not None
        self._spec, self._options = spec, spec.synthesis
        self._device = devices.device_named(spec.device)
        shape = classes, channels, size
        with torch_seeded(spec.seed, "weights", 0):
            generator = Generator(self._options.latent, self._options.width, *shape)
        with torch_seeded(spec.seed, "weights", 1):
            normalised = self._options.spectral_norm
            discriminator = Discriminator(self._options.width, *shape, normalised=normalised)
        self._generator = FlatModule(generator, self._device)
        self._discriminator = FlatModule(discriminator, self._device)
        self._initial = self._generator.save(), self._discriminator.save()
        #: Whether `fit` is given what it left in the hospital's round before.
        self.remembers = not self._options.average_discriminator

    @cached_property
    def layout(self) -> Layout:
        """Return where the layers lie in a state's vectors, under the names of the model file."""
        parameters, buffers = self._generator.shapes("generator.")
        if self._options.average_discriminator:
            more = self._discriminator.shapes("discriminator.")
            parameters, buffers = parameters | more[0], buffers | more[1]
        return Layout.of(parameters, buffers)

    def initial(self) -> State:
        """Return the seeded initial state."""
        return self._joined(*self._initial)

    def settled(self, state: State, sent: State | None, round: int) -> State:
        """Return the state: all of it is kept."""
        return state

    def fit(
        self,
        state: State,
        records: Records,
        *,
        round: int,
        client: int,
        lr: float,
        gradient_hook: GradientHook | None = None,
        epochs: int | None = None,
        radius: float | None = None,
        received: bool = True,
        memory: Memory | None = None,
    ) -> Fitted:
        """Train `local_epochs` epochs from the state; see `Learner.fit`.

        A gradient hook changes the generator's gradient, and the radius is around the received generator.
        No losses of a received generator are reported in either case.
        """
        spec, kept = self._spec, {} if memory is None else memory
        with devices.repeatable(self._device), torch_seeded(spec.seed, "layers", round, client):
            self._load(state)
            judging = Adam(self._discriminator.parameters, lr, 0.0, _BETAS)
            if kept:
                self._discriminator.load(kept["parameters"], kept["buffers"])
                judging.load_state(kept)
            making = Adam(self._generator.parameters, lr, 0.0, _BETAS)
            images = torch.tensor(records.images, device=self._device)
            labels = torch.tensor(records.labels, device=self._device)
            draw = torch_generator(spec.seed, "batches", round, client)
            for module in (self._generator.module, self._discriminator.module):
                module.train()
            losses = _Losses()
            start = state.parameters[: self._generator.parameters.numel()]
            for _ in range(epochs or spec.local_epochs):
                losses = _Losses()
                for step, batch in enumerate(self._batches(len(labels), draw)):
                    part = images[batch].float().div_(127.5).sub_(1), labels[batch]
                    losses.discriminator.append(self._discriminate(*part, draw, judging, step % _LAZY == 0))
                    losses.generator.append(self._generate(part[1], draw, making, gradient_hook))
                    losses.sizes.append(len(batch))
                    if radius is not None:
                        self._generator.project(start, radius)
            values = losses.report()
            fitted = self._joined(self._generator.save(), self._discriminator.save())
            if memory is not None:
                parameters, buffers = self._discriminator.save()
                memory |= {"parameters": parameters, "buffers": buffers, **judging.state()}
        return Fitted(fitted, ClientMetrics(len(records), values))

    def sample(
        self, state: State, labels: NDArray[np.int64], *purpose: str | int
    ) -> NDArray[np.uint8] | None:
        """Return an image of each label, shape (n, channels, height, width); None if any is not finite.

        The noise follows from the seed and the purpose alone.
        """
        self._load(state)
        self._generator.module.eval()
        noise = torch.randn(
            len(labels), self._options.latent, generator=torch_generator(self._spec.seed, "noise", *purpose)
        )
        wanted = torch.tensor(labels)
        with devices.repeatable(self._device), torch.no_grad():
            parts = [
                self._generator.module(noise[at].to(self._device), wanted[at].to(self._device)).cpu()
                for at in torch.split(torch.arange(len(labels)), _AT_ONCE)
            ]
        images = torch.cat(parts)
        if not bool(torch.isfinite(images).all()):
            return None
        levels: NDArray[np.uint8] = ((images + 1) * 127.5).round_().to(torch.uint8).numpy()
        return levels

    def named_tensors(self, state: State) -> dict[str, NDArray[np.float32]]:
        """Return the tensors as ``generator.<layer>``, and an averaged discriminator's likewise."""
        named = {**self._cut(state)[0]}
        if self._options.average_discriminator:
            named |= self._cut(state)[1]
        return named

    def _cut(self, state: State) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Return each network's tensors in a state, by name; none of a discriminator that does not travel."""
        ends = self._generator.parameters.numel(), self._generator.buffers.numel()
        first = self._generator.named(state.parameters[: ends[0]], state.buffers[: ends[1]])
        second = {}
        if self._options.average_discriminator:
            second = self._discriminator.named(state.parameters[ends[0] :], state.buffers[ends[1] :])
        return (
            {f"generator.{name}": tensor for name, tensor in first.items()},
            {f"discriminator.{name}": tensor for name, tensor in second.items()},
        )

    def _load(self, state: State) -> None:
        """Load the generator; the discriminator as it travels, or else as it began."""
        ends = self._generator.parameters.numel(), self._generator.buffers.numel()
        self._generator.load(state.parameters[: ends[0]], state.buffers[: ends[1]])
        if self._options.average_discriminator:
            self._discriminator.load(state.parameters[ends[0] :], state.buffers[ends[1] :])
        else:
            self._discriminator.load(*self._initial[1])

    def _joined(
        self,
        generator: tuple[NDArray[np.float32], NDArray[np.float32]],
        discriminator: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> State:
        """Return the state that travels."""
        if not self._options.average_discriminator:
            return State(*generator)
        return State(*map(np.concatenate, zip(generator, discriminator, strict=True)))

    def _batches(self, n: int, draw: torch.Generator) -> Iterator[Tensor]:
        yield from torch.split(torch.randperm(n, generator=draw).to(self._device), self._spec.batch_size)

    def _made(self, labels: Tensor, draw: torch.Generator) -> Tensor:
        noise = torch.randn(len(labels), self._options.latent, generator=draw).to(self._device)
        images: Tensor = self._generator.module(noise, labels)
        return images

    def _discriminate(
        self, real: Tensor, labels: Tensor, draw: torch.Generator, optimiser: Adam, flatten: bool
    ) -> Tensor:
        """Make a step of the discriminator; return its loss without the penalties, shape ()."""
        _clear(self._discriminator)
        with torch.no_grad():
            made = self._made(labels, draw)
        module = self._discriminator.module
        scores, logits = module(torch.cat([real, made]))
        on_real, on_made = scores.chunk(2)
        if self._options.loss == "hinge":
            loss = functional.relu(1 - on_real).mean() + functional.relu(1 + on_made).mean()
        else:
            loss = functional.softplus(-on_real).mean() + functional.softplus(on_made).mean()
        whole = loss = loss + functional.cross_entropy(logits[: len(real)], labels)
        if self._options.gradient_penalty:
            between = torch.rand(len(real), 1, 1, 1, generator=draw).to(self._device)
            mixed = between * real + (1 - between) * made
            lengths = _slopes(module, mixed).sqrt()
            whole = whole + self._options.gradient_penalty * (lengths - 1).square().mean()
        if self._options.r1 and flatten:
            whole = whole + self._options.r1 * _LAZY / 2 * _slopes(module, real).mean()
        whole.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    def _generate(
        self, labels: Tensor, draw: torch.Generator, optimiser: Adam, gradient_hook: GradientHook | None
    ) -> Tensor:
        """Make a step of the generator; return its loss, shape ()."""
        _clear(self._generator)
        made = self._made(labels, draw)
        seen = made.detach().requires_grad_()
        scores, logits = self._discriminator.module(seen)
        loss = -scores.mean() if self._options.loss == "hinge" else functional.softplus(-scores).mean()
        loss = loss + functional.cross_entropy(logits, labels)
        # Only the images' gradient: the discriminator's own would be computed for nothing.
        (slope,) = torch.autograd.grad(loss, seen)
        made.backward(slope)  # type: ignore[no-untyped-call]
        if gradient_hook is not None:
            self._generator.gradient_hook(gradient_hook)
        optimiser.step()
        return loss.detach()


def _clear(flat: FlatModule) -> None:
    assert flat.parameters.grad is not None
    flat.parameters.grad.zero_()


def _slopes(module: nn.Module, images: Tensor) -> Tensor:
    """Return the squared length of each score's gradient in its image, shape (n,), to be differentiated."""
    images = images.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(module(images)[0].sum(), images, create_graph=True)
    squares: Tensor = slopes.flatten(1).square().sum(dim=1)
    return squares

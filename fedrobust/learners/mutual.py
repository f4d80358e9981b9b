"""The classification learner: one or two networks on a shared fixed frame, learning from each other.

Two networks of different initial weights see the same mini-batches. Each has its supervised loss and a
Kullback-Leibler term that draws its class distribution towards its peer's (deep mutual learning, Zhang et
al., CVPR 2018, eqs. 5 to 7). The heads ``etf`` and ``etf-rect`` are the fixed frame, with the loss of the
settings; ``linear`` and ``linear-rect`` are a trained linear layer with cross-entropy, the usual baseline.
Those named ``-rect`` have Rect, which pulls harder towards rare classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedrobust.data.records import Records
from fedrobust.data.scratch import on_disk
from fedrobust.errors import UserError
from fedrobust.federation import ClientMetrics, GradientHook, Layout, Vector
from fedrobust.learners import devices
from fedrobust.learners.attention import add_attention
from fedrobust.learners.backbones import build_backbone, replace_module
from fedrobust.learners.base import Fitted, LabelledImages, Prediction, State
from fedrobust.learners.batches import even_chunks, report_of, shuffled_batches
from fedrobust.learners.classifier import Classifier, view_of
from fedrobust.learners.etf import simplex_etf
from fedrobust.learners.features import called, entering, last_layer
from fedrobust.learners.flat import FlatModule
from fedrobust.learners.lazy_pixels import LazyPixels
from fedrobust.learners.losses import loss_of, mutual_kl
from fedrobust.learners.optimisers import FlatOptimiser, Masked, optimiser_for
from fedrobust.learners.presentation import Presentation
from fedrobust.learners.pretrained import Backbone, load_initial
from fedrobust.learners.pruning import Pruner
from fedrobust.learners.side_by_side import EachNetwork, side_by_side
from fedrobust.learners.spec import LearnerSpec
from fedrobust.seeding import torch_generator, torch_seeded

__all__ = ["MutualLearner"]

#: Dimension of the features that meet the frame; more only where the classes need it.
FEATURES = 64

#: Images predicted at a time at most: what fits a core's caches (128 may take twice as long) or fills a GPU.
_AT_ONCE = {"cpu": 64, "cuda": 1024}


class MutualLearner:
    """Trains and evaluates the networks of one hospital; see the module's text.

    Parameters
    ----------
    spec : LearnerSpec
    classes : int
        K.
    channels : int
        1 or 3.
    size : tuple of int
        Height and width of the images.

    Raises
    ------
    UserError
        If the backbone is unknown or cannot take such images, or the device is absent.
    """

    #: What `fit` reports beside the number of images; what begins with "class-" has a number for each class.
    reports = frozenset(
        {"loss", "last-loss", "received-loss", "class-losses", "class-epoch-losses", "class-counts"}
    )

    def __init__(self, spec: LearnerSpec, classes: int, channels: int, size: tuple[int, int]) -> None:
        """Build the networks with their seeded initial weights."""
        self._spec = spec
        self._classes = classes
        self._device = devices.device_named(spec.device)
        if spec.precision == "bf16" and self._device.type == "cpu":
            raise UserError("--precision bf16 is for a GPU, such as --device cuda:0; on the CPU leave it out")
        self._loss = loss_of(spec)
        outputs = max(FEATURES, classes) if spec.fixed_frame else classes
        self.frame = simplex_etf(classes, outputs, spec.seed).to(self._device) if spec.fixed_frame else None
        networks: list[nn.Module] = []
        self._backbones: list[Backbone] = []
        for number in range(spec.networks):
            with torch_seeded(spec.seed, "weights", number):
                networks.append(build_backbone(spec.backbone, channels, outputs, size))
                self._backbones.append(Backbone.of(networks[-1]))
                if spec.attention != "none":
                    add_attention(networks[-1], spec.attention, channels, size)
        self._networks = nn.ModuleList(networks)
        self._norms = [m for m in self._networks.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._flat = FlatModule(self._networks, self._device)
        self._present = Presentation(spec.augment, spec.adversary, self._networks, self._attack_loss)
        self._pruner = Pruner(self._networks, spec.pruning) if spec.pruning else None
        self._seeded = State(*self._flat.save())

    @cached_property
    def _initial(self) -> State:
        state = self._seeded
        if self._spec.init is not None:
            self._flat.load(state.parameters, state.buffers)
            load_initial(self._spec.init, self._networks, self._backbones, self.frame)
            state = State(*self._flat.save())
        return self.settled(state, None, 0)

    @cached_property
    def layout(self) -> Layout:
        """Return where the networks' layers lie in a state's vectors, under the names of the model file."""
        parameters, buffers = self._flat.shapes("networks.")
        return Layout.of(parameters, buffers)

    def initial(self) -> State:
        """Return the initial state, seeded or from the file of the settings.

        Only the server asks for it: hospitals train from what they receive and need no such file.
        """
        return self._initial

    def settled(self, state: State, sent: State | None, round: int) -> State:
        """Return what is kept of a round's new model: without its pruned weights; see `Learner.settled`."""
        if self._pruner is None or not self._pruner.prunes(round + 1):
            return state
        before = torch.from_numpy(np.array(sent.parameters)) if sent and self._pruner.prunes(round) else None
        pruned = self._pruner.pruned(torch.from_numpy(np.array(state.parameters)), before)
        return State(pruned.numpy(), state.buffers)

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
    ) -> Fitted:
        """Train `local_epochs` epochs from the state; see `Learner.fit`.

        The optimiser starts from zero in every round, so a hospital keeps nothing between rounds.
        """
        spec = self._spec
        with (
            side_by_side(self._networks, self._device) as each,
            devices.repeatable(self._device),
            torch_seeded(spec.seed, "layers", round, client),
        ):
            self._flat.load(state.parameters, state.buffers)
            images = self._all_pixels(records.images)
            labels = torch.from_numpy(np.ascontiguousarray(records.labels)).to(self._device)
            counts = torch.from_numpy(records.counts()).to(self._device)
            before = self._losses(images, labels, each) if received else None
            shuffle = torch_generator(spec.seed, "batches", round, client)
            optimiser = self._optimiser(round, lr)
            self._networks.train()
            means: list[Tensor] = []
            sizes: list[int] = []
            met = torch.zeros(len(labels), device=self._device)
            for _ in range(epochs or spec.local_epochs):
                means, sizes = [], []
                for batch in shuffled_batches(len(labels), spec.batch_size, shuffle, self._device):
                    part = self._present(images[batch], labels[batch]), labels[batch], counts
                    # One value has no variance: BatchNorm falls back on its running statistics.
                    for norm in self._norms:
                        norm.train(len(batch) > 1)
                    mean, met[batch] = self._step(*part, each, optimiser, gradient_hook)
                    if radius is not None:
                        self._flat.project(state.parameters, radius)
                    means.append(mean)
                    sizes.append(len(batch))
            # Read at the end of an epoch: on a GPU each reading would wait for the step.
            losses = torch.stack(means).tolist()
            parameters, buffers = self._flat.save()
        values = report_of(records, losses, sizes, met.double().cpu().numpy(), before)
        return Fitted(State(parameters, buffers), ClientMetrics(len(labels), values))

    def predict(
        self,
        state: State,
        images: NDArray[np.uint8] | NDArray[np.float32],
        labels: NDArray[np.int64],
        views: int = 1,
    ) -> Prediction:
        """Average the networks' class probabilities; see `Learner.predict`.

        Batches are spread over torch's threads, each batch on one of them: the same bits on any number of
        cores.
        """
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        self._flat.load(state.parameters, state.buffers)
        self._networks.eval()

        def predicted(part: slice) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                answers = torch.from_numpy(np.ascontiguousarray(labels[part])).to(self._device)
                pixels = self._pixels(images[part])
                seen = [view_of(pixels, number) for number in range(views)]
                scores = [self._classified(network(view)) for view in seen for network in self._networks]
                probabilities = torch.stack([self._logits(s).softmax(1) for s in scores]).mean(0)
                return probabilities, torch.stack([self._loss.each(s, answers) for s in scores]).mean(0)

        chunks = self._chunks(len(labels))
        with (
            devices.repeatable(self._device),
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            parts = list(pool.map(predicted, chunks) if threads > 1 else map(predicted, chunks))
        probabilities, losses = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        each = losses.double().cpu()
        return Prediction(probabilities.double().cpu().numpy(), each.numpy(), float(each.mean().item()))

    def classifier(self, state: State, views: int = 1) -> Classifier:
        """Return the networks as one differentiable module; see `Learner.classifier`."""
        self._flat.load(state.parameters, state.buffers)
        return Classifier(self._networks, self.frame, self._loss.temperature, views)

    def gradients(self, state: State, batches: Iterable[LabelledImages]) -> list[Vector]:
        """Return the gradient of each batch's mean loss; see `Learner.gradients`."""
        self._flat.load(state.parameters, state.buffers)
        self._networks.eval()
        gradient = self._flat.parameters.grad
        assert gradient is not None
        ends = np.cumsum([sum(p.numel() for p in network.parameters()) for network in self._networks])
        found = [(np.empty(len(gradient), np.float32), *batch) for batch in batches]

        def added(number: int) -> None:
            mine = slice(ends[number - 1] if number else 0, ends[number])
            for whole, images, labels in found:
                gradient[mine].zero_()
                answers = torch.from_numpy(np.ascontiguousarray(labels)).to(self._device)
                for part in self._chunks(len(labels)):
                    each = self._loss.each(self._score(number, self._pixels(images[part])), answers[part])
                    (each.sum() / len(self._networks) / len(labels)).backward()  # type: ignore[no-untyped-call]
                whole[mine] = gradient[mine].cpu().numpy()

        with side_by_side(self._networks, self._device) as each_network, devices.repeatable(self._device):
            each_network(added)
        return [whole for whole, *_ in found]

    def attacked(
        self, state: State, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return images in [0, 1] as adversarial training attacks them; as they are without it."""
        self._flat.load(state.parameters, state.buffers)
        self._networks.eval()
        with devices.repeatable(self._device), torch_seeded(self._spec.seed, "attacked"):
            parts = [
                self._present.attacked(
                    torch.tensor(images[part], device=self._device),
                    torch.tensor(labels[part], device=self._device),
                )
                for part in self._chunks(len(labels))
            ]
        return torch.cat(parts).cpu().numpy()

    def features(self, state: State, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return what enters each network's last layer with weights, by that layer's name in the layout."""
        self._flat.load(state.parameters, state.buffers)
        self._networks.eval()
        with devices.repeatable(self._device), torch.no_grad():
            chunks = [self._pixels(images[part]) for part in self._chunks(len(images))]
            entered = [entering(network, last_layer(network), chunks) for network in self._networks]
        return {
            f"networks.{number}.{last_layer(network)}.weight": found.cpu().numpy()
            for number, (network, found) in enumerate(zip(self._networks, entered, strict=True))
        }

    def logits(self, parameters: Tensor, buffers: NDArray[np.float32], images: Tensor) -> Tensor:
        """Return log-probabilities as a function of a state and images; see `ClassifyingLearner.logits`."""
        named = self._flat.tensors(parameters.to(self._device), torch.tensor(buffers, device=self._device))
        self._networks.eval()
        outputs = [
            called(network, named, f"{number}.", (images.to(self._device) - 0.5) * 4)
            for number, network in enumerate(self._networks)
        ]
        each = [self._logits(self._classified(one)).log_softmax(1) for one in outputs]
        return torch.stack(each).mean(0).to(parameters.device)

    def feature_networks(self, state: State) -> list[nn.Module]:
        """Return copies of the networks that end in features: before the frame, or the last linear layer."""
        self._flat.load(state.parameters, state.buffers)
        found = []
        for network in self._networks:
            copied = copy.deepcopy(network)
            if self.frame is None:
                replace_module(copied, last_layer(copied), nn.Identity())
            found.append(copied)
        return found

    def named_tensors(self, state: State) -> dict[str, NDArray[np.float32]]:
        """Return both networks' tensors as ``networks.<number>.<layer>`` and the frame as ``frame``."""
        named = {
            f"networks.{name}": t for name, t in self._flat.named(state.parameters, state.buffers).items()
        }
        if self.frame is not None:
            named["frame"] = self.frame.cpu().numpy()
        return named

    def _chunks(self, n: int) -> list[slice]:
        return even_chunks(n, _AT_ONCE.get(self._device.type, 256))

    def _all_pixels(self, images: NDArray[np.uint8]) -> Tensor | LazyPixels:
        """Return a hospital's images as floats, or what makes floats of a batch where they are many."""
        if on_disk(images, 4 * images.size):
            return LazyPixels(images, self._pixels)
        return self._pixels(images)

    def _pixels(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        """Move images to the device, centred to about [-2, 2]."""
        tensor = torch.tensor(images, device=self._device)
        if tensor.dtype == torch.uint8:
            tensor = tensor.float().div_(255)
        return tensor.sub_(0.5).mul_(4)

    def _optimiser(self, round: int, lr: float) -> FlatOptimiser:
        """Return a fresh optimiser of the loaded model, whose pruned weights become and stay zero."""
        flat = self._flat.parameters
        optimiser = optimiser_for(self._spec.optimizer, flat, lr, self._spec.weight_decay)
        if self._pruner is None or not self._pruner.prunes(round):
            return optimiser
        return Masked(optimiser, flat, self._pruner.kept(flat.detach()))

    def _attack_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the networks' sum of losses, shape (), which an attack on images climbs."""
        scores = [self._trained_score(number, images) for number in range(len(self._networks))]
        return torch.stack([self._loss.each(s, labels).sum() for s in scores]).sum()

    def _trained_score(self, number: int, images: Tensor) -> Tensor:
        """Return a network's scores in training, its layers in the precision of the settings; (n, K)."""
        if self._spec.precision == "float32":
            return self._score(number, images)
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            outputs = self._networks[number](images)
        return self._classified(outputs.float())

    def _score(self, number: int, images: Tensor) -> Tensor:
        """Return a network's outputs: cosines with the frame, or a linear layer's logits; (n, K)."""
        return self._classified(self._networks[number](images))

    def _classified(self, outputs: Tensor) -> Tensor:
        return outputs if self.frame is None else functional.normalize(outputs, dim=1) @ self.frame

    def _logits(self, scores: Tensor) -> Tensor:
        return scores / self._loss.temperature

    def _step(
        self,
        images: Tensor,
        labels: Tensor,
        counts: Tensor,
        each: EachNetwork,
        optimiser: FlatOptimiser,
        gradient_hook: GradientHook | None,
    ) -> tuple[Tensor, Tensor]:
        """Make one optimiser step for all networks.

        Returns their mean supervised loss on the batch, shape (), and that of each record before the step
        without Rect, shape (n,).
        """
        scores = each(lambda number: self._trained_score(number, images))
        answers = [self._logits(s.detach()) for s in scores]

        def learnt(number: int) -> tuple[Tensor, Tensor]:
            own = scores[number]
            supervised = loss = self._loss.trained(own, labels, counts).mean()
            if len(scores) == 2 and self._spec.kl_weight:
                loss = loss + self._spec.kl_weight * mutual_kl(self._logits(own), answers[1 - number])
            loss.backward()  # type: ignore[no-untyped-call]
            return supervised.detach(), self._loss.each(own.detach(), labels)

        assert self._flat.parameters.grad is not None
        self._flat.parameters.grad.zero_()
        supervised, losses = zip(*each(learnt), strict=True)
        if gradient_hook is not None:
            self._flat.gradient_hook(gradient_hook)
        optimiser.step()
        return torch.stack(supervised).mean(), torch.stack(losses).mean(0)

    def _losses(self, images: Tensor | LazyPixels, labels: Tensor, each: EachNetwork) -> NDArray[np.float64]:
        """Return each record's supervised loss under the loaded state, mean over networks, shape (n,)."""
        self._networks.eval()

        @torch.no_grad()
        def found(number: int) -> Tensor:
            chunks = self._chunks(len(labels))
            return torch.cat([self._loss.each(self._score(number, images[c]), labels[c]) for c in chunks])

        return torch.stack(each(found)).mean(0).double().cpu().numpy()

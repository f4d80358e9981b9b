"""The synthesis learner: images of any size, the same bits, and a discriminator that stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedrobust.data.records import Records
from fedrobust.learners.base import State
from fedrobust.learners.choices import Synthesis
from fedrobust.learners.gan import GanLearner
from fedrobust.learners.gan_networks import Discriminator, Generator, halvings
from fedrobust.learners.spec import LearnerSpec


def learner(**options: Any) -> GanLearner:
    options = {"latent": 4, "width": 4} | options
    spec = LearnerSpec(seed=3, batch_size=8, local_epochs=1, synthesis=Synthesis(**options))
    return GanLearner(spec, 3, 1, (16, 16))


def records(count: int = 20) -> Records:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.integers(0, 80, (count, 1, 16, 16)) + 80 * labels[:, None, None, None]
    return Records(images.astype(np.uint8), labels, ("a", "b", "c"))


@pytest.mark.parametrize(("channels", "size"), [(1, (16, 16)), (3, (28, 28)), (1, (64, 40)), (3, (33, 64))])
def test_networks_take_any_size_and_colour(channels: int, size: tuple[int, int]) -> None:
    labels = torch.tensor([0, 1, 1])
    made = Generator(4, 4, 2, channels, size)(torch.zeros(3, 4), labels)
    assert made.shape == (3, channels, *size) and float(made.detach().abs().max()) <= 1
    scores, logits = Discriminator(4, 2, channels, size, normalised=True)(made)
    assert scores.shape == (3,) and logits.shape == (3, 2)
    assert max(-(-side // 2 ** halvings(size)) for side in size) <= 4


def test_a_class_scales_and_shifts_the_layers_of_the_generator_and_noise_still_counts() -> None:
    one = Generator(4, 4, 2, 1, (16, 16)).eval()
    with torch.no_grad():
        one.norms[0].shift.weight[1] += 1
        noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
        made = one(noise[[0, 0, 1]], torch.tensor([0, 1, 1]))
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])


def test_a_steep_discriminator_is_flattened_at_real_images() -> None:
    """The penalty's gradient lowers the slope: after the same steps it is smaller than without it."""

    def slope(r1: float) -> float:
        one, memory = learner(r1=r1), {}
        one.fit(one.initial(), records(), round=1, client=0, lr=1e-2, epochs=4, memory=memory)
        module = one._discriminator.module
        images = torch.tensor(records().images).float().div_(127.5).sub_(1).requires_grad_()
        (found,) = torch.autograd.grad(module(images)[0].sum(), images)
        return float(found.flatten(1).norm(dim=1).mean())

    assert slope(10.0) < 0.5 * slope(0.0)


@pytest.mark.parametrize(
    "options",
    [{}, {"loss": "bce", "spectral_norm": False, "gradient_penalty": 10.0}, {"average_discriminator": True}],
)
def test_training_follows_from_its_arguments_and_memory_alone(options: dict[str, Any]) -> None:
    def trained(between: bool) -> tuple[Any, ...]:
        one, memory = learner(**options), {}
        state = one.initial()
        for round in (1, 2):
            more = {"memory": memory} if one.remembers else {}
            fitted = one.fit(state, records(), round=round, client=1, lr=1e-3, **more)
            state = fitted.state
            if between:
                # Another hospital's training in the same process changes nothing.
                one.fit(one.initial(), records(9), round=round, client=0, lr=1e-3)
        return state, fitted.report, memory

    first, second = trained(between=False), trained(between=True)
    assert np.array_equal(first[0].parameters, second[0].parameters)
    assert np.array_equal(first[0].buffers, second[0].buffers)
    assert first[1] == second[1] and set(first[1].values) == GanLearner.reports
    assert all(np.array_equal(first[2][key], second[2][key]) for key in first[2])


def test_the_discriminator_is_what_the_hospital_remembers() -> None:
    one, memory = learner(), {}
    fitted = one.fit(one.initial(), records(), round=1, client=0, lr=1e-3, memory=memory)
    assert float(memory["steps"]) == 3
    kept = one.fit(fitted.state, records(), round=2, client=0, lr=1e-3, memory=memory)
    without = one.fit(fitted.state, records(), round=2, client=0, lr=1e-3)
    assert float(memory["steps"]) == 6
    assert not np.array_equal(kept.state.parameters, without.state.parameters)
    layers = one.named_tensors(fitted.state)
    assert all(name.startswith("generator.") for name in layers)
    assert [layer.name for layer in one.layout.parameters + one.layout.buffers] == list(layers)


def test_an_averaged_discriminator_travels_instead() -> None:
    one, staying = learner(average_discriminator=True), learner()
    assert not one.remembers and staying.remembers
    assert one.initial().parameters.size > staying.initial().parameters.size
    names = one.named_tensors(one.initial())
    assert any(name.startswith("discriminator.") for name in names)


def test_the_gradient_hook_changes_the_generator_alone() -> None:
    one = learner()
    state = one.initial()
    still = one.fit(state, records(), round=1, client=0, lr=1e-3, gradient_hook=lambda p, g: 0 * g)
    assert np.array_equal(still.state.parameters, state.parameters)


def test_images_follow_from_seed_and_purpose_and_are_refused_where_not_finite() -> None:
    one, labels = learner(), np.array([0, 1, 2, 2])
    state = one.initial()
    images = one.sample(state, labels, "test")
    assert images is not None and images.dtype == np.uint8 and images.shape == (4, 1, 16, 16)
    assert np.array_equal(images, one.sample(state, labels, "test"))
    assert not np.array_equal(images, one.sample(state, labels, "val"))
    broken = State(np.full_like(state.parameters, np.nan), state.buffers)
    assert one.sample(broken, labels, "test") is None


def test_classes_are_learnt() -> None:
    """Three levels of grey: the generator has them in the right order after a few epochs."""
    spec = LearnerSpec(batch_size=10, local_epochs=20, synthesis=Synthesis(latent=4, width=8))
    one = GanLearner(spec, 3, 1, (16, 16))
    state = one.fit(one.initial(), records(60), round=1, client=0, lr=2e-3).state
    images = one.sample(state, np.repeat([0, 1, 2], 20), "test")
    assert images is not None
    levels = images.reshape(3, -1).mean(axis=1)
    assert levels == pytest.approx([40, 120, 200], abs=35)

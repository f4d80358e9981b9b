from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedrobust.learners.flat import Adam, FlatModule

CPU = torch.device("cpu")


def network(seed: int = 0) -> nn.Sequential:
    """Return a small network with BatchNorm, so with running statistics and a counter."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 36, 5),
        nn.BatchNorm1d(5),
    )


def images(n: int = 6, seed: int = 1) -> Tensor:
    """Return random images of 8 x 8 pixels."""
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def joined(module: nn.Module) -> np.ndarray:
    """Return all parameters of a module in its order, as one vector."""
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def test_flattening_changes_neither_the_numbers_nor_the_outputs() -> None:
    plain = network()
    flat = FlatModule(copy.deepcopy(plain), CPU)
    np.testing.assert_array_equal(flat.parameters.detach().numpy(), joined(plain))
    assert torch.equal(flat.module.eval()(images()), plain.eval()(images()))


def test_parameters_and_buffers_are_views_of_the_flat_tensors() -> None:
    module = network()
    flat = FlatModule(module, CPU)
    home = flat.parameters.untyped_storage().data_ptr()
    assert all(p.untyped_storage().data_ptr() == home for p in module.parameters())
    with torch.no_grad():
        flat.parameters.fill_(0.25)
        flat.buffers.fill_(0.75)
    assert all(bool((p == 0.25).all()) for p in module.parameters())
    assert all(bool((b == 0.75).all()) for b in module.buffers() if b.is_floating_point())
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = 9
    assert flat.parameters[0] == 9


def test_save_and_load_are_a_roundtrip() -> None:
    first, second = FlatModule(network(0), CPU), FlatModule(network(1), CPU)
    first.module.train()(images())
    parameters, buffers = first.save()
    assert parameters.dtype == buffers.dtype == np.float32
    assert not torch.equal(first.module.eval()(images()), second.module.eval()(images()))
    second.load(parameters, buffers)
    assert torch.equal(first.module.eval()(images()), second.module.eval()(images()))
    again = second.save()
    np.testing.assert_array_equal(again[0], parameters)
    np.testing.assert_array_equal(again[1], buffers)


def test_save_and_load_copy() -> None:
    flat = FlatModule(network(), CPU)
    parameters, buffers = flat.save()
    kept = parameters.copy(), buffers.copy()
    with torch.no_grad():
        flat.parameters.add_(1)
        flat.buffers.add_(1)
    np.testing.assert_array_equal(parameters, kept[0])
    np.testing.assert_array_equal(buffers, kept[1])
    flat.load(parameters, buffers)
    parameters[:], buffers[:] = 7, 7
    np.testing.assert_array_equal(flat.save()[0], kept[0])
    np.testing.assert_array_equal(flat.save()[1], kept[1])


def test_read_only_arrays_can_be_loaded() -> None:
    flat = FlatModule(network(), CPU)
    parameters, buffers = (array + 1 for array in flat.save())
    parameters.setflags(write=False)
    buffers.setflags(write=False)
    flat.load(parameters, buffers)
    np.testing.assert_array_equal(flat.save()[0], parameters)
    with torch.no_grad():
        flat.parameters.zero_()
    assert parameters.any()


@pytest.mark.parametrize("lengths", [(-1, 0), (1, 0), (0, -1)])
def test_a_state_of_another_length_is_refused(lengths: tuple[int, int]) -> None:
    flat = FlatModule(network(), CPU)
    sizes = [array.size + more for array, more in zip(flat.save(), lengths, strict=True)]
    with pytest.raises((RuntimeError, ValueError)):
        flat.load(np.zeros(sizes[0], np.float32), np.zeros(sizes[1], np.float32))


def test_gradients_add_up_in_the_flat_gradient() -> None:
    plain = network()
    flat = FlatModule(copy.deepcopy(plain), CPU)
    assert flat.parameters.grad is not None and not flat.parameters.grad.any()
    address = flat.parameters.grad.data_ptr()
    for module in (plain, flat.module):
        for seed in (1, 2):
            module.train()(images(seed=seed)).square().sum().backward()
    wanted = torch.cat([p.grad.reshape(-1) for p in plain.parameters() if p.grad is not None])
    torch.testing.assert_close(flat.parameters.grad, wanted)
    assert flat.parameters.grad.data_ptr() == address
    assert wanted.abs().max() > 0.1
    flat.parameters.grad.zero_()
    assert all(p.grad is not None and not p.grad.any() for p in flat.module.parameters())


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_on_the_flat_vector_is_adam_on_the_modules_parameters(weight_decay: float) -> None:
    plain = network()
    flat = FlatModule(copy.deepcopy(plain), CPU)
    targets = torch.arange(6) % 5
    one = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=weight_decay)
    other = torch.optim.Adam([flat.parameters], lr=0.01, weight_decay=weight_decay)
    start = flat.save()[0]
    for step in range(8):
        for module, optimiser in ((plain, one), (flat.module, other)):
            loss = nn.functional.cross_entropy(module.train()(images(seed=step)), targets)
            if optimiser is one:
                optimiser.zero_grad()
            else:
                assert flat.parameters.grad is not None
                flat.parameters.grad.zero_()
            loss.backward()
            optimiser.step()
    assert np.abs(flat.save()[0] - start).max() > 0.03
    # Adam divides by tiny gradients' own size, which blows up their last bits.
    np.testing.assert_allclose(flat.save()[0], joined(plain), atol=1e-4)
    running = torch.cat([b.reshape(-1) for b in plain.buffers() if b.is_floating_point()])
    np.testing.assert_allclose(flat.save()[1], running.numpy(), atol=1e-4)


def test_running_statistics_are_buffers_and_counters_are_not() -> None:
    module = network()
    flat = FlatModule(module, CPU)
    assert flat.buffers.shape == (2 * 3 + 2 * 5,)
    before = flat.save()[1]
    module.train()(images())
    after = flat.save()[1]
    assert (after != before).all()
    np.testing.assert_array_equal(after[:3], module[1].running_mean.numpy())
    np.testing.assert_array_equal(after[3:6], module[1].running_var.numpy())
    assert int(module[1].num_batches_tracked) == 1
    flat.load(flat.save()[0], before)
    assert int(module[1].num_batches_tracked) == 1
    assert not module[1].running_mean.any()


def test_a_module_without_buffers() -> None:
    flat = FlatModule(nn.Linear(3, 2), CPU)
    parameters, buffers = flat.save()
    assert parameters.shape == (8,) and buffers.shape == (0,)
    flat.load(parameters + 1, buffers)
    np.testing.assert_array_equal(flat.save()[0], parameters + 1)


def test_named_cuts_a_state_as_the_module_does() -> None:
    module = network()
    flat = FlatModule(module, CPU)
    module.train()(images())
    named = flat.named(*flat.save())
    wanted = {name: t.numpy() for name, t in module.state_dict().items() if t.is_floating_point()}
    assert set(named) == set(wanted) and not any("num_batches" in name for name in named)
    for name, array in wanted.items():
        assert named[name].shape == array.shape
        np.testing.assert_array_equal(named[name], array)


def test_named_views_the_given_state_and_not_the_modules_own() -> None:
    flat = FlatModule(network(), CPU)
    parameters, buffers = flat.save()
    parameters[:] = np.arange(parameters.size)
    named = flat.named(parameters, buffers)
    np.testing.assert_array_equal(named["0.weight"].ravel(), np.arange(27))
    assert named["1.weight"].tolist() == [27, 28, 29]
    assert all(
        np.shares_memory(array, parameters) or np.shares_memory(array, buffers) for array in named.values()
    )


def test_adam_takes_the_steps_of_torchs_own_to_the_bit() -> None:
    start = torch.randn(500, generator=torch.Generator().manual_seed(3))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Adam(ours, lr=0.01, weight_decay=0.1)
    peer = torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1, fused=True)
    for step in range(5):
        gradient = torch.randn(500, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        peer.step()
        assert torch.equal(ours, theirs)
    assert not torch.equal(ours.detach(), start)


def test_a_gradient_can_be_bent_in_place() -> None:
    flat = FlatModule(network(), CPU)
    flat.module(images()).sum().backward()
    assert flat.parameters.grad is not None
    parameters, gradient = joined(flat.module), flat.parameters.grad.numpy().copy()
    flat.gradient_hook(lambda p, g: 2.0 * g + p)
    np.testing.assert_allclose(flat.parameters.grad.numpy(), 2 * gradient + parameters, rtol=1e-6)
    np.testing.assert_array_equal(joined(flat.module), parameters)
    # The layers still see the one flat gradient.
    layers = np.concatenate([p.grad.numpy().ravel() for p in flat.module.parameters() if p.grad is not None])
    np.testing.assert_array_equal(layers, flat.parameters.grad.numpy())

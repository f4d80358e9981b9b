"""The rules that train with the server's images, against definitions in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import learner_of, tiny
from helpers import restored
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from fedrobust.battery.inputs import CLASSES, ToyServer, a_round, deltas
from fedrobust.errors import UserError
from fedrobust.federation import Model, Updates
from strategies.backdoor_indicator import BackdoorIndicator
from strategies.fedredefense import FedREDefense, _first
from strategies.skymask import SkyMask, _with_last

Floats = np.ndarray[Any, Any]


def toy_loss(parameters: torch.Tensor, images: Floats, labels: Floats) -> torch.Tensor:
    """Return the toy model's mean loss on images, differentiable."""
    x = torch.tensor(images.reshape(len(images), -1) / 255.0)
    logits = x @ parameters[:-CLASSES].reshape(CLASSES, -1).T + parameters[-CLASSES:]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels))


def sky_masks(updates: Updates, server: ToyServer, epochs: int, lr: float) -> Floats:
    """Return the logits of the masks by automatic differentiation, as the authors' networks learn them."""
    base = updates[0]
    own = server.trained(base.global_parameters, base.global_buffers, updates.round)
    models = torch.tensor(np.stack([u.parameters for u in [*updates, own]]).astype(np.float64))
    logits = torch.ones_like(models, requires_grad=True)
    last = np.inf
    for epoch in range(epochs):
        share = torch.sigmoid(logits)
        loss = toy_loss((share * models).sum(0) / share.sum(0), server.images, server.labels)
        (slope,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= (lr * slope).clamp(-1, 1)
        if epoch % 10 == 0:
            if last - loss.item() < 0.01:
                break
            last = loss.item()
    return logits.detach().numpy()


def trained_round(n: int, bad: int = 0, seed: int = 0) -> Updates:
    """Return a round of hospitals that learn what the server does, the first of them its opposite."""
    server = ToyServer()
    start = a_round(deltas(1))[0]
    learnt = server.trained(start.global_parameters, start.global_buffers, 1).delta
    rng = np.random.default_rng(seed)
    noise = 0.2 * np.linalg.norm(learnt) / len(learnt) ** 0.5 * rng.standard_normal((n, len(learnt)))
    return a_round(learnt * np.where(np.arange(n) < bad, -1, 1)[:, None] + noise)


@pytest.mark.parametrize(("epochs", "lr"), [(1, 50.0), (8, 200.0), (20, 1e7)])
def test_skymask_learns_the_masks_of_automatic_differentiation(epochs: int, lr: float) -> None:
    server, updates = ToyServer(), a_round(deltas(6))
    rule = SkyMask(epochs=epochs, lr=lr)
    own = server.trained(updates.global_parameters, updates.global_buffers, 1)
    found = rule._masks(updates, own, server)
    np.testing.assert_allclose(found, sky_masks(updates, server, epochs, lr), atol=2e-3)
    assert np.ptp(found) > 1e-2


def test_skymask_divides_masks_as_principal_components_and_a_mixture_do() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        which = np.arange(12) < rng.integers(2, 6)
        bits = rng.random((12, 300)) < np.where(which, 0.8, 0.3)[:, None]
        points = PCA(2).fit_transform(bits.astype(np.float64))
        wanted = GaussianMixture(2, n_init=10, random_state=0).fit_predict(points)
        x = bits.astype(np.float64)
        found = _with_last(x @ x.T)
        assert found.tolist() == (wanted[:-1] == wanted[-1]).tolist() == (~which[:-1]).tolist()
    assert _with_last(np.full((5, 5), 7.0)).all()


def test_skymask_flags_what_harms_the_servers_model() -> None:
    updates, rule = trained_round(9, bad=3), SkyMask(lr=1000)
    rule.server = ToyServer()
    verdict = rule.weigh(updates).checked(9)
    assert np.asarray(verdict.flagged).tolist() == [True] * 3 + [False] * 6
    assert np.asarray(verdict.score)[:3].min() > np.asarray(verdict.score)[3:].max()
    few = rule.weigh(Updates(updates[:2])).checked(2)
    assert np.asarray(few.weight).tolist() == [1, 1]
    with pytest.raises(UserError, match="SkyMask needs images of the server's own"):
        SkyMask().weigh(updates)


def test_backdoor_indicator_learns_its_task_before_the_round() -> None:
    rule, server = BackdoorIndicator(images=9, epochs=4, batch=9, lr=0.3, mu=2.0), ToyServer()
    rule.server = server
    base = a_round(deltas(1))[0]
    before = base.global_parameters.copy()
    images, labels = rule._task(server, 0, 3)
    assert images.shape == (9, *server.images.shape[1:]) and np.bincount(labels).tolist() == [3, 3, 3]
    start = torch.tensor(before.astype(np.float64))
    w = start.clone()
    for _ in range(4):
        w.requires_grad_(True)
        away = torch.linalg.vector_norm(w - start)
        # At the global model itself the pull has no direction.
        pull = away if away > 0 else 0.0
        (slope,) = torch.autograd.grad(toy_loss(w, images, labels) + pull, w)
        w = (w - 0.3 * slope).detach()
    sent = rule.before_round(Model(base.global_parameters, base.global_buffers, 3))
    np.testing.assert_allclose(sent.parameters, w.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(base.global_parameters, before)
    np.testing.assert_array_equal(sent.buffers, base.global_buffers)
    other, _ = rule._task(server, 0, 4)
    assert not np.array_equal(other, images)


def test_backdoor_indicator_flags_who_remembers_a_label() -> None:
    rule, server = BackdoorIndicator(images=12, threshold=0.8), ToyServer()
    rule.server = server
    updates = a_round(20 * deltas(8))
    images, labels = rule._task(server, updates.seed, updates.round)
    kept = []
    for update in updates:
        answers = server.probabilities(update.parameters, updates.global_buffers, images).argmax(axis=1)
        kept.append(max(float((answers[labels == k] == k).mean()) for k in range(CLASSES)))
    found, verdict = rule.combine(updates)
    np.testing.assert_allclose(verdict.score, kept)
    out = np.array(kept) >= 0.8
    assert 0 < out.sum() < 8 and np.asarray(verdict.flagged).tolist() == out.tolist()
    np.testing.assert_allclose(found, updates.mean(~out))
    strict = BackdoorIndicator(images=12, threshold=0.01, epochs=1)
    strict.server = server
    strict.before_round(Model(updates.global_parameters + 1, updates.global_buffers, 1))
    np.testing.assert_array_equal(strict.combine(updates)[0], updates.global_parameters + 1)


def reconstruction_error(rule: FedREDefense, server: ToyServer, start: Floats, end: Floats) -> float:
    """Return one hospital's least error, with all steps written out."""
    begun = _first(server, 0)
    images, labels, rate = (
        torch.tensor(begun[n].astype(np.float64), requires_grad=True) for n in ("images", "labels", "rate")
    )
    paces = [(images, 0.25 * rule.lr), (labels, rule.lr), (rate, 0.1 * rule.lr)]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in paces]
    w0, w1 = (torch.tensor(w.astype(np.float64)) for w in (start, end))
    errors = []
    for count in range(1, rule.iterations + 1):
        w = w0.clone().requires_grad_(True)
        for _ in range(rule.steps):
            logits = images.flatten(1) @ w[:-CLASSES].reshape(CLASSES, -1).T + w[-CLASSES:]
            loss = torch.nn.functional.cross_entropy(logits, labels.softmax(1))
            w = w - rate * torch.autograd.grad(loss, w, create_graph=True)[0]
        error = ((w - w1) ** 2).sum() / ((w0 - w1) ** 2).sum()
        errors.append(error.item())
        slopes = torch.autograd.grad(error, [images, labels, rate])
        with torch.no_grad():
            # Adam, written out: the class of torch takes a second to import.
            for (p, lr), (m, v), g in zip(paces, moments, slopes, strict=True):
                m.lerp_(g, 0.1)
                v.lerp_(g * g, 0.001)
                p -= lr * (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
    return min(errors)


def test_fedredefense_measures_what_synthetic_images_explain() -> None:
    rule, updates = FedREDefense(iterations=6, steps=3, threshold=0.9), trained_round(4)
    rule.server = server = ToyServer()
    noise = 0.3 * np.random.default_rng(1).standard_normal((1, updates.dimension))
    still = np.zeros_like(noise)
    x = np.concatenate([[u.delta for u in updates], noise, still])
    updates = a_round(x)
    verdict = rule.weigh(updates).checked(6)
    wanted = [
        reconstruction_error(rule, server, u.global_parameters, u.parameters) if u.node < 5 else 0.0
        for u in updates
    ]
    np.testing.assert_allclose(verdict.score, wanted, rtol=1e-3)
    assert wanted[4] > max(wanted[:4])


def test_fedredefense_leaves_out_for_good_and_goes_on_after_a_restart() -> None:
    rule, again = (FedREDefense(iterations=2, threshold=t) for t in (1e-6, 1e-6))
    rule.server = again.server = ToyServer()
    first = rule.weigh(a_round(deltas(2))).checked(2)
    assert np.asarray(first.flagged).all()
    again.load_state(restored(rule.state()))
    for one in (rule, again):
        # The first is out though it now sends nothing; the newcomer sends nothing and stays.
        later = one.weigh(a_round(np.zeros((2, 51)), nodes=[0, 7], round=2)).checked(2)
        assert np.asarray(later.flagged).tolist() == [True, False]
        np.testing.assert_array_equal(later.score, [np.asarray(first.score)[0], 0.0])


def test_logits_of_a_learner_are_its_probabilities_and_have_second_derivatives(tmp_path: Path) -> None:
    learner = learner_of(tiny(tmp_path))
    state = learner.initial()
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16), dtype=np.uint8)
    parameters = torch.tensor(state.parameters, requires_grad=True)
    pixels = torch.tensor(images / np.float32(255), requires_grad=True)
    found = learner.logits(parameters, state.buffers, pixels)
    wanted = learner.predict(state, images, np.zeros(5, np.int64)).probabilities
    np.testing.assert_allclose(found.detach().exp().numpy(), wanted, atol=1e-5)
    (slope,) = torch.autograd.grad(found[:, 0].sum(), parameters, create_graph=True)
    slope.square().sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import easy_records, make_records
from torch import Tensor, nn

from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.learners.backbones import build_backbone
from fedrobust.learners.base import Fitted, State
from fedrobust.learners.etf import simplex_etf
from fedrobust.learners.losses import mutual_kl
from fedrobust.learners.mutual import FEATURES, MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.plugins import PluginSpec
from fedrobust.seeding import torch_generator

EASY = easy_records()
SKEWED = make_records(labels=[0] * 25 + [1] * 6 + [2] * 2, size=(12, 12))  # 33 records, class 3 absent
KINDS = [(head, networks) for head in ("linear", "linear-rect", "etf", "etf-rect") for networks in (1, 2)]
#: With each loss that a head can have.
LOSSES = [
    *((head, networks, "cross-entropy") for head, networks in KINDS),
    *((head, networks, "dot-regression") for head, networks in KINDS if head.startswith("etf")),
]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**options: Any) -> LearnerSpec:
    """Return the specification of a tiny learner."""
    quick: dict[str, Any] = {"backbone": "cnn(width=4)", "batch_size": 16, "local_epochs": 2, "seed": 5}
    chosen = {**quick, **options}
    return LearnerSpec(**{**chosen, "backbone": PluginSpec.parse(chosen["backbone"])})


def learner(records: Records = EASY, **options: Any) -> MutualLearner:
    """Return a learner for these records."""
    _, channels, height, width = records.images.shape
    return MutualLearner(settings(**options), len(records.classes), channels, (height, width))


def fit(
    trained: MutualLearner,
    records: Records = EASY,
    state: State | None = None,
    *,
    round: int = 1,
    client: int = 0,
) -> Fitted:
    """Train from the initial state, or from another."""
    start = trained.initial() if state is None else state
    return trained.fit(start, records, round=round, client=client, lr=3e-3)


def same(one: Fitted, other: Fitted) -> bool:
    """Tell whether two results are the same bits."""
    return bool(
        np.array_equal(one.state.parameters, other.state.parameters)
        and np.array_equal(one.state.buffers, other.state.buffers)
        and repr(one.report) == repr(other.report)
    )


# --- the Kullback-Leibler term ---


def pair_of_logits() -> tuple[Tensor, Tensor]:
    """Return two networks' logits for 9 records of 5 classes."""
    source = torch.Generator().manual_seed(2)
    return 3 * torch.randn(9, 5, generator=source), 3 * torch.randn(9, 5, generator=source)


def softmax64(logits: Any) -> np.ndarray:
    """Return probabilities in float64."""
    wide = np.asarray(logits, np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_kl_is_its_definition_and_not_symmetric() -> None:
    own, peer = pair_of_logits()
    p, q = softmax64(own), softmax64(peer)
    wanted = (q * np.log(q / p)).sum() / len(q)
    assert mutual_kl(own, peer).item() == pytest.approx(wanted, rel=1e-5)
    assert mutual_kl(peer, own).item() == pytest.approx((p * np.log(p / q)).sum() / len(q), rel=1e-5)
    assert abs(mutual_kl(own, peer).item() - mutual_kl(peer, own).item()) > 0.01


def test_kl_of_equal_distributions_is_zero() -> None:
    own, _ = pair_of_logits()
    assert mutual_kl(own, own.clone()).item() == pytest.approx(0, abs=1e-6)
    assert mutual_kl(own, own + 4).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_peer() -> None:
    own, peer = (logits.requires_grad_() for logits in pair_of_logits())
    mutual_kl(own, peer).backward()
    assert peer.grad is None and own.grad is not None
    wanted = (softmax64(own.detach()) - softmax64(peer.detach())) / len(own)
    np.testing.assert_allclose(own.grad.numpy(), wanted, atol=1e-6)


def test_kl_of_a_class_without_any_chance_is_finite() -> None:
    certain = torch.tensor([[200.0, 0.0]])
    assert mutual_kl(torch.tensor([[0.0, 0.0]]), certain).item() == pytest.approx(np.log(2), rel=1e-5)


# --- an independent reimplementation, in plain PyTorch ---


def rebuilt(trained: MutualLearner, state: State, records: Records, chosen: LearnerSpec) -> list[nn.Module]:
    """Return fresh networks that hold a saved state, from its named tensors alone."""
    named = trained.named_tensors(state)
    networks = []
    for number in range(chosen.networks):
        prefix = f"networks.{number}."
        weights = {k.removeprefix(prefix): torch.tensor(v) for k, v in named.items() if k.startswith(prefix)}
        outputs = named["frame"].shape[0] if "frame" in named else len(records.classes)
        network = build_backbone(chosen.backbone, records.images.shape[1], outputs, records.images.shape[2:])
        missing, unexpected = network.load_state_dict(weights, strict=False)
        assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
        networks.append(network)
    return networks


def plain_scores(network: nn.Module, images: Tensor, frame: Tensor | None) -> Tensor:
    """Return logits, or cosines with the frame."""
    made: Tensor = network(images)
    return made if frame is None else (made / made.norm(dim=1, keepdim=True)) @ frame


def temperature_of(chosen: LearnerSpec) -> float:
    """Return what scores are divided by: nothing but 1 for a linear layer."""
    own = {"cross-entropy": 0.2, "dot-regression": 1.0}[chosen.loss]
    given = own if chosen.temperature is None else chosen.temperature
    return 1.0 if chosen.head.startswith("linear") else given


def mutual_weight_of(chosen: LearnerSpec) -> float:
    """Return the weight of the two Kullback-Leibler terms."""
    own = {"cross-entropy": 0.3, "dot-regression": 1.0}[chosen.loss]
    return own if chosen.mutual_weight is None else chosen.mutual_weight


def plain_loss(scores: Tensor, labels: Tensor, chosen: LearnerSpec, counts: Tensor | None = None) -> Tensor:
    """Return the supervised loss of each record; with the hospital's counts by class, Rect's."""
    own = scores[torch.arange(len(labels)), labels]
    if chosen.loss == "cross-entropy" or chosen.head.startswith("linear"):
        # Rect: each class's exponential counts as often as the hospital has images of it.
        logits = scores / temperature_of(chosen)
        logits = logits if counts is None else logits + counts.clamp(min=1).log()
        return logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]
    weight = torch.ones(len(labels))
    if counts is not None:
        present = labels.unique()
        for k in present:
            weight[labels == k] = len(labels) / (len(present) * int((labels == k).sum()))
    return chosen.dr_weight * weight * (own - 1).square() / 2


def plain_pixels(images: np.ndarray) -> Tensor:
    """Return uint8 images centred as the learner does."""
    return (torch.tensor(images).float() / 255 - 0.5) * 4


def plain_frame(trained: MutualLearner, state: State) -> Tensor | None:
    """Return the frame that was saved with the networks."""
    frame = trained.named_tensors(state).get("frame")
    return None if frame is None else torch.tensor(frame)


def plain_fit(
    trained: MutualLearner,
    chosen: LearnerSpec,
    state: State,
    records: Records,
    round: int,
    client: int,
    lr: float,
) -> tuple[list[nn.Module], list[list[float]], Tensor]:
    """Train as the papers say, step by step.

    Returns the networks, each epoch's losses of the batches, a value for each record, and each record's own
    loss when the last epoch met it, before the step and without weights.
    """
    networks = rebuilt(trained, state, records, chosen)
    frame = plain_frame(trained, state)
    optimiser = torch.optim.Adam(
        [p for network in networks for p in network.parameters()], lr=lr, weight_decay=chosen.weight_decay
    )
    images, labels = plain_pixels(records.images), torch.tensor(records.labels)
    shuffle = torch_generator(chosen.seed, "batches", round, client)
    epochs: list[list[float]] = []
    met = torch.zeros(len(labels))
    for _ in range(chosen.local_epochs):
        order = torch.randperm(len(labels), generator=shuffle).tolist()
        batches = [order[at : at + chosen.batch_size] for at in range(0, len(order), chosen.batch_size)]
        if len(batches) > 1 and len(batches[-1]) == 1:
            lonely = batches.pop()
            batches[-1] = batches[-1] + lonely
        epochs.append([])
        for batch in batches:
            scores = [plain_scores(network.train(), images[batch], frame) for network in networks]
            each = [plain_loss(s.detach(), labels[batch], chosen) for s in scores]
            met[batch] = torch.stack(each).mean(0)
            rect = torch.tensor(records.counts()) if chosen.head.endswith("-rect") else None
            supervised = [plain_loss(s, labels[batch], chosen, rect).mean() for s in scores]
            total = torch.stack(supervised).sum()
            if len(networks) == 2:
                p, q = ((s / temperature_of(chosen)).softmax(1) for s in scores)
                weight = mutual_weight_of(chosen)
                # Two losses, L_1 and L_2; in each the other network's answer is a constant.
                total = total + weight * (q.detach() * (q.detach().log() - p.log())).sum(1).mean()
                total = total + weight * (p.detach() * (p.detach().log() - q.log())).sum(1).mean()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            epochs[-1] += [float(sum(s.item() for s in supervised) / len(supervised))] * len(batch)
    return networks, epochs, met


@pytest.mark.parametrize("given", [{"temperature": 0.3, "mutual_weight": 0.7}, {}])
@pytest.mark.parametrize(("head", "networks", "loss"), LOSSES)
def test_fit_is_an_independent_plain_implementation(
    head: str, networks: int, loss: str, given: dict[str, float]
) -> None:
    options = {"head": head, "networks": networks, "loss": loss, "weight_decay": 0.01, **given}
    trained, chosen = learner(SKEWED, **options), settings(**options)
    start = trained.initial()
    fitted = trained.fit(start, SKEWED, round=3, client=2, lr=1e-3)
    plain, epochs, met = plain_fit(trained, chosen, start, SKEWED, 3, 2, 1e-3)
    named, before = trained.named_tensors(fitted.state), trained.named_tensors(start)
    moved = 0.0
    for number, network in enumerate(plain):
        for name, tensor in network.named_parameters():
            name = f"networks.{number}.{name}"
            np.testing.assert_allclose(named[name], tensor.detach().numpy(), atol=2e-5, err_msg=name)
            moved = max(moved, float(np.abs(named[name] - before[name]).max()))
    assert moved > 1e-3  # so that the tolerance means something
    assert fitted.report.values["loss"] == pytest.approx(np.mean(epochs[-1]), rel=1e-4)
    assert fitted.report.values["last-loss"] == pytest.approx(epochs[-1][-1], rel=1e-4)
    assert fitted.report.num_examples == len(SKEWED)
    reported = fitted.report.values["class-epoch-losses"]
    assert isinstance(reported, tuple) and np.isnan(reported[3])
    wanted = [met[torch.tensor(SKEWED.labels) == k].mean().item() for k in range(3)]
    np.testing.assert_allclose(reported[:3], wanted, rtol=1e-3)
    received = fitted.report.values["class-losses"]
    assert isinstance(received, tuple) and np.abs(np.subtract(reported, received)[:3]).max() > 0.01


# --- weights and frame ---


def test_the_two_networks_start_from_different_weights() -> None:
    named = learner(head="linear").named_tensors(learner(head="linear").initial())
    pairs = [(n, n.replace("networks.0.", "networks.1.")) for n in named if n.startswith("networks.0.")]
    assert pairs
    for first, second in pairs:
        if named[first].ndim > 1:
            assert np.abs(named[first] - named[second]).max() > 0.01, first


def test_initial_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = learner().initial()
    torch.manual_seed(2)
    torch.rand(7)
    np.testing.assert_array_equal(first.parameters, learner().initial().parameters)
    assert not np.array_equal(first.parameters, learner(seed=6).initial().parameters)


def test_building_a_learner_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    fit(learner(), SKEWED)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_network_starts_alike_with_and_without_a_peer() -> None:
    alone, pair = learner(networks=1), learner(networks=2)
    named = pair.named_tensors(pair.initial())
    for name, tensor in alone.named_tensors(alone.initial()).items():
        np.testing.assert_array_equal(tensor, named[name])


def test_one_frame_serves_both_networks_and_follows_from_the_seed() -> None:
    trained = learner()
    assert trained.frame is not None and trained.frame.shape == (FEATURES, 4)
    assert torch.equal(trained.frame, simplex_etf(4, FEATURES, 5))
    assert learner(head="linear").frame is None
    assert [n for n in trained.named_tensors(trained.initial()) if "frame" in n] == ["frame"]


def test_features_grow_with_the_classes() -> None:
    records = make_records(80, classes=FEATURES + 6, size=(12, 12))
    trained = learner(records, networks=1)
    assert trained.frame is not None and trained.frame.shape == (FEATURES + 6, FEATURES + 6)


def test_training_leaves_the_frame_and_the_initial_state_alone() -> None:
    trained = learner()
    assert trained.frame is not None
    frame, start = trained.frame.clone(), trained.initial().parameters.copy()
    fit(trained)
    assert torch.equal(trained.frame, frame)
    np.testing.assert_array_equal(trained.initial().parameters, start)


# --- determinism ---


def test_a_result_does_not_depend_on_what_was_trained_before() -> None:
    trained = learner()
    first = fit(trained, SKEWED, round=2, client=3)
    other = fit(trained, EASY, round=1, client=0)
    trained.predict(other.state, EASY.images, EASY.labels)
    learner(head="linear")
    assert same(fit(trained, SKEWED, round=2, client=3), first)
    assert same(fit(learner(), SKEWED, round=2, client=3), first)


@pytest.mark.parametrize("backbone", ["cnn(width=4)", "mobilenet_v3_small"])
def test_a_result_does_not_depend_on_threads_or_global_seed(backbone: str) -> None:
    records = make_records(18, size=(16, 16))
    trained = learner(records, backbone=backbone, networks=1, local_epochs=1)
    torch.manual_seed(1)
    first = fit(trained, records)
    torch.manual_seed(2)
    torch.set_num_threads(2)
    second = fit(trained, records)
    assert torch.get_num_threads() == 2
    assert same(first, second)


def test_threads_are_given_back_after_an_error() -> None:
    trained = learner()
    torch.set_num_threads(2)
    short = State(trained.initial().parameters[:-1], trained.initial().buffers)
    with pytest.raises(ValueError, match="broadcast"):
        fit(trained, state=short)
    assert torch.get_num_threads() == 2


def test_training_and_prediction_run_on_one_thread() -> None:
    trained = learner()
    torch.set_num_threads(2)
    seen: set[int] = set()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda _, __: seen.add(torch.get_num_threads())
    )
    try:
        trained.predict(fit(trained).state, EASY.images, EASY.labels)
    finally:
        hook.remove()
    assert seen == {1} and torch.get_num_threads() == 2


def test_shuffling_depends_on_round_client_and_seed() -> None:
    trained = learner()
    start = trained.initial()
    results = [
        fit(trained, state=start, round=1, client=0),
        fit(trained, state=start, round=2, client=0),
        fit(trained, state=start, round=1, client=1),
        fit(learner(seed=6), state=start, round=1, client=0),
    ]
    for number, result in enumerate(results):
        for other in results[:number]:
            assert not np.array_equal(result.state.parameters, other.state.parameters)


def test_dropout_follows_round_and_client() -> None:
    # A single record, as the order of a batch differs between rounds and clients too.
    records = make_records(1, size=(28, 28))
    trained = learner(records, backbone="mobilenet_v3_small", networks=1, local_epochs=1)
    losses = [
        fit(trained, records, round=number, client=client).report.values["loss"]
        for number, client in ((1, 0), (1, 1), (2, 0))
    ]
    assert len(set(losses)) == 3
    assert fit(trained, records, round=1, client=1).report.values["loss"] == losses[1]


def test_inputs_stay_untouched() -> None:
    trained = learner()
    state = State(trained.initial().parameters.copy(), trained.initial().buffers.copy())
    images, labels = EASY.images.copy(), EASY.labels.copy()
    state.parameters.setflags(write=False)
    kept = state.parameters.copy()
    fit(trained, state=state)
    floats = EASY.images.astype(np.float32) / np.float32(255)
    shown = floats.copy()
    trained.predict(state, floats, labels)
    np.testing.assert_array_equal(floats, shown)
    np.testing.assert_array_equal(state.parameters, kept)
    np.testing.assert_array_equal(EASY.images, images)
    np.testing.assert_array_equal(EASY.labels, labels)


def test_a_result_stays_as_it_is_when_the_learner_trains_on() -> None:
    trained = learner()
    first = fit(trained)
    kept = first.state.parameters.copy()
    fit(trained, SKEWED, first.state)
    np.testing.assert_array_equal(first.state.parameters, kept)


# --- learning ---


@pytest.mark.parametrize(("head", "networks", "loss"), LOSSES)
def test_an_easy_task_is_learnt(head: str, networks: int, loss: str) -> None:
    trained = learner(head=head, networks=networks, loss=loss, local_epochs=4)
    state, losses = trained.initial(), []
    for number in (1, 2, 3):
        fitted = fit(trained, state=state, round=number)
        state = fitted.state
        losses.append(fitted.report.values["loss"])
    unseen = easy_records(40, seed=9)
    before = trained.predict(trained.initial(), unseen.images, unseen.labels)
    after = trained.predict(state, unseen.images, unseen.labels)
    assert losses[2] < losses[0] and after.loss < 0.7 * before.loss
    assert (after.probabilities.argmax(1) == unseen.labels).mean() > 0.8


@pytest.mark.parametrize(
    ("head", "loss"),
    [("etf", "cross-entropy"), ("etf", "dot-regression"), ("linear", "cross-entropy")],
)
def test_rect_changes_a_skewed_batch_and_leaves_a_balanced_one(head: str, loss: str) -> None:
    for records, differ in ((SKEWED, True), (EASY, False)):
        one: dict[str, Any] = {"networks": 1, "local_epochs": 1, "batch_size": len(records), "loss": loss}
        with_rect = fit(learner(records, head=f"{head}-rect", **one), records).state.parameters
        without = fit(learner(records, head=head, **one), records).state.parameters
        assert (np.abs(with_rect - without).max() > 1e-4) == differ


def test_without_mutual_weight_each_network_learns_alone() -> None:
    alone = learner(networks=1)
    one = alone.named_tensors(fit(alone).state)
    distances = []
    for weight in (0.0, 1.0):
        pair = learner(mutual_weight=weight)
        two = pair.named_tensors(fit(pair).state)
        distances.append(max(float(np.abs(two[name] - one[name]).max()) for name in one))
    assert distances[0] < 1e-5 and distances[1] > 1e-4


def test_mutual_learning_draws_the_two_together() -> None:
    apart = []
    for weight in (0.0, 30.0):
        trained = learner(head="linear", mutual_weight=weight, local_epochs=4)
        chosen = settings(head="linear", mutual_weight=weight)
        fitted = fit(trained)
        with torch.no_grad():
            first, second = (
                network.eval()(plain_pixels(EASY.images))
                for network in rebuilt(trained, fitted.state, EASY, chosen)
            )
        apart.append(mutual_kl(first, second).item())
    assert apart[1] < 0.5 * apart[0]


def test_weight_decay_and_rate_matter() -> None:
    trained = learner()
    start = trained.initial()
    usual = trained.fit(start, EASY, round=1, client=0, lr=1e-3).state.parameters
    slower = trained.fit(start, EASY, round=1, client=0, lr=1e-5).state.parameters
    assert np.abs(slower - start.parameters).max() < 0.1 * np.abs(usual - start.parameters).max()
    decayed = learner(weight_decay=1.0).fit(start, EASY, round=1, client=0, lr=1e-3).state.parameters
    assert np.linalg.norm(decayed) < np.linalg.norm(usual)


def test_optimiser_starts_from_zero_in_every_fit() -> None:
    trained = learner()
    first = fit(trained)
    again = learner()
    assert same(fit(trained, state=first.state, round=2), fit(again, state=first.state, round=2))


@pytest.mark.parametrize(("n", "size"), [(1, 32), (2, 32), (33, 32), (5, 1)])
def test_hospitals_of_awkward_sizes_train(n: int, size: int) -> None:
    records = EASY.take(np.arange(n))
    fitted = fit(learner(batch_size=size), records)
    assert np.isfinite(fitted.state.parameters).all()
    assert not np.array_equal(fitted.state.parameters, learner().initial().parameters)
    assert fitted.report.num_examples == n and np.isfinite(fitted.report.values["last-loss"])


def test_a_device_that_is_not_there_is_a_users_error() -> None:
    with pytest.raises(UserError, match="--device 'gpu': the first GPU is called cuda:0"):
        learner(device="gpu")
    with pytest.raises(UserError, match="--device 'nonsense' cannot be used here"):
        learner(device="nonsense")


def test_a_backbone_that_does_not_exist_is_a_users_error() -> None:
    with pytest.raises(UserError, match="unknown backbone"):
        learner(backbone="resnet-18000")


# --- the report ---


@pytest.mark.parametrize(
    ("head", "networks", "loss"),
    [
        ("linear", 1, "cross-entropy"),
        ("etf-rect", 2, "cross-entropy"),
        ("etf", 2, "dot-regression"),
        ("etf-rect", 2, "dot-regression"),
    ],
)
def test_losses_by_class_are_their_definition(head: str, networks: int, loss: str) -> None:
    options = {"head": head, "networks": networks, "loss": loss}
    trained, chosen = learner(SKEWED, **options), settings(**options)
    state = fit(trained, SKEWED).state
    values = trained.fit(state, SKEWED, round=2, client=0, lr=3e-3).report.values
    frame, labels = plain_frame(trained, state), torch.tensor(SKEWED.labels)
    with torch.no_grad():
        by_network = [
            plain_loss(plain_scores(network.eval(), plain_pixels(SKEWED.images), frame), labels, chosen)
            for network in rebuilt(trained, state, SKEWED, chosen)
        ]
    losses = torch.stack(by_network).mean(0)
    wanted = [losses[labels == k].mean().item() for k in range(3)]
    reported = values["class-losses"]
    assert isinstance(reported, tuple) and len(reported) == 4
    np.testing.assert_allclose(reported[:3], wanted, rtol=1e-4)
    assert np.isnan(reported[3])
    assert values["class-counts"] == (25.0, 6.0, 2.0, 0.0)
    assert values["received-loss"] == pytest.approx(losses.mean().item(), rel=1e-4)


def test_received_loss_is_of_the_received_model() -> None:
    trained = learner()
    start = fit(trained).state
    fitted = fit(trained, state=start, round=2)
    received = trained.predict(start, EASY.images, EASY.labels).loss
    ended = trained.predict(fitted.state, EASY.images, EASY.labels).loss
    reported = fitted.report.values["received-loss"]
    assert reported == pytest.approx(received, rel=1e-6)
    assert abs(reported - ended) > 0.01 * received


def test_loss_is_of_the_last_epoch() -> None:
    one, three = (fit(learner(local_epochs=epochs)).report.values["loss"] for epochs in (1, 3))
    assert three < one
    # With a rate of next to nothing every epoch's loss is the received one.
    trained = learner(head="etf", local_epochs=3)
    values = trained.fit(trained.initial(), EASY, round=1, client=0, lr=1e-12).report.values
    assert values["loss"] == pytest.approx(values["received-loss"], rel=1e-4)


# --- prediction ---


@pytest.mark.parametrize(("head", "networks", "loss"), LOSSES)
def test_a_saved_model_predicts_the_same_when_reloaded(head: str, networks: int, loss: str) -> None:
    options = {"head": head, "networks": networks, "loss": loss}
    trained, chosen = learner(**options), settings(**options)
    state = fit(trained).state
    prediction = trained.predict(state, EASY.images, EASY.labels)
    frame = plain_frame(trained, state)
    with torch.no_grad():
        scores = [
            plain_scores(network.eval(), plain_pixels(EASY.images), frame)
            for network in rebuilt(trained, state, EASY, chosen)
        ]
    scale = temperature_of(chosen)
    answers = [softmax64(s / scale) for s in scores]
    np.testing.assert_allclose(prediction.probabilities, np.mean(answers, axis=0), atol=1e-5)
    assert prediction.probabilities.dtype == np.float64
    losses = [plain_loss(s, torch.tensor(EASY.labels), chosen).mean().item() for s in scores]
    assert prediction.loss == pytest.approx(np.mean(losses), rel=1e-4)
    if networks == 2:
        mean_of_logits = softmax64(sum(scores) / (2 * scale))
        assert np.abs(prediction.probabilities - mean_of_logits).max() > 1e-4


def test_probabilities_are_probabilities() -> None:
    prediction = learner().predict(learner().initial(), EASY.images, EASY.labels)
    assert prediction.probabilities.shape == (64, 4) and (prediction.probabilities >= 0).all()
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1, atol=1e-6)


def test_the_temperature_sharpens_and_does_not_change_the_answer() -> None:
    cool, warm = learner(temperature=0.1, networks=1), learner(temperature=1.0, networks=1)
    state = fit(warm).state
    sharp, soft = (each.predict(state, EASY.images, EASY.labels).probabilities for each in (cool, warm))
    np.testing.assert_array_equal(sharp.argmax(1), soft.argmax(1))
    assert sharp.max(1).mean() > soft.max(1).mean() + 0.1


def test_levels_and_the_same_images_in_0_to_1_predict_alike() -> None:
    trained = learner()
    floats = EASY.images.astype(np.float32) / np.float32(255)
    one = trained.predict(trained.initial(), EASY.images, EASY.labels)
    other = trained.predict(trained.initial(), floats, EASY.labels)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-7)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)


def test_a_prediction_does_not_depend_on_who_is_predicted_beside() -> None:
    records = make_records(530, size=(8, 8))  # more than two evaluation batches
    trained = learner(records)
    at_once = trained.predict(trained.initial(), records.images, records.labels)
    pieces = [records.take(np.arange(at, min(at + 100, 530))) for at in range(0, 530, 100)]
    parts = [trained.predict(trained.initial(), piece.images, piece.labels) for piece in pieces]
    np.testing.assert_allclose(
        at_once.probabilities, np.concatenate([part.probabilities for part in parts]), atol=1e-6
    )
    mean = np.average([part.loss for part in parts], weights=[len(piece) for piece in pieces])
    assert at_once.loss == pytest.approx(mean, rel=1e-5)


# --- networks with running statistics ---


@pytest.mark.slow
def test_running_statistics_change_and_travel() -> None:
    records = make_records(9, size=(16, 16))
    options: dict[str, Any] = {"backbone": "resnet18", "networks": 1, "local_epochs": 1, "batch_size": 8}
    trained, chosen = learner(records, **options), settings(**options)
    start = trained.initial()
    fitted = fit(trained, records)
    named, before = trained.named_tensors(fitted.state), trained.named_tensors(start)
    means = [name for name in named if name.endswith("running_mean")]
    assert sum(named[name].size for name in means) * 2 == fitted.state.buffers.size
    assert all(np.abs(named[name] - before[name]).max() > 0 for name in means)
    assert not any("num_batches_tracked" in name for name in named)
    # Looking at the received model uses its statistics and must not move them.
    received = learner(records, **options).predict(start, records.images, records.labels).loss
    assert fitted.report.values["received-loss"] == pytest.approx(received, rel=1e-5)

    prediction = trained.predict(fitted.state, records.images, records.labels)
    mixed = State(fitted.state.parameters, start.buffers)
    other = trained.predict(mixed, records.images, records.labels)
    assert np.abs(prediction.probabilities - other.probabilities).max() > 1e-3

    network = rebuilt(trained, fitted.state, records, chosen)[0].eval()
    with torch.no_grad():
        cosines = plain_scores(network, plain_pixels(records.images), plain_frame(trained, fitted.state))
    np.testing.assert_allclose(prediction.probabilities, softmax64(cosines / 0.2), atol=1e-5)

    # Nor must predicting: the result is the same as that of a learner which never did.
    again = fit(learner(records, **options), records)
    assert same(again, fitted)


def test_one_record_trains_a_network_with_batchnorm() -> None:
    records = make_records(1, size=(16, 16))
    fitted = fit(learner(records, backbone="resnet18", networks=1, local_epochs=1), records)
    assert np.isfinite(fitted.state.parameters).all() and np.isfinite(fitted.state.buffers).all()


def test_a_steering_that_changes_nothing_gives_the_same_bits_and_another_other_ones() -> None:
    trained = learner()
    start = trained.initial()
    asked: list[np.ndarray] = []

    def steered(how: Any) -> Fitted:
        return trained.fit(start, EASY, round=1, client=0, lr=3e-3, gradient_hook=how)

    def nothing(parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        asked.append(parameters.copy())
        return gradient

    plain = fit(trained)
    assert same(steered(nothing), plain)
    # Once a step, first at the received parameters.
    assert len(asked) == 2 * -(-len(EASY) // 16)
    np.testing.assert_array_equal(asked[0], start.parameters)
    assert not np.array_equal(asked[-1], start.parameters)
    # What cancels Adam's L2 penalty but for rounding leaves the parameters where they are; a step is 3e-3
    # long.
    still = steered(lambda parameters, gradient: 0 * gradient - 1e-3 * parameters)
    np.testing.assert_allclose(still.state.parameters, start.parameters, atol=1e-4)
    assert same(fit(trained), plain)


@pytest.mark.parametrize("n", [1, 15, 44, 64, 129, 300, 1000, 1237])
def test_images_are_predicted_in_chunks_of_about_one_size(n: int) -> None:
    cut = learner()._chunks(n)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[part] for part in cut]), np.arange(n))
    sizes = [part.stop - part.start for part in cut]
    assert len(cut) <= -(-n // 64) and len(set(sizes)) == 1
    assert sizes[0] % 16 == 0 and sizes[0] <= 64
    # So the last one is not much smaller than the others, whose size is rounded up.
    assert n - cut[-1].start > sizes[0] - 16 * len(cut)


def predicted_loss(trained: MutualLearner, state: State, records: Records) -> float:
    """Return the mean loss as `predict` has it."""
    return trained.predict(state, records.images, records.labels).loss


@pytest.mark.parametrize(("head", "networks", "loss"), LOSSES)
def test_the_gradient_is_that_of_the_predicted_loss(head: str, networks: int, loss: str) -> None:
    trained = learner(head=head, networks=networks, loss=loss)
    state = fit(trained).state
    gradient = trained.gradients(state, [(EASY.images, EASY.labels)])[0].astype(np.float64)
    assert gradient.shape == state.parameters.shape and gradient.any()
    draw = np.random.default_rng(0)
    for direction in (gradient / np.linalg.norm(gradient), draw.choice([-1.0, 1.0], len(gradient))):
        step = 2e-3 * direction / np.linalg.norm(direction)
        up, down = (
            predicted_loss(
                trained, State((state.parameters + s * step).astype(np.float32), state.buffers), EASY
            )
            for s in (1, -1)
        )
        assert (up - down) / 2 == pytest.approx(gradient @ step, rel=0.05, abs=2e-6)


def test_the_gradient_of_all_images_is_the_mean_over_parts() -> None:
    trained = learner(networks=2)
    records = easy_records(300)
    state = fit(trained).state
    parts = slice(0, 300), slice(0, 100), slice(100, 110), slice(110, 300)
    whole, *found = trained.gradients(state, [(records.images[part], records.labels[part]) for part in parts])
    wanted = sum(share * part.astype(np.float64) for share, part in zip((100, 10, 190), found, strict=True))
    wanted /= 300
    np.testing.assert_allclose(whole, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_gradient_leaves_the_state_and_the_next_training_as_they_were() -> None:
    trained, other = learner(networks=2), learner(networks=2)
    state = fit(trained).state
    kept = state.parameters.copy(), state.buffers.copy()
    first = trained.gradients(state, [(EASY.images, EASY.labels)])[0]
    np.testing.assert_array_equal(trained.gradients(state, [(EASY.images, EASY.labels)])[0], first)
    np.testing.assert_array_equal(state.parameters, kept[0])
    np.testing.assert_array_equal(state.buffers, kept[1])
    again, fresh = (fit(one, state=state, round=2).state for one in (trained, other))
    np.testing.assert_array_equal(again.parameters, fresh.parameters)
    np.testing.assert_array_equal(again.buffers, fresh.buffers)

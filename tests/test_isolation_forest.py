"""Isolation-forest weighting: which hospitals it flags, which it does not, and that weights recover."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import make_updates, restored
from server_images import QuadraticServerData
from softmax import CLASSES, Images, Poison, Site, Views, flipped, play, site, trained

from fedrobust.errors import UserError
from fedrobust.federation import ClientMetrics, Update, Updates, Verdict
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import instantiate
from strategies.isolation_forest import CLIP, FEATURES, IsolationForestWeighting, _evidence

ZERO = np.zeros(1, np.float32)
BAD = 1


# --- reported losses only


def losses_of(
    received: np.ndarray, epoch: np.ndarray, number: int, counts: np.ndarray | None = None
) -> Updates:
    """Make a round of empty updates that report these losses by class, shape (n, K) each."""
    n, classes = received.shape
    held = np.full((n, classes), 20.0) if counts is None else counts
    updates = []
    for node in range(n):
        known = held[node] > 0
        values: dict[str, float | tuple[float, ...]] = {
            "loss": float(np.average(epoch[node][known], weights=held[node][known])),
            "received-loss": float(np.average(received[node][known], weights=held[node][known])),
            "class-losses": tuple(np.where(known, received[node], np.nan).tolist()),
            "class-epoch-losses": tuple(np.where(known, epoch[node], np.nan).tolist()),
            "class-counts": tuple(held[node].tolist()),
        }
        updates.append(Update(node, ZERO, ClientMetrics(int(held[node].sum()), values), ZERO, round=number))
    return Updates(updates)


def high_losses(
    defence: IsolationForestWeighting, rounds: int, bad: tuple[int, ...] = (), n: int = 10, seed: int = 0
) -> list[Verdict]:
    """Play rounds in which the bad hospitals' losses are three times the others'."""
    draw = np.random.default_rng(seed)
    verdicts = []
    for number in range(1, rounds + 1):
        received, epoch = draw.normal(1.0, 0.15, (n, 4)), draw.normal(0.8, 0.1, (n, 4))
        received[list(bad)] *= 3
        epoch[list(bad)] *= 3
        verdicts.append(defence.weigh(losses_of(received, epoch, number)).checked(n))
    return verdicts


def flagged(verdict: Verdict) -> list[int]:
    """Return the places of those who are flagged."""
    return np.flatnonzero(verdict.flagged).tolist()


def share(verdict: Verdict) -> np.ndarray:
    """Return weights that sum to 1."""
    return np.asarray(verdict.weight) / np.sum(verdict.weight)


def test_isolation_forest_only_persistent_high_losses_lose_weight() -> None:
    last = high_losses(IsolationForestWeighting(), 12, bad=(2, 7))[-1]
    assert flagged(last) == [2, 7]
    assert share(last)[[2, 7]].max() < 0.02 and np.delete(share(last), [2, 7]).min() > 0.12
    assert last.why is not None and last.why[0] == ""
    assert FEATURES[0] in last.why[2] and FEATURES[1] in last.why[2] and "robust z-score" in last.why[2]
    assert np.asarray(last.score)[[2, 7]].min() > np.delete(np.asarray(last.score), [2, 7]).max()


class Scanners(QuadraticServerData):
    """The server's images, and what another scanner makes of them."""

    def __init__(self, target: np.ndarray, other: np.ndarray) -> None:
        super().__init__(target)
        self._other = QuadraticServerData(other)

    def views(self) -> list[QuadraticServerData]:
        return [QuadraticServerData(self.target), self._other]


@pytest.mark.parametrize(
    ("known", "factor", "found"), [(False, 1.0, True), (True, 1.0, False), (True, -1.0, True)]
)
def test_isolation_forest_another_scanner_explains_records_but_no_behaviour(
    known: bool, factor: float, found: bool
) -> None:
    """One hospital also learns the images of another scanner, or sends the opposite of that."""
    draw = np.random.default_rng(0)
    common, its_own = draw.standard_normal(400), 0.3 * draw.standard_normal(400)
    other = 0.5 * common + its_own
    defence = IsolationForestWeighting()
    defence.server = Scanners(common, other) if known else QuadraticServerData(common)
    for number in range(1, 9):
        received, epoch = draw.normal(1.0, 0.15, (10, 3)), draw.normal(0.8, 0.1, (10, 3))
        received[BAD] *= 3
        epoch[BAD] *= 3
        deltas = 0.5 * common + 0.05 * draw.standard_normal((10, 400))
        deltas[BAD] += its_own
        deltas[BAD] *= factor
        reports = [update.report for update in losses_of(received, epoch, number)]
        start = np.zeros(400, np.float32)
        updates = [
            Update(node, delta.astype(np.float32), report, start, round=number)
            for node, (delta, report) in enumerate(zip(deltas, reports, strict=True))
        ]
        last = defence.weigh(Updates(updates)).checked(10)
    assert flagged(last) == ([BAD] if found else [])


@pytest.mark.parametrize("n", [4, 5, 10, 20])
def test_isolation_forest_benign_hospitals_are_rarely_flagged(n: int) -> None:
    flags = [
        np.mean(v.flagged) for s in range(4) for v in high_losses(IsolationForestWeighting(), 10, n=n, seed=s)
    ]
    assert np.mean(flags) <= 0.01


def test_isolation_forest_one_bad_round_of_losses_flags_no_hospital() -> None:
    defence = IsolationForestWeighting()
    high_losses(defence, 8)
    draw = np.random.default_rng(1)
    received, epoch = draw.normal(1.0, 0.15, (10, 4)), draw.normal(0.8, 0.1, (10, 4))
    received[3] *= 2
    epoch[3] *= 2
    assert flagged(defence.weigh(losses_of(received, epoch, 9)).checked(10)) == []
    assert flagged(defence.weigh(losses_of(received, epoch, 10)).checked(10)) in ([], [3])


def test_isolation_forest_weights_recover_with_the_losses() -> None:
    defence = IsolationForestWeighting()
    assert flagged(high_losses(defence, 10, bad=(4,))[-1]) == [4]
    after = high_losses(defence, 15, seed=1)
    assert 4 in flagged(after[0]) and flagged(after[-1]) == []
    assert np.asarray(after[-1].weight)[4] == 1.0


@pytest.mark.parametrize("which", ["received", "epoch"])
def test_isolation_forest_high_loss_of_one_kind_is_not_flagged(which: str) -> None:
    """Atypical records are hard for the others' model, but a hospital can learn them."""
    defence, draw = IsolationForestWeighting(), np.random.default_rng(0)
    for number in range(1, 12):
        received, epoch = draw.normal(1.0, 0.15, (10, 4)), draw.normal(0.8, 0.1, (10, 4))
        (received if which == "received" else epoch)[6] *= 1.4
        last = defence.weigh(losses_of(received, epoch, number)).checked(10)
    assert flagged(last) == []


def test_isolation_forest_low_losses_are_not_flagged() -> None:
    defence, draw = IsolationForestWeighting(), np.random.default_rng(0)
    for number in range(1, 12):
        received = draw.normal(1.0, 0.1, (10, 4))
        received[5] *= 0.05
        last = defence.weigh(losses_of(received, received, number)).checked(10)
    assert flagged(last) == []


def test_isolation_forest_unusual_class_mix_is_not_flagged() -> None:
    """A hospital that holds only the hardest class has four times the others' plain loss."""
    defence, draw = IsolationForestWeighting(), np.random.default_rng(0)
    level, counts = np.array([0.2, 0.3, 0.5, 3.0]), np.full((10, 4), 20.0)
    counts[:, 3] = 2
    counts[6] = [0, 0, 0, 60]
    for number in range(1, 12):
        received, epoch = (level * draw.normal(1.0, 0.1, (10, 4)) for _ in range(2))
        updates = losses_of(received, epoch, number, counts)
        last = defence.weigh(updates).checked(10)
    plain = updates.reported("received-loss")
    assert plain[6] > 4 * np.median(plain)
    assert flagged(last) == []


@pytest.mark.parametrize(
    "reports", [{}, {"class-losses": (1.0,), "class-counts": (9.0,), "class-epoch-losses": (1.0,)}]
)
def test_isolation_forest_missing_or_misshapen_losses_count_as_the_worst(reports: dict[str, Any]) -> None:
    defence, draw = IsolationForestWeighting(), np.random.default_rng(0)
    for number in range(1, 10):
        received = draw.normal(1.0, 0.1, (10, 4))
        updates = list(losses_of(received, received, number))
        updates[1] = replace(updates[1], report=ClientMetrics(80, reports))
        last = defence.weigh(Updates(updates)).checked(10)
    assert flagged(last) == [1]


@pytest.mark.parametrize("invalid", [float("nan"), float("inf"), -float("inf"), 1e308, -1e308])
@pytest.mark.parametrize("name", ["class-losses", "class-epoch-losses", "class-counts", "loss"])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_isolation_forest_invalid_report_does_not_affect_others(name: str, invalid: float) -> None:
    received = np.random.default_rng(0).normal(1.0, 0.1, (8, 4))
    updates = list(losses_of(received, received, 1))
    wrong = invalid if name == "loss" else (invalid,) * 4
    updates[2] = replace(updates[2], report=ClientMetrics(80, {**updates[2].report.values, name: wrong}))
    defence = IsolationForestWeighting()
    verdict = defence.weigh(Updates(updates)).checked(8)
    assert np.delete(np.asarray(verdict.weight), 2).tolist() == [1.0] * 7
    assert np.isfinite(np.asarray(verdict.score)).all()
    assert np.isfinite([row for row in defence.state()["sums"].values()]).all()


@pytest.mark.parametrize("reported", [float("nan"), float("inf"), -5, 0])
def test_isolation_forest_invalid_number_of_images_counts_as_0(reported: Any) -> None:
    updates = list(make_updates(6, num_examples=[100] * 6))
    found, wanted = (
        IsolationForestWeighting().combine(
            Updates([replace(updates[0], report=ClientMetrics(number, {})), *updates[1:]])
        )
        for number in (reported, 0)
    )
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1].weight, wanted[1].weight)


@pytest.mark.parametrize("name", ["loss", "received-loss"])
def test_isolation_forest_list_as_plain_loss_counts_as_missing(name: str) -> None:
    updates = make_updates(5, values=[{name: (1.0, 2.0)}, {}, {}, {}, {}])
    assert flagged(IsolationForestWeighting().weigh(updates).checked(5)) == []


def test_isolation_forest_without_class_losses_uses_plain_losses() -> None:
    defence, draw = IsolationForestWeighting(), np.random.default_rng(0)
    for _ in range(8):
        plain = draw.normal(1.0, 0.1, (8, 2))
        plain[5] *= 3
        values: list[dict[str, float | tuple[float, ...]]] = [
            {"loss": one, "received-loss": other} for one, other in plain.tolist()
        ]
        last = defence.weigh(make_updates(8, values=values)).checked(8)
    assert flagged(last) == [5]
    assert (
        flagged(IsolationForestWeighting().weigh(make_updates(8, values=[{}] * 8, seed=2)).checked(8)) == []
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_isolation_forest_fewer_than_four_hospitals_get_no_verdict(n: int) -> None:
    defence = IsolationForestWeighting()
    for _ in range(6):
        updates = make_updates(n, num_examples=[100] * n, values=[{"loss": 10.0**i} for i in range(n)])
        model, verdict = defence.combine(updates)
        assert verdict.flagged is None and list(np.asarray(verdict.weight)) == [1.0] * n
    np.testing.assert_allclose(model, updates.mean(np.ones(n)), atol=1e-6)
    assert defence.state() == {"sums": {}, "trust": {}}


def judged(**row: float) -> tuple[float, float]:
    """Return the evidence on records and update behaviour of one row of averages, 0 where not given."""
    names = ("received", "epoch", "own", "harm", "deviation", "noise", "length", "scanner")
    records, behaviour = _evidence(np.array([[row.get(name, 0.0) for name in names]]))[0].tolist()
    return records, behaviour


def test_evidence_of_single_features_is_as_stated() -> None:
    assert len(FEATURES) == 8 and judged() == (0, 0)
    # Low losses and short updates are no offence, nor is a high training loss by itself.
    assert judged(received=-5, epoch=-5, own=-5, length=-5) == (0, 0) == judged(epoch=5)
    assert judged(received=2, epoch=2)[0] == judged(received=2, epoch=9)[0] == 2
    assert judged(own=4) == (4, 0) and judged(received=4, own=4)[0] < judged(own=4)[0]
    assert judged(harm=2, deviation=3, noise=4, length=5) == (0, 14)
    # Another scanner explains anomalous records, but no update behaviour.
    assert judged(received=8, epoch=4, own=5, scanner=1) == (0, 0)
    assert judged(received=4, epoch=4, scanner=0.25)[0] == 3 and judged(own=4, scanner=0.25)[0] == 3
    assert judged(harm=2, deviation=3, noise=4, length=5, scanner=1) == (0, 14)
    # Help explains a deviation, and counts for itself.
    assert judged(deviation=6, harm=-1)[1] == 3 and judged(deviation=6, harm=-4)[1] == -4
    assert judged(deviation=-2, harm=-1)[1] == -3


# --- complete federations


def hospitals(n: int = 10) -> list[Site]:
    """Return honest hospitals of somewhat different sizes and mixes."""
    return [
        site(np.random.default_rng(seed).integers(20, 60, CLASSES).tolist(), seed, None) for seed in range(n)
    ]


def with_bad(bad: Site, n: int = 10) -> list[Site]:
    """Return honest hospitals with another one at the place BAD."""
    sites = hospitals(n)
    return [*sites[:BAD], bad, *sites[BAD + 1 :]]


def rule(
    server: bool, images: tuple[int, ...] = (20, 20, 20, 20), **options: Any
) -> IsolationForestWeighting:
    """Return the rule, with images of the server's own or without."""
    made = IsolationForestWeighting(**options)
    made.server = Images(site(images, 999)) if server else None
    return made


def times(factor: float) -> Poison:
    """Multiply the update."""
    return lambda update, draw: update.with_delta(factor * update.delta)


def noise(update: Update, draw: np.random.Generator) -> Update:
    """Send as long a vector without direction."""
    random = draw.standard_normal(len(update.delta))
    return update.with_delta(np.linalg.norm(update.delta) / np.linalg.norm(random) * random)


def honest_report(own: Site) -> Poison:
    """ClientMetrics what an honest training on the true labels gives."""
    return lambda update, draw: replace(
        update, report=trained(own, update.global_parameters, update.node, update.round).report
    )


OWN = hospitals()[BAD]
ATTACKS = {
    "label flip": flipped(OWN),
    "label flip, honest report": flipped(replace(OWN, poison=honest_report(OWN))),
    "noise": replace(OWN, poison=noise),
    "sign flip": replace(OWN, poison=times(-1)),
    "too long": replace(OWN, poison=times(10)),
    "nothing": replace(OWN, poison=times(0)),
}
#: What the verdict must name, with the server's images and without.
NAMED = {
    "label flip": FEATURES[0],
    "label flip, honest report": "",
    "noise": "lack of direction",
    "sign flip": "cosine deviation from the others",
    "too long": "length",
    "nothing": "lack of direction",
}


@pytest.mark.parametrize("server", [False, True])
def test_isolation_forest_benign_federation_flags_no_hospital(server: bool) -> None:
    verdicts, _ = play(rule(server), hospitals())
    assert not any(flagged(verdict) for verdict in verdicts)
    assert not any("".join(verdict.why or ()) for verdict in verdicts)


#: Without images of its own the cosine deviation from the others is not used.
CASES = [
    (attack, server)
    for attack in ATTACKS
    for server in (False, True)
    if (attack, server) != ("sign flip", False)
]


@pytest.mark.parametrize(("attack", "server"), CASES)
def test_isolation_forest_persistent_attacker_is_flagged_and_loses_weight(attack: str, server: bool) -> None:
    last = play(rule(server), with_bad(ATTACKS[attack]))[0][-1]
    assert BAD in flagged(last)
    assert share(last)[BAD] < 0.03 and np.delete(share(last), BAD).min() > 0.05
    assert last.why is not None and NAMED[attack] in last.why[BAD]
    assert "" in last.why


@pytest.mark.parametrize("attack", ATTACKS)
def test_isolation_forest_attacker_does_not_pass_for_another_scanner(attack: str) -> None:
    seeing = rule(True)
    seeing.server = Views(site((20, 20, 20, 20), 999))
    last = play(seeing, with_bad(ATTACKS[attack]))[0][-1]
    assert BAD in flagged(last) and share(last)[BAD] < 0.03


def test_isolation_forest_two_attackers_of_ten_are_flagged() -> None:
    sites = with_bad(ATTACKS["label flip, honest report"])
    sites[8] = flipped(sites[8])
    last = play(rule(True), sites)[0][-1]
    assert {BAD, 8} <= set(flagged(last)) and share(last)[[BAD, 8]].max() < 0.01


def test_isolation_forest_forged_report_contradicts_the_audit() -> None:
    defence = rule(True)
    last = play(defence, with_bad(ATTACKS["label flip, honest report"]))[0][-1]
    rounds, received, epoch, own, *_ = defence.state()["sums"][BAD]
    assert own / rounds > 5 and min(received, epoch) / rounds < 3
    assert last.why is not None and "loss of its model on the server's images" in last.why[BAD]


def test_isolation_forest_only_holder_of_a_class_that_helps_is_not_flagged() -> None:
    sites = [site([*np.random.default_rng(seed).integers(20, 60, 3).tolist(), 0], seed) for seed in range(10)]
    sites[BAD] = site([0, 0, 0, 160], BAD)
    seeing, blind = rule(True), rule(True, images=(20, 20, 20, 0))
    verdicts, _ = play(seeing, sites)
    assert not any(BAD in flagged(verdict) for verdict in verdicts)
    rounds, _, _, _, harm, deviation, *_ = seeing.state()["sums"][BAD]
    assert deviation / rounds > 3 and harm / rounds < -3
    # A server without an image of the class cannot see it: the test can fail.
    assert BAD in flagged(play(blind, sites)[0][-1])


def test_isolation_forest_evidence_is_kept_over_missed_rounds_and_starts_at_0() -> None:
    sites, defence = with_bad(ATTACKS["label flip"]), rule(False)
    _, model = play(defence, sites, 6)
    kept = defence.state()["sums"][BAD]
    for number in (7, 8):
        absent = Updates([trained(own, model, i, number) for i, own in enumerate(sites) if i != BAD])
        model, verdict = defence.combine(absent)
        assert len(np.asarray(verdict.weight)) == 9
    assert defence.state()["sums"][BAD] == kept
    back = Updates([trained(own, model, i, 9) for i, own in enumerate([*sites, site([40] * 4, 50)])])
    verdict = defence.combine(back)[1].checked(11)
    assert BAD in flagged(verdict) and 10 not in flagged(verdict)
    assert defence.state()["sums"][10][0] == 1


# --- weights


@pytest.mark.parametrize("n", [4, 10, 50])
def test_initial_weights_bound_reported_sizes(n: int) -> None:
    few = [100] * (n - 1)
    honest, forged = (
        np.asarray(IsolationForestWeighting().weigh(make_updates(n, num_examples=[size, *few])).weight)
        for size in (100, 10**6)
    )
    assert honest.tolist() == [1.0] * n
    assert forged.mean() == pytest.approx(1) and 1 < forged[0] <= 2 and forged[1:].min() >= 0.5


def test_initial_weights_are_half_uniform_half_by_images() -> None:
    sizes = [50, 100, 150, 100, 100]
    verdict = IsolationForestWeighting().weigh(make_updates(5, num_examples=sizes))
    np.testing.assert_allclose(verdict.weight, [0.75, 1, 1.25, 1, 1])
    assert np.asarray(IsolationForestWeighting().weigh(make_updates(5, num_examples=[0] * 5)).weight).all()


def test_isolation_forest_far_too_long_updates_are_clipped() -> None:
    updates = make_updates(7, d=500, num_examples=[100] * 7)
    given = Updates([updates[0].with_delta(50 * updates[0].delta), *updates[1:]])
    model, verdict = IsolationForestWeighting().combine(given)
    norms = [float(np.linalg.norm(u.delta.astype(np.float64))) for u in given]
    bound = CLIP * sorted(norms)[3]
    weight = np.asarray(verdict.weight) / np.sum(verdict.weight)
    moved = sum(
        w * min(1.0, bound / norm) * u.delta.astype(np.float64)
        for w, norm, u in zip(weight, norms, given, strict=True)
    )
    np.testing.assert_allclose(model, given.global_parameters + moved, atol=1e-4)
    assert norms[0] > 10 * bound


def skewed() -> list[Site]:
    """Return honest hospitals of which six hold one class only, and most of its images."""
    return [
        *(site([80, 0, 0, 0], seed) for seed in range(6)),
        *(site([4, 20, 20, 20], seed) for seed in range(6, 10)),
    ]


def test_isolation_forest_searched_weights_follow_the_servers_images() -> None:
    given = Updates(
        [trained(own, play(rule(False), skewed(), 2)[1], node, 3) for node, own in enumerate(skewed())]
    )
    seeing = rule(True)
    (model, verdict), (plain, before) = seeing.combine(given), rule(False).combine(given)
    assert not any(flagged(one.checked(10)) for one in (verdict, before))
    weight, images = np.asarray(verdict.weight), seeing.server
    assert isinstance(images, Images)
    assert weight[:6].max() < np.asarray(before.weight)[:6].min() / 10 and weight[6:].max() > 0.1
    assert weight.sum() == pytest.approx(1) and weight.min() >= 0.5 / 10 and weight.max() <= 3 / 10
    assert images.losses(model, ZERO).mean() < 0.97 * images.losses(plain, ZERO).mean()
    # The verdict's weights are those of the mean.
    norms = np.array([np.linalg.norm(u.delta.astype(np.float64)) for u in given])
    factor = np.minimum(1, CLIP * np.median(norms) / norms)
    moved = sum(w * f * u.delta.astype(np.float64) for w, f, u in zip(weight, factor, given, strict=True))
    np.testing.assert_allclose(model, given.global_parameters + moved, atol=1e-5)


def test_isolation_forest_searched_weights_improve_a_skewed_federation() -> None:
    images = Images(site((50, 50, 50, 50), 1234))
    chosen, plain = (play(rule(server), skewed())[1] for server in (True, False))
    assert images.losses(chosen, ZERO).mean() < 0.95 * images.losses(plain, ZERO).mean()


def test_isolation_forest_trusted_keep_half_the_uniform_weight() -> None:
    sites = with_bad(ATTACKS["sign flip"])
    for verdict in play(rule(True), sites)[0]:
        weight, spared = share(verdict), ~np.asarray(verdict.flagged)
        assert weight[spared].min() >= 0.5 / 10
    assert BAD in flagged(verdict) and weight[BAD] < 0.01


# --- as part of a run


@pytest.mark.parametrize("server", [False, True])
def test_isolation_forest_order_of_hospitals_does_not_matter(server: bool) -> None:
    sites = with_bad(ATTACKS["label flip"])
    start = play(rule(False), sites, 2)[1]
    given = [trained(own, start, node, 3) for node, own in enumerate(sites)]
    order = np.random.default_rng(0).permutation(10)
    renamed = [replace(update, node=int(order[node])) for node, update in enumerate(given)]
    (model, verdict), (other_model, other) = (rule(server).combine(Updates(u)) for u in (given, renamed))
    np.testing.assert_allclose(np.asarray(other.weight)[order], verdict.weight, rtol=0.02)
    np.testing.assert_allclose(np.asarray(other.score)[order], verdict.score, atol=0.02)
    np.testing.assert_allclose(other_model, model, atol=1e-3)
    # Arrival is no order at all.
    again = rule(server).combine(Updates(given[::-1]))
    np.testing.assert_array_equal(again[0], model)
    np.testing.assert_array_equal(again[1].score, verdict.score)


def test_isolation_forest_leaves_updates_unchanged() -> None:
    sites = with_bad(ATTACKS["too long"])
    start = play(rule(False), sites, 1)[1]
    updates = Updates([trained(own, start, node, 2) for node, own in enumerate(sites)])
    kept = [update.parameters.copy() for update in updates]
    rule(True).combine(updates)
    for update, before in zip(updates, kept, strict=True):
        np.testing.assert_array_equal(update.parameters, before)


@pytest.mark.parametrize("server", [False, True])
def test_isolation_forest_after_restart_gives_the_same_bits(server: bool) -> None:
    sites = with_bad(ATTACKS["label flip"])
    unbroken, first, second = rule(server), rule(server), rule(server)
    model = play(unbroken, sites, 5)[1]
    play(first, sites, 5)
    second.load_state(restored(first.state()))
    wanted, got = (play(d, sites, 3, first=6, start=model) for d in (unbroken, second))
    np.testing.assert_array_equal(wanted[1], got[1])
    np.testing.assert_array_equal(wanted[0][-1].score, got[0][-1].score)


def piped(spec: str) -> Pipeline:
    """Return the pipeline that a specification names."""
    strategy = build_strategy(spec, 10)
    assert isinstance(strategy, HostedStrategy)
    return strategy.pipeline


@pytest.mark.parametrize(
    ("step", "found"), [("nnm(f=2)", True), ("arc", True), ("clipping", True), ("bucketing(s=2)", False)]
)
@pytest.mark.parametrize("server", [False, True])
def test_isolation_forest_after_a_step_still_flags(step: str, found: bool, server: bool) -> None:
    pipeline = piped(f"{step} | isolation-forest")
    pipeline.defence.server = rule(server).server
    sites = with_bad(ATTACKS["label flip"])
    model = np.zeros_like(trained(sites[0], np.zeros(81 * CLASSES, np.float32), 0, 1).parameters)
    for number in range(1, 10):
        updates = Updates([trained(own, model, node, number) for node, own in enumerate(sites)])
        model, _, verdict = pipeline.aggregate(updates)
    assert np.isfinite(model).all() and np.asarray(verdict.weight).shape == (10,)
    if found:
        assert BAD in flagged(verdict)


@pytest.mark.parametrize(
    "options",
    [
        *({"false_flag_rate": 0}, {"false_flag_rate": 0.6}, {"memory": 1.0}, {"memory": -0.1}),
        *({"audit": -0.1}, {"audit": 1.1}, {"memory": float("nan")}, {"false_flag_rate": float("nan")}),
    ],
)
def test_isolation_forest_invalid_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"isolation-forest: {next(iter(options))}"):
        instantiate(IsolationForestWeighting, options, "isolation-forest")


def test_isolation_forest_options_have_the_stated_effect() -> None:
    assert IsolationForestWeighting(audit=0.25).server_share == 0.25
    assert not IsolationForestWeighting(audit=0).server_share
    sites = with_bad(ATTACKS["label flip"])
    # Without memory a single round is enough; a stricter rate takes more evidence.
    assert BAD in flagged(play(rule(False, memory=0.0), sites, 2)[0][-1])
    first, second = (play(rule(False, false_flag_rate=rate), sites, 3)[0] for rate in (0.2, 0.002))
    assert sum(len(flagged(v)) for v in first) > sum(len(flagged(v)) for v in second)
    np.testing.assert_array_equal(first[0].score, second[0].score)


# --- false reports


def reporting_images(images: float) -> Poison:
    """Return an update ten times too long, of a hospital that reports so many images."""

    def poison(update: Update, draw: np.random.Generator) -> Update:
        counts = np.asarray(update.report.values["class-counts"], float)
        values = {**update.report.values, "class-counts": tuple((counts * images / counts.sum()).tolist())}
        report = ClientMetrics(int(images), values)  # type: ignore[arg-type]
        return replace(update.with_delta(10 * update.delta), report=report)

    return poison


@pytest.mark.parametrize("images", [1.0, 100_000.0])
@pytest.mark.parametrize("server", [False, True])
def test_isolation_forest_reported_size_does_not_excuse_a_long_update(images: float, server: bool) -> None:
    last = play(rule(server), with_bad(site([20] * 4, BAD, reporting_images(images))))[0][-1]
    # Up to three times the median a number is plausible, and explains some of the length.
    assert BAD in flagged(last) and share(last)[BAD] < 0.09


def test_isolation_forest_huge_class_count_does_not_set_the_typical_loss() -> None:
    draw = np.random.default_rng(0)
    defence = IsolationForestWeighting()
    counts = np.full((10, 4), 20.0)
    counts[BAD, 3] = 1e9
    for number in range(1, 13):
        received, epoch = draw.normal(1.0, 0.1, (10, 4)), draw.normal(0.8, 0.1, (10, 4))
        received[BAD, 3] = epoch[BAD, 3] = -5.0
        verdict = defence.weigh(losses_of(received, epoch, number, counts)).checked(10)
    assert not set(flagged(verdict)) - {BAD}


@pytest.mark.parametrize("name", ["loss", "received-loss"])
def test_isolation_forest_single_reported_loss_is_used(name: str) -> None:
    draw = np.random.default_rng(0)
    defence = IsolationForestWeighting()
    for number in range(1, 10):
        reported = draw.normal(1.0, 0.1, 10)
        reported[BAD] *= 4
        updates = [
            Update(node, ZERO, ClientMetrics(20, {name: float(loss)}), ZERO, round=number)
            for node, loss in enumerate(reported)
        ]
        verdict = defence.weigh(Updates(updates)).checked(10)
    assert flagged(verdict) == [BAD]


def test_isolation_forest_round_of_few_replies_keeps_the_distrust() -> None:
    defence = IsolationForestWeighting()
    high_losses(defence, 12, bad=(BAD,))
    few = losses_of(np.ones((3, 4)), np.ones((3, 4)), 13)
    assert share(defence.weigh(few).checked(3))[BAD] < 0.05

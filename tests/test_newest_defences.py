"""The rules of 2018 to 2025 that need no more than the updates, against their definitions in float64."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import make_updates
from references import clipped, cosine_distances, differences, distances, stacked
from scipy.fft import dct
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import calinski_harabasz_score

from fedrobust.errors import UserError
from fedrobust.federation import Layout, Updates
from strategies.align_ins import AlignIns
from strategies.bnguard import BNGuard
from strategies.caf import CAF
from strategies.fedseca import FedSECA
from strategies.foundation_fl import FoundationFL
from strategies.freqfed import FreqFed
from strategies.gas import GAS
from strategies.lasa import LASA
from strategies.mda import MDA
from strategies.meamed import Meamed
from strategies.monna import MoNNA
from strategies.smea import SMEA
from strategies.snowball import Snowball

Floats = np.ndarray[Any, Any]
CASES = [(10, 3, 0), (9, 2, 1), (7, 0, 2), (5, 1, 3)]
LAYOUT = Layout.of({"a.weight": (5, 8), "a.bias": (6,), "b.weight": (2, 7)}, {})


def moved(updates: Updates, found: Floats) -> Floats:
    """Return by how much a rule moves the model."""
    return np.asarray(found, np.float64) - updates.global_parameters


def close(found: Floats, wanted: Floats) -> None:
    """Compare with the rounding of float32."""
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-6)


def best_mean(x: Floats, f: int, cost: Any) -> Floats:
    """Return the mean of the subset of the least cost."""
    chosen = min(itertools.combinations(range(len(x)), len(x) - f), key=lambda s: round(cost(x[list(s)]), 9))
    return np.asarray(x[list(chosen)].mean(axis=0))


@pytest.mark.parametrize(("n", "f", "seed"), CASES)
def test_mda_and_smea_average_the_best_of_all_subsets(n: int, f: int, seed: int) -> None:
    updates = make_updates(n, 30, seed)
    x = stacked(updates)
    close(MDA(f).combine(updates)[0], best_mean(x, f, lambda s: distances(s).max()))
    spread = lambda s: np.linalg.norm(s - s.mean(axis=0), 2) ** 2
    close(SMEA(f).combine(updates)[0], best_mean(x, f, spread))


def test_rules_that_search_subsets_refuse_too_many() -> None:
    for rule in (MDA(), SMEA()):
        rule.check(20)
        with pytest.raises(UserError, match="subsets"):
            rule.check(40)


@pytest.mark.parametrize(("n", "f", "seed"), CASES)
def test_caf_follows_the_algorithm_with_an_explicit_covariance(n: int, f: int, seed: int) -> None:
    updates = make_updates(n, 30, seed)
    x, c, least = stacked(updates), np.ones(n), np.inf
    wanted = x.mean(axis=0)
    while c.sum() > n - 2 * f:
        mu = (c[:, None] * x).sum(axis=0) / c.sum()
        covariance = sum(w * np.outer(r - mu, r - mu) for w, r in zip(c, x, strict=True)) / c.sum()
        values, vectors = np.linalg.eigh(covariance)
        if values[-1] < least:
            least, wanted = values[-1], mu
        t = ((x - mu) @ vectors[:, -1]) ** 2
        c = c * (1 - np.minimum(1, t / t[c > 0].max()))
    close(CAF(f).combine(updates)[0], wanted)


@pytest.mark.parametrize(("n", "f", "seed"), CASES)
def test_monna_and_meamed_average_what_is_nearest(n: int, f: int, seed: int) -> None:
    updates = make_updates(n, 30, seed)
    x = stacked(updates)
    order = np.argsort(distances(x)[2])[: n - f]
    close(MoNNA(f, trusted=2).combine(updates)[0], x[order].mean(axis=0))
    near = np.argsort(np.abs(x - np.median(x, axis=0)), axis=0)[: n - f]
    close(Meamed(f).combine(updates)[0], np.take_along_axis(x, near, axis=0).mean(axis=0))


@pytest.mark.parametrize("base", ["trimmed-mean", "median"])
@pytest.mark.parametrize(("n", "f", "seed"), CASES)
def test_foundation_fl_adds_copies_of_the_deepest_update(base: Any, n: int, f: int, seed: int) -> None:
    updates = make_updates(n, 30, seed)
    x = stacked(updates)
    depth = [min(np.linalg.norm(r - x.max(axis=0)), np.linalg.norm(r - x.min(axis=0))) for r in x]
    rows = np.sort(np.vstack([x, *[x[np.argmax(depth)]] * 4]), axis=0)
    wanted = np.median(rows, axis=0) if base == "median" else rows[f : len(rows) - f].mean(axis=0)
    close(FoundationFL(base, copies=4, f=f).combine(updates)[0], wanted)


def test_foundation_fl_copies_an_update_of_huge_length() -> None:
    """Both extremes are then its own, and it is farther from the other end of each coordinate than others."""
    updates = list(make_updates(10, 30))
    updates[4] = updates[4].with_delta(1e6 * updates[4].delta)
    lengths = {}
    for base in ("median", "trimmed-mean"):
        found, verdict = FoundationFL(base, f=3).combine(Updates(updates))
        assert np.argmin(np.asarray(verdict.score)) == 4
        lengths[base] = np.linalg.norm(moved(Updates(updates), found))
    assert lengths["median"] < 100
    assert lengths["trimmed-mean"] > 1e5


@pytest.mark.parametrize("seed", range(6))
def test_align_ins_keeps_those_near_both_medians(seed: int) -> None:
    updates = make_updates(9, 50, seed)
    d, w = differences(updates), updates.global_parameters.astype(np.float64)
    cosine = np.array([r @ w / np.linalg.norm(r) / np.linalg.norm(w) for r in d])
    principal = np.sign(np.sign(d).sum(axis=0))
    aligned = []
    for row in d:
        top = np.argsort(-np.abs(row))[:15]
        aligned.append(np.mean(np.sign(row[top]) == principal[top]))
    kept = np.ones(9, bool)
    for x in (cosine, np.array(aligned)):
        kept &= np.abs(x - np.median(x)) / x.std() < 1.2
    found, verdict = AlignIns(lambda_c=1.2, lambda_s=1.2).combine(updates)
    assert np.array_equal(np.asarray(verdict.flagged), ~kept)
    wanted = clipped(d[kept], float(np.median(np.linalg.norm(d[kept], axis=1)))).mean(axis=0)
    close(moved(updates, found), wanted)


def test_align_ins_keeps_the_model_where_nobody_stays() -> None:
    updates = make_updates(9, 50)
    found, verdict = AlignIns(lambda_c=1e-9).combine(updates)
    stays = np.asarray(verdict.weight) > 0
    assert stays.sum() <= 1
    assert np.array_equal(found, updates.global_parameters) or stays.sum() == 1


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_fedseca_elects_signs_and_averages_theirs(gamma: float, seed: int) -> None:
    updates = make_updates(7, 40, seed)
    g = differences(updates)
    n, d = g.shape
    rho = np.array([max(0, np.mean([np.mean(np.sign(a) * np.sign(b)) for b in g])) for a in g])
    # Concordances are whole numbers over n d, so that votes may cancel exactly.
    elected = np.sign(np.round(sum(r * np.sign(row) for r, row in zip(rho, g, strict=True)), 9))
    lengths = np.linalg.norm(g, axis=1)
    c = clipped(g, float(np.median(lengths)))
    limit = np.median(np.abs(c), axis=0)
    wanted = np.zeros(d)
    for j in range(d):
        values = [
            np.sign(c[k, j]) * min(abs(c[k, j]), limit[j])
            for k in range(n)
            if elected[j] * g[k, j] > 0 and abs(g[k, j]) > np.quantile(np.abs(g[k]), gamma)
        ]
        wanted[j] = np.mean(values) if values else 0.0
    found, verdict = FedSECA(gamma).combine(updates)
    close(moved(updates, found), wanted)
    np.testing.assert_allclose(np.asarray(verdict.weight), rho, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_gas_sums_distances_to_the_rules_of_pieces(seed: int) -> None:
    from fedrobust.seeding import generator

    updates = make_updates(9, 40, seed)
    x = differences(updates)
    order = generator(0, "gas", 1).permutation(40)
    score = np.zeros(9)
    for piece in np.array_split(order, 4):
        part = x[:, piece]
        score += np.linalg.norm(part - np.median(part, axis=0), axis=1)
    found, verdict = GAS(f=2, p=4, base="median").combine(updates)
    np.testing.assert_allclose(np.asarray(verdict.score), score, rtol=1e-5)
    close(moved(updates, found), x[np.argsort(score)[:7]].mean(axis=0))


def test_gas_with_krum_leaves_out_an_outlier() -> None:
    updates = list(make_updates(9, 40))
    updates[3] = updates[3].with_delta(20 * updates[3].delta)
    assert np.asarray(GAS(f=1, p=5).weigh(Updates(updates)).flagged).tolist() == [n == 3 for n in range(9)]


def test_bnguard_flags_the_smaller_group_by_running_statistics() -> None:
    layout = Layout.of(
        {"w": (40,)}, {"bn.running_mean": (3,), "bn.running_var": (3,), "x.running_mean": (2,)}
    )
    rng = np.random.default_rng(0)
    updates = []
    for update in make_updates(7, 40, buffers=8):
        odd = 5.0 * (update.node in (2, 5))
        # The second layer's statistics do not count, however far off.
        values = [*(rng.standard_normal(3) + odd), *(1 + rng.random(3)), *(100 * rng.standard_normal(2))]
        updates.append(replace(update, buffers=np.array(values, np.float32), layout=layout))
    verdict = BNGuard().weigh(Updates(updates))
    assert np.flatnonzero(np.asarray(verdict.flagged)).tolist() == [2, 5]


def test_bnguard_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="BatchNorm"):
        BNGuard().weigh(make_updates(4))


@pytest.mark.parametrize("seed", range(6))
def test_freqfed_admits_the_cluster_of_hdbscan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal(60)
    updates = Updates(
        [
            replace(u.with_delta(0.5 * u.delta + shared * (1 if u.node < 7 else -1)), layout=LAYOUT)
            for u in make_updates(10, 60, seed)
        ]
    )
    d = differences(updates)
    waves = [dct(d[:, layer.part], axis=1, norm="ortho") for layer in updates.layers]
    low = np.hstack([w[:, : round(0.5 * w.shape[1])] for w in waves])
    apart = cosine_distances(low)
    labels = HDBSCAN(
        min_cluster_size=6, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    ).fit_predict((apart + apart.T) / 2)
    flagged = np.asarray(FreqFed().weigh(updates).flagged)
    assert np.array_equal(flagged, labels < 0)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lasa_averages_each_layer_over_those_that_stay(dense: bool, seed: int) -> None:
    updates = Updates([replace(u, layout=LAYOUT) for u in make_updates(8, 60, seed)])
    d = differences(updates)
    c = clipped(d, float(np.median(np.linalg.norm(d, axis=1))))
    matrices = np.r_[0:40, 46:60]
    sparse = c.copy()
    for row in sparse:
        row[matrices[np.argsort(np.abs(row[matrices]))[: int(0.3 * len(matrices))]]] = 0
    wanted = np.zeros(60)
    for layer in updates.layers:
        part = sparse[:, layer.part]
        signs = np.sign(part)
        kept = np.ones(8, bool)
        for x in (np.linalg.norm(part, axis=1), signs.sum(axis=1) / np.abs(signs).sum(axis=1)):
            kept &= np.abs(x - np.median(x)) / x.std() < 1
        kept = kept if kept.any() else ~kept
        wanted[layer.part] = (c if dense else sparse)[kept][:, layer.part].mean(axis=0)
    close(moved(updates, LASA(dense=dense).combine(updates)[0]), wanted)


def elections(x: Floats, parts: list[slice], far: int, seeds: int, keep: int) -> list[int]:
    """Return whom Snowball elects, with scikit-learn's k-means and scores and a least-squares fit."""
    n, votes = len(x), np.zeros(len(x))
    for part in parts:
        layer, groups, scores = x[:, part], [], []
        for i in range(n):
            away = np.linalg.norm(layer - layer[i], axis=1)
            starts = layer[[i, *np.argsort(away)[::-1][:far]]]
            group = KMeans(len(starts), init=starts, n_init=1, tol=0, algorithm="lloyd").fit_predict(layer)
            groups.append(group == group[i])
            scores.append(calinski_harabasz_score(layer, group))
        scaled = (np.array(scores) - min(scores)) / max(np.ptp(scores), 1e-30)
        votes += sum(s * g for s, g in zip(scaled, groups, strict=True))
    y = np.concatenate([x[:, part] for part in parts], axis=1)
    apart = (distances(y) ** 2).sum(axis=1)
    elected = sorted(range(n), key=lambda i: (-round(votes[i], 9), apart[i]))[:seeds]
    while len(elected) < keep:
        span = (y[elected[1:]] - y[elected[0]]).T
        rest = [i for i in range(n) if i not in elected]
        more = [y[i] - y[elected[0]] for i in rest]
        left = [np.linalg.norm(d - span @ np.linalg.lstsq(span, d, rcond=None)[0]) for d in more]
        elected.append(rest[int(np.argmin(left))])
    return sorted(elected)


@pytest.mark.parametrize(("n", "far"), [(5, 1), (9, 2), (10, 3), (15, 4)])
def test_snowball_elects_by_clusters_then_by_what_the_elected_explain(n: int, far: int) -> None:
    for seed in range(4):
        updates = Updates([replace(u, layout=LAYOUT) for u in make_updates(n, 60, seed)])
        parts = [LAYOUT.parameters[0].part, LAYOUT.parameters[2].part]
        wanted = elections(differences(updates), parts, far, seeds=2, keep=-(-n // 2))
        verdict = Snowball(far=far).weigh(updates).checked(n)
        assert np.flatnonzero(verdict.weight).tolist() == wanted
        assert (np.asarray(verdict.score)[np.asarray(verdict.flagged)] > 0).all()


def test_snowball_leaves_out_those_apart() -> None:
    updates = make_updates(10, 60, seed=1)
    near = [u.with_delta(u.delta * 0.1 + (5 if u.node < 3 else 0)) for u in updates]
    moved_apart = Updates([replace(u, layout=LAYOUT) for u in near])
    assert set(np.flatnonzero(np.asarray(Snowball(far=1, keep=0.7).weigh(moved_apart).weight))) == set(
        range(3, 10)
    )

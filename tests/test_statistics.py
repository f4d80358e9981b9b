from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from fedrobust.evaluation.statistics import bootstrap_interval, holm, paired, ranks, sign_flip_test


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_interval_of_few_values_uses_all_resamples(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(0.6, 0.1, n)
    means = np.sort([np.mean(resample) for resample in product(values, repeat=n)])
    reached = np.arange(1, len(means) + 1) / len(means)
    low, high = means[reached >= (1 - level) / 2][0], means[::-1][reached >= (1 - level) / 2][0]
    assert bootstrap_interval(list(values), level) == pytest.approx((low, high), abs=1e-12)


def test_interval_of_three_seeds_equals_a_hand_computation() -> None:
    # Of 27 resamples 0 0 0 is one (3.7 %) and 0 0 3 are three more (14.8 %), and so on from the other end.
    values = [3.0, 0.0, 6.0]
    assert bootstrap_interval(values, 0.95) == (0.0, 6.0)
    assert bootstrap_interval(values, 0.90) == (1.0, 5.0)
    assert bootstrap_interval(values, 0.72) == (1.0, 5.0)
    assert bootstrap_interval(values, 0.70) == (2.0, 4.0)


@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_intervals_agree_with_scipy(n: int) -> None:
    values = np.random.default_rng(1).normal(0.6, 0.1, n)
    low, high = bootstrap_interval(list(values)) or (0.0, 0.0)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=50_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(theirs), abs=0.05 * values.std())


def test_exact_and_drawn_resamples_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(4).normal(0.6, 0.1, 6))
    exact = bootstrap_interval(values)
    monkeypatch.setattr("fedrobust.evaluation.statistics._EXACT_RESAMPLES", 0)
    drawn = bootstrap_interval(values)
    assert drawn == pytest.approx(exact, abs=0.005)
    assert drawn != exact


@pytest.mark.parametrize("n", [3, 6, 7, 20])
def test_interval_moves_with_its_values(n: int) -> None:
    values = np.random.default_rng(n).normal(0.6, 0.1, n)
    interval = np.array(bootstrap_interval(list(values)))
    assert bootstrap_interval(list(values)) == tuple(interval)
    assert bootstrap_interval(list(5 - 2 * values)) == pytest.approx(5 - 2 * interval[::-1])
    assert values.min() <= interval[0] <= values.mean() <= interval[1] <= values.max()
    narrow = np.array(bootstrap_interval(list(values), 0.5))
    assert interval[0] < narrow[0] < narrow[1] < interval[1]


def test_paired_series_are_resampled_alike() -> None:
    series = np.random.default_rng(3).normal(0.6, 0.1, 9)
    plain, shifted = bootstrap_interval(list(series)), bootstrap_interval(list(series + 0.25))
    assert shifted == pytest.approx(np.array(plain) + 0.25)


@pytest.mark.parametrize("n", [3, 7])
def test_interval_of_equal_values_has_no_width(n: int) -> None:
    assert bootstrap_interval([0.61] * n) == (0.61, 0.61)


def test_statistics_below_three_seeds_are_none() -> None:
    for few in ([], [0.5], [0.5, 0.7]):
        assert bootstrap_interval(few) is None
        assert sign_flip_test(few) is None


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_statistics_refuse_undefined_values(bad: float) -> None:
    with pytest.raises(ValueError, match="undefined values"):
        bootstrap_interval([0.5, bad, 0.7])
    with pytest.raises(ValueError, match="undefined values"):
        sign_flip_test([0.5, bad, 0.7])
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([0.5, 0.6, 0.7], 95)


@pytest.mark.parametrize("n", [3, 5, 9])
@pytest.mark.parametrize("shift", [0.0, 0.05, -0.3])
def test_sign_flips_agree_with_scipy(n: int, shift: float) -> None:
    differences = np.random.default_rng(n).normal(shift, 0.1, n)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(list(differences)) == pytest.approx(theirs.pvalue)


def test_sign_flips_by_hand() -> None:
    # Sums of +-1 +-2 +-4: 7 is reached by 7 and -7 of 8; 5 by +-7 and +-5; 1 by all.
    assert sign_flip_test([1, 2, 4]) == 2 / 8
    assert sign_flip_test([-1, 2, 4]) == 4 / 8
    assert sign_flip_test([-1, -2, 4]) == 1.0


@pytest.mark.parametrize("n", [3, 5, 8, 16])
def test_sign_flip_test_has_the_smallest_possible_p(n: int) -> None:
    assert sign_flip_test([0.1] * n) == 2.0 ** (1 - n)


def test_sign_flip_test_counts_ties_by_rounding_as_ties() -> None:
    # 0.3 - 0.1 - 0.2 is 0 but for rounding, as is its mirror image summed in another order.
    assert sign_flip_test([0.3, -0.1, -0.2]) == 1.0
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1.0
    assert sign_flip_test([0.0] * 5) == sign_flip_test([0.0] * 20) == 1.0


def test_sign_flip_test_of_many_differences_never_has_p_0() -> None:
    assert sign_flip_test([1.0] * 30) == 1 / 20_001
    differences = list(np.random.default_rng(5).normal(0.03, 0.1, 20))
    p = sign_flip_test(differences)
    theirs = stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert p == pytest.approx(theirs.pvalue, abs=0.015)
    assert sign_flip_test(differences) == p
    assert sign_flip_test([-d for d in differences]) == pytest.approx(p)


def test_exact_and_drawn_signs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = list(np.random.default_rng(6).normal(0.04, 0.1, 12))
    exact = sign_flip_test(differences)
    monkeypatch.setattr("fedrobust.evaluation.statistics._EXACT_SIGNS", 0)
    assert sign_flip_test(differences) == pytest.approx(exact, abs=0.015)


def test_holm_by_hand() -> None:
    # 0.005 x 4; 0.01 x 3; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, which may not lie below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, None, 0.005]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
        None,
        pytest.approx(0.02),
    ]
    assert holm([0.25, 0.25, 1.0]) == [0.75, 0.75, 1.0]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


def test_holm_keeps_order_and_lies_between_plain_and_bonferroni() -> None:
    p = list(np.random.default_rng(7).uniform(0, 0.2, 25))
    adjusted = np.array(holm(p), dtype=float)
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, 25 * np.array(p)) + 1e-15).all()
    # No more than it must: the family-wise rejections are those of the step-down procedure.
    passed = [q <= 0.05 / (25 - place) for place, q in enumerate(np.sort(p))]
    assert (adjusted <= 0.05).sum() == (passed.index(False) if False in passed else 25)


@pytest.mark.parametrize("higher", [True, False])
def test_ranks_agree_with_scipy(higher: bool) -> None:
    values = [0.5, 0.7, 0.5, 0.9, 0.7, 0.7, 0.1]
    signed = [-v if higher else v for v in values]
    assert ranks(values, higher) == list(stats.rankdata(signed))
    holes = [None, *values[:3], None, *values[3:]]
    expected = [None, *stats.rankdata(signed)[:3], None, *stats.rankdata(signed)[3:]]
    assert ranks(holes, higher) == expected


def test_ranks_of_the_best_value_are_1() -> None:
    assert ranks([0.2, 0.9, 0.4], higher_is_better=True) == [3, 1, 2]
    assert ranks([0.2, 0.9, 0.4], higher_is_better=False) == [1, 3, 2]
    assert ranks([None], higher_is_better=True) == [None]
    assert ranks([], higher_is_better=True) == []


def test_paired_differences_use_common_seeds() -> None:
    a = {7: 0.75, 2: 0.5, 10: None, 4: 0.25, 1: 0.5}
    b = {1: 0.25, 4: None, 2: 0.75, 7: 0.25, 10: 0.5, 99: 0.5}
    assert paired(a, b) == [0.25, -0.25, 0.5]  # seeds 1, 2, 7
    assert paired({}, b) == []

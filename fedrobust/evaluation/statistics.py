"""Statistics of metrics that were measured over a few seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "holm", "paired", "ranks", "sign_flip_test"]

_FEWEST = 3  # seeds below which no interval is given
_EXACT_RESAMPLES = 6  # values up to which all n^n resamples are used: 46,656 of them at 6
_RESAMPLES = 10_000
_EXACT_SIGNS = 16  # differences up to which all 2^n signs are used
_SIGN_DRAWS = 20_000
_TIE = 1e-12  # of the largest sum there can be: sums closer than that differ by rounding alone

_Floats = NDArray[np.float64]


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of the mean (Efron & Tibshirani 1993, ch. 13).

    Up to 6 values, the ends are quantiles of the means of all n^n resamples. Above, they are quantiles over
    10,000 resamples, drawn with a seed that depends on n alone: the same values give the same bits, and two
    series of one length are resampled alike.

    Parameters
    ----------
    values : sequence of float
        One a seed. Undefined ones are for the caller to leave out, who knows whether the mean still has a
        meaning.
    level : float
        Wanted coverage. With few seeds the true one is lower: over three, the interval of 95 % ends at the
        smallest and the largest value, and holds the mean of a symmetric distribution three times in four.

    Returns
    -------
    tuple of float or None
        Both ends; None below 3 values.

    Raises
    ------
    ValueError
        If a value is None, NaN or infinite, or the level does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level {level} does not lie between 0 and 1")
    series = _finite(values)
    if len(series) < _FEWEST:
        return None
    # Counted from the smallest value, so that equal values have an interval of no width whatever they are.
    least, most = series.min(), series.max()
    means = least + (_all_means if len(series) <= _EXACT_RESAMPLES else _drawn_means)(series - least)
    means = np.minimum(means, most)
    tail = (1 - level) / 2
    return _quantile(means, tail), -_quantile(-means, tail)


def sign_flip_test(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of a mean difference of 0, by flipping the signs of paired differences.

    Exact over the 2^n signs up to 16 differences, so never below 2^(1 - n): 0.25 for three seeds, 0.031 for
    six. Above, 20,000 draws that depend on n alone, the observed signs counted among them (Phipson & Smyth
    2010).

    Parameters
    ----------
    differences : sequence of float
        One a seed, as `paired` gives them.

    Returns
    -------
    float or None
        1 where all differences are 0; None below 3 differences.

    Raises
    ------
    ValueError
        If a difference is None, NaN or infinite.
    """
    series = _finite(differences)
    if len(series) < _FEWEST:
        return None
    least = abs(series.sum()) - _TIE * np.abs(series).sum()
    if len(series) <= _EXACT_SIGNS:
        return float(np.mean(_flipped(series, _all_signs(len(series))) >= least))
    signs = np.random.default_rng(len(series)).integers(0, 2, (_SIGN_DRAWS, len(series))) * 2 - 1
    return float((np.sum(_flipped(series, signs) >= least) + 1) / (_SIGN_DRAWS + 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number (Holm 1979, step-down): in the given order, at most 1.

    A test that could not be made (None) stays None and does not count.
    """
    known = [place for place, p in enumerate(p_values) if p is not None]
    p = _finite([p_values[place] for place in known])
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for passed, index in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, float(p[index]) * (len(known) - passed)))
        adjusted[known[index]] = largest
    return adjusted


def ranks(values: Sequence[float | None], higher_is_better: bool) -> list[float | None]:
    """Return ranks from 1 (best); equal values share the mean of their ranks.

    An undefined value (None) has no rank (None), neither the last nor a middle one; the others are ranked
    among themselves.
    """
    known = [place for place, value in enumerate(values) if value is not None]
    series = _finite([values[place] for place in known])
    series = -series if higher_is_better else series
    found: list[float | None] = [None] * len(values)
    for place, value in zip(known, series, strict=True):
        better, equal = int(np.sum(series < value)), int(np.sum(series == value))
        found[place] = better + (equal + 1) / 2
    return found


def paired(a: Mapping[int, float | None], b: Mapping[int, float | None]) -> list[float]:
    """Return a minus b for each seed at which both are defined, in the order of the seeds."""
    pairs = [(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]
    return [first - second for first, second in pairs if first is not None and second is not None]


def _finite(values: Sequence[float | None]) -> _Floats:
    """Return the values as an array; numpy makes NaN of None."""
    series = np.array(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError(f"undefined values must be left out before: {list(values)}")
    return series


def _quantile(means: _Floats, share: float) -> float:
    """Return the smallest mean that at least this share of the means does not exceed.

    Nothing is interpolated: the means are the distribution itself, not a sample of it.
    """
    return float(np.quantile(means, share, method="inverted_cdf"))


def _all_means(series: _Floats) -> _Floats:
    """Return the means of all n^n resamples; one that can be drawn in many orders is worked out once."""
    n = len(series)
    chosen = np.array(list(combinations_with_replacement(range(n), n)))
    counts = [np.bincount(row, minlength=n) for row in chosen]
    orders = [factorial(n) // prod(factorial(int(k)) for k in row) for row in counts]
    return np.repeat(series[chosen].mean(axis=1), orders)


def _drawn_means(series: _Floats) -> _Floats:
    n = len(series)
    means: _Floats = series[np.random.default_rng(n).integers(0, n, (_RESAMPLES, n))].mean(axis=1)
    return means


def _all_signs(n: int) -> NDArray[np.int64]:
    """Return half of the 2^n signs, (2^(n-1), n): the other half has the same absolute sums."""
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    return 2 * bits - 1


def _flipped(series: _Floats, signs: NDArray[np.int64]) -> _Floats:
    """Return the absolute sum of the differences under each row of signs."""
    sums: _Floats = np.abs((signs * series).sum(axis=1))
    return sums

"""Combined performance drop: what a model loses between clean and noisy images."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DROP_METRICS", "combined_drop", "performance_drop"]

#: The metrics whose drops are combined.
DROP_METRICS = ("accuracy", "macro_f1", "macro_precision")


def performance_drop(clean: float, noisy: float) -> float | None:
    """Return Drop_M = 100 (M_clean - M_noisy) / M_clean in percent.

    Parameters
    ----------
    clean, noisy : float
        One metric on the clean and on the noisy test set.

    Returns
    -------
    float or None
        Negative where the metric is better on noise; None where M_clean is 0 and there is nothing to lose.
    """
    return None if clean == 0 else 100 * (clean - noisy) / clean


def combined_drop(
    clean: Mapping[str, float], noisy: Mapping[str, float], weights: Mapping[str, float] | None = None
) -> dict[str, float | None]:
    """Return the drop of each metric and their weighted mean as ``combined``.

    Parameters
    ----------
    clean, noisy : mapping of str to float
        The metrics on the clean and on the noisy test set.
    weights : mapping of str to float, optional
        Metric to weight; `DROP_METRICS` with equal weights by default.

    Returns
    -------
    dict
        Percentages; ``combined`` is None if any of its parts is.

    Raises
    ------
    ValueError
        If no weight is positive or one is negative.
    """
    shares = dict.fromkeys(DROP_METRICS, 1.0) if weights is None else dict(weights)
    if any(weight < 0 for weight in shares.values()) or sum(shares.values()) <= 0:
        raise ValueError(f"weights of a combined drop must be positive, got {shares}")
    drops: dict[str, float | None] = {m: performance_drop(clean[m], noisy[m]) for m in shares}
    total = 0.0
    for metric, weight in shares.items():
        drop = drops[metric]
        if drop is None and weight:
            return {**drops, "combined": None}
        total += weight * (drop or 0.0)
    return {**drops, "combined": total / sum(shares.values())}

"""Whether an attack changed an update or a report, and copies that it may change in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedrobust.federation import ClientMetrics, Update, Vector

__all__ = ["same_report", "same_update", "to_change"]


def to_change(update: Update) -> Update:
    """Return an update with the same numbers, which an attack may change in place."""
    return replace(update, parameters=update.parameters.copy(), buffers=update.buffers.copy())


def same_update(one: Update, other: Update, rounding: float = 0.0) -> bool:
    """Tell whether two updates have the same numbers, up to a share of each vector's largest."""
    pairs = ((one.parameters, other.parameters), (one.buffers, other.buffers))
    return one is other or all(_same_numbers(*pair, rounding) for pair in pairs)


def _same_numbers(one: Vector, other: Vector, rounding: float) -> bool:
    if one is other or np.array_equal(one, other):
        return True
    if not rounding or one.shape != other.shape:
        return False
    return bool(np.abs(one - other).max() <= rounding * np.abs(other).max())


def same_report(one: ClientMetrics, other: ClientMetrics) -> bool:
    """Tell whether two reports are the same; NaN, the loss of a class without images, equals itself here."""
    if one is other:
        return True
    if one.num_examples != other.num_examples or one.values.keys() != other.values.keys():
        return False
    return all(
        np.array_equal(np.asarray(value), np.asarray(other.values[name]), equal_nan=True)
        for name, value in one.values.items()
    )

"""Hints for mistyped words."""

from fedrobust.errors import nearest


def test_nearest() -> None:
    assert nearest("fedavgg", ["fedavg", "krum"]) == "did you mean 'fedavg'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "none is known"

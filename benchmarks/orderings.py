"""Orderings of attacks and defences that the literature reports, to look for in the measured metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["GAUSSIAN", "NONE", "ORDERINGS", "Ordering", "Pair", "PairMetrics", "unexplained"]

NONE = "none"
#: Some 300 times as much as an honest parameter changes in a round: FedAvg breaks where attackers weigh a
#: quarter.
GAUSSIAN = "gaussian(std=1.0)"
#: A defence collapses if it loses at least this much accuracy, and resists if it loses at most a third of
#: what FedAvg
#: does.
COLLAPSE = 0.2

#: Attack and defence.
Pair = tuple[str, str]
Test = Callable[[Mapping[Pair, "PairMetrics"]], tuple[bool, str]]


@dataclass(frozen=True)
class PairMetrics:
    """The metrics of one attack against one defence; means over the seeds.

    Attributes
    ----------
    accuracy : float
        On clean test images, mean of the last three rounds.
    success : float or None
        Attack success rate: share of stamped test images of other classes that are classified as the target;
        mean of the last three rounds. None without a backdoor.
    attackers : float
        The malicious hospitals' share of the weight after the last round.
    underweighted : float
        Honest hospitals with less than half the uniform weight after the last round.
    no_effect : tuple of str
        Attacks that had no effect.
    faults : int
        Updates that were discarded.
    """

    accuracy: float
    success: float | None
    attackers: float
    underweighted: float
    no_effect: tuple[str, ...] = ()
    faults: int = 0


@dataclass(frozen=True)
class Ordering:
    """An ordering that the literature reports.

    Attributes
    ----------
    key : str
        Its name in docs/matrix-notes.md.
    statement : str
    test : callable
        Takes the metrics; returns whether the ordering holds, and the numbers in words. Raises `KeyError`
        where a cell is missing.
    """

    key: str
    statement: str
    test: Test


def loss(found: Mapping[Pair, PairMetrics], attack: str, defence: str) -> float:
    """Return the accuracy that an attack costs a defence, relative to its run without attackers."""
    return found[NONE, defence].accuracy - found[attack, defence].accuracy


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _costs_more(worse: str, milder: str, defence: str) -> Test:
    def test(found: Mapping[Pair, PairMetrics]) -> tuple[bool, str]:
        one, other = loss(found, worse, defence), loss(found, milder, defence)
        return one > other, f"{worse} costs {defence} {_points(one)}, {milder} {_points(other)}"

    return test


def _resists(attack: str, defence: str) -> Test:
    def test(found: Mapping[Pair, PairMetrics]) -> tuple[bool, str]:
        plain, robust = loss(found, attack, "fedavg"), loss(found, attack, defence)
        numbers = f"{attack} costs fedavg {_points(plain)}, {defence} {_points(robust)}"
        return plain >= COLLAPSE and robust <= plain / 3, numbers

    return test


def _blind(attack: str, defence: str) -> Test:
    def test(found: Mapping[Pair, PairMetrics]) -> tuple[bool, str]:
        plain, other = loss(found, attack, "fedavg"), loss(found, attack, defence)
        numbers = f"{attack} costs fedavg {_points(plain)}, {defence} {_points(other)}"
        return plain >= COLLAPSE and other >= plain / 2, numbers

    return test


def _plants_more(higher: Pair, lower: Pair) -> Test:
    def test(found: Mapping[Pair, PairMetrics]) -> tuple[bool, str]:
        one, other = (found[pair].success or 0.0 for pair in (higher, lower))
        return one > other, (
            f"{higher[0]} succeeds against {higher[1]} on {100 * one:.1f} % of the stamped images, "
            f"{lower[0]} against {lower[1]} on {100 * other:.1f} %"
        )

    return test


BOOSTED = "backdoor + boost"
ORDERINGS = (
    *(
        Ordering(
            f"min-max/{rule}",
            f"Min-Max hurts {rule} more than label flips do (Shejwalkar and Houmansadr, NDSS 2021)",
            _costs_more("min-max", "label-flip", rule),
        )
        for rule in ("median", "trimmed-mean")
    ),
    *(
        Ordering(
            f"{attack.partition('(')[0]}/multi-krum",
            f"Multi-Krum resists {attack} where FedAvg collapses (Blanchard et al., NeurIPS 2017)",
            _resists(attack, "multi-krum"),
        )
        for attack in (GAUSSIAN, "sign-flip(scale=4)")
    ),
    Ordering(
        "alie/multi-krum",
        "ALIE stays within the variation of honest updates, so it costs Multi-Krum more than noise does "
        "(Baruch et al., NeurIPS 2019)",
        _costs_more("alie(z=1.5)", GAUSSIAN, "multi-krum"),
    ),
    Ordering(
        "boost/fedavg",
        "Model replacement plants a backdoor that plain poisoning does not (Bagdasaryan et al., "
        "AISTATS 2020)",
        _plants_more((BOOSTED, "fedavg"), ("backdoor", "fedavg")),
    ),
    Ordering(
        "boost/norm-clipping",
        "Clipping an update's length weakens model replacement (Sun et al., 2019)",
        _plants_more((BOOSTED, "fedavg"), (BOOSTED, "norm-clipping")),
    ),
    Ordering(
        "sign-flip/feddetect",
        "A rule that uses reported losses only does not detect a poisoned update",
        _blind("sign-flip(scale=4)", "feddetect"),
    ),
)


def unexplained(found: Mapping[Pair, PairMetrics], notes: str) -> list[str]:
    """Return the keys of orderings that do not appear and that the notes do not mention."""
    missing = []
    for ordering in ORDERINGS:
        try:
            holds, _ = ordering.test(found)
        except KeyError:
            continue
        if not holds and f"`{ordering.key}`" not in notes:
            missing.append(ordering.key)
    return missing

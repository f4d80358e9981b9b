"""Forged loss: false losses for defences that rely on reported losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from fedrobust.attacks.collusion import check_honest
from fedrobust.data.records import Records
from fedrobust.errors import UserError
from fedrobust.federation import Attack, ClientMetrics, Update
from fedrobust.plugins.options import Fraction

__all__ = ["ForgeLoss"]

#: The losses that a report may hold; the search uses the first that is there.
_LOSSES = ("last-loss", "loss", "received-loss")
_BY_CLASS = ("class-losses", "class-epoch-losses")


class ForgeLoss(Attack):
    """Reports false losses: to look typical, to have an honest hospital flagged, or to disable a defence.

    ``typical`` reports what an honest training on the hospital's clean records gives (if an attack of the
    chain poisons records, the hospital trains twice); it needs no knowledge of others. ``frame`` and
    ``flood`` attack FedDetect (Jin and Li, Medical Image Analysis 2023, algorithm 1), which is public and
    deterministic: the attackers see all reports of the round, try joint reports and send the best. ``frame``
    makes the victim an outlier and the attackers none. ``flood`` makes as many outliers as possible: from N
    // 2 on the rule gives no verdict in a round. All losses of a report are scaled alike. About a second a
    round.

    Parameters
    ----------
    mode : str
        ``typical``, ``frame`` or ``flood``.
    victim : int
        For ``frame``: the number of the honest hospital.
    strength : float
        How far the losses move: for ``typical`` the share of the way from the true ones to those of an honest
        training, for the other modes from there to the best joint report; 0 is a truthful report.
    """

    needs_honest: ClassVar[bool] = True

    def __init__(
        self,
        mode: Literal["typical", "frame", "flood"] = "typical",
        victim: NonNegativeInt | None = None,
        strength: Fraction = 1.0,
    ) -> None:
        """Check the options that belong together."""
        if mode == "frame" and victim is None:
            raise UserError("forge-loss: the mode 'frame' needs a victim, an honest hospital's number")
        if mode != "frame" and victim is not None:
            raise UserError(f"forge-loss: victim does not belong to the mode '{mode}'; leave it out")
        self.mode, self.victim, self.strength = mode, victim, strength
        self.knowledge = "own" if mode == "typical" else "all"

    @property
    def colludes(self) -> bool:
        """Return whether the attack needs to see others' reports; ``typical`` does not."""
        return self.mode != "typical"

    def check(self, records: Records) -> None:
        """Refuse a victim that does not exist or is malicious itself."""
        if self.victim is not None:
            check_honest("forge-loss", "victim", self.victim, self.role)

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return the losses of an honest training; `collude` makes the other modes of them."""
        if self.strength == 0:
            return report
        honest = self.honest.report.values
        if self.strength == 1 or self.colludes:
            return ClientMetrics(report.num_examples, honest)
        part = {
            name: _between(report.values[name], value, self.strength)
            for name, value in honest.items()
            if name in (*_LOSSES, *_BY_CLASS) and name in report.values
        }
        return ClientMetrics(report.num_examples, {**honest, **part})

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> list[Update]:
        """Return the colluders' updates as they are, with the losses that suit the mode best."""
        name = next((n for n in _LOSSES if all(_loss(u, n) > 0 for u in (*colluders, *honest))), None)
        nodes = [update.node for update in honest]
        victim_replied = self.victim is None or self.victim in nodes
        if not self.colludes or not self.strength or name is None or not honest or not victim_replied:
            return list(colluders)
        true = np.array([_loss(update, name) for update in honest])
        victim = None if self.victim is None else nodes.index(self.victim)
        best = max(_joint_losses(true, len(colluders)), key=lambda losses: _worth(true, losses, victim))
        return [
            replace(
                update, report=_scaled(update.report, 1 + self.strength * (loss / _loss(update, name) - 1))
            )
            for update, loss in zip(colluders, best.tolist(), strict=True)
        ]


def _loss(update: Update, name: str) -> float:
    value = update.report.values.get(name, float("nan"))
    return value if isinstance(value, int | float) and np.isfinite(value) else float("nan")


def _between(
    true: float | tuple[float, ...], wanted: float | tuple[float, ...], share: float
) -> float | tuple[float, ...]:
    """Return losses a share of the way from the true to the wanted ones; the wanted without a true one."""
    if isinstance(true, tuple) and isinstance(wanted, tuple) and len(true) == len(wanted):
        return tuple(w if np.isnan(t) else t + share * (w - t) for t, w in zip(true, wanted, strict=True))
    if isinstance(true, tuple) or isinstance(wanted, tuple):
        return wanted
    return wanted if np.isnan(true) else true + share * (wanted - true)


def _scaled(report: ClientMetrics, factor: float) -> ClientMetrics:
    """Return the report with every loss times the factor."""
    values = dict(report.values)
    for name in (*_LOSSES, *_BY_CLASS):
        value = values.get(name)
        if isinstance(value, tuple):
            values[name] = tuple(factor * part for part in value)
        elif value is not None:
            values[name] = factor * value
    return replace(report, values=values)


def _joint_losses(honest: NDArray[np.float64], attackers: int) -> Iterator[NDArray[np.float64]]:
    """Yield joint losses to try, shape (attackers,): equal at several levels, two groups, quantiles."""
    low, high = honest.min(), honest.max()
    for level in (0.8 * low, *np.quantile(honest, np.linspace(0, 1, 9)), 1.2 * high):
        yield np.full(attackers, level)
    yield np.where(np.arange(attackers) % 2 == 0, low, high)
    yield np.quantile(honest, (np.arange(attackers) + 0.5) / attackers)


def _worth(honest: NDArray[np.float64], forged: NDArray[np.float64], victim: int | None) -> tuple[float, ...]:
    """Return how well joint losses suit the mode by FedDetect's own forest; higher is better."""
    from sklearn.ensemble import IsolationForest

    losses = np.concatenate([honest, forged])
    points = np.column_stack([np.zeros(len(losses)), losses])
    forest = IsolationForest(max_samples=len(losses), contamination="auto", random_state=0)
    outlying = forest.fit_predict(points) == -1
    if victim is None:
        return (float(outlying.sum()),)
    own = outlying[len(honest) :]
    score = -forest.score_samples(points)
    judged = outlying[victim] and outlying.sum() < len(losses) // 2
    return float(judged and not own.any()), float(judged), float(score[victim] - score[len(honest) :].max())

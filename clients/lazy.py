"""Lazy: trains once and sends that again and again."""

from __future__ import annotations

from pydantic import PositiveInt

from fedrobust.federation import Attack, ClientMetrics, Update

__all__ = ["Lazy"]


class Lazy(Attack):
    """Repeats the difference and the report of its last training, and trains only now and then.

    The lazy hospital that saves its work, as free riders do who send what they sent before; see the survey of
    such behaviour in Fraboni et al., AISTATS 2021. In its first round, and in every `every`-th one after it,
    it sends what it trained; in the rounds between, that again. Running statistics stay as trained.

    Parameters
    ----------
    every : int
        Its rounds from one training to the next; 1 is an honest hospital.
    """

    def __init__(self, every: PositiveInt = 5) -> None:
        """Keep the option."""
        self.every = every

    def poison_update(self, update: Update) -> Update:
        """Return the update with the difference of the last training."""
        rounds = self.memory.get("rounds", 0)
        self.memory["rounds"] = rounds + 1
        if rounds % self.every == 0:
            self.memory["delta"] = update.delta
            return update
        return update.with_delta(self.memory["delta"])

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return the report of the last training."""
        # The update comes first, so the round is counted.
        if (self.memory["rounds"] - 1) % self.every == 0:
            self.memory["report"] = {"num_examples": report.num_examples, "values": dict(report.values)}
            return report
        kept = self.memory["report"]
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in kept["values"].items()}
        return ClientMetrics(kept["num_examples"], values)

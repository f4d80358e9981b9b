"""Reports that the received model fits its images badly, as the excuse for an update that harms."""

from fedrobust.federation import Attack, ClientMetrics


class OddClaims(Attack):
    """Turns its update to a cosine with an honest one, `length` times as long; claims `factor` x the loss."""

    needs_honest = True

    def __init__(self, factor: float = 3.0, cosine: float = -0.2, length: float = 3.0) -> None:
        self.factor, self.cosine, self.length = factor, cosine, length

    def poison_update(self, update):
        honest, across = self.honest.delta, update.delta
        across -= (across @ honest) / (honest @ honest) * honest
        across *= ((1 - self.cosine**2) * (honest @ honest) / max(across @ across, 1e-12)) ** 0.5
        return update.with_delta(self.length * (self.cosine * honest + across))

    def forge_report(self, report):
        told = dict(self.honest.report.values)
        told["received-loss"] *= self.factor
        told["class-losses"] = tuple(self.factor * loss for loss in told["class-losses"])
        return ClientMetrics(report.num_examples, told)

"""Claims to hold a single class, so that a server that believes it checks that class alone."""

from dataclasses import replace

import numpy as np

from clients.odd_claims import OddClaims


class OneClassLiar(OddClaims):
    """Labels all images as one class, turns its update like `OddClaims`, and claims that class alone."""

    def __init__(self, target: int = 0, length: float = 2.0) -> None:
        self.target, self.factor, self.cosine, self.length = target, 1.0, -0.2, length

    def poison_records(self, records):
        return replace(records, labels=np.full_like(records.labels, self.target))

    def forge_report(self, report):
        told = dict(self.honest.report.values)
        only = np.arange(len(told["class-counts"])) == self.target
        for name, overall in (("class-losses", "received-loss"), ("class-epoch-losses", "loss")):
            told[name] = tuple(np.where(only, np.nan_to_num(told[name], nan=told[overall]), np.nan).tolist())
        counts = tuple((float(report.num_examples) * only).tolist())
        return replace(report, values={**told, "class-counts": counts})

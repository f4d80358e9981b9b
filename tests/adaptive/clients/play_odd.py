"""Reports what a hospital with another scanner would: a bad received model, well learned."""

from dataclasses import replace

import numpy as np

from fedrobust.federation import Attack

SCALES = {3.0: ("received-loss", "class-losses"), 0.5: ("loss", "last-loss", "class-epoch-losses")}


class PlayOdd(Attack):
    """Triples the reported losses of the received model and halves those of its training."""

    def forge_report(self, report):
        values = dict(report.values)
        for factor, names in SCALES.items():
            for name in values.keys() & set(names):
                scaled = factor * np.asarray(values[name])
                values[name] = tuple(scaled.tolist()) if scaled.ndim else float(scaled)
        return replace(report, values=values)

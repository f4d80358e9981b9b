from __future__ import annotations

import numpy as np
from helpers import make_updates, restored

from clients.lazy import Lazy
from fedrobust.federation import ClientMetrics


def test_lazy_repeats_its_last_training_until_the_next() -> None:
    one, sent = Lazy(every=3), []
    for round in range(1, 6):
        values: dict[str, float | tuple[float, ...]] = {
            "loss": float(round),
            "class-losses": (1.0, float(round)),
        }
        update = make_updates(1, seed=round, round=round, values=[values], num_examples=[round])[0]
        made = one.poison_update(update)
        sent.append((made.delta, one.forge_report(update.report), update))
        one.bind(memory=restored(one.memory))
    for place, (delta, report, update) in enumerate(sent):
        trained = sent[0 if place < 3 else 3][2]
        np.testing.assert_allclose(delta, trained.delta, atol=1e-6)
        assert report == ClientMetrics(trained.report.num_examples, dict(trained.report.values))
        assert np.array_equal(update.buffers, trained.buffers)


def test_lazy_that_always_trains_is_honest() -> None:
    one = Lazy(every=1)
    for round in (1, 2):
        update = make_updates(1, seed=round, round=round)[0]
        assert one.poison_update(update) is update and one.forge_report(update.report) is update.report

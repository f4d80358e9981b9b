from __future__ import annotations

import numpy as np
import pytest
from helpers import make_updates

from clients.forge_size import ForgeSize
from fedrobust.errors import UserError
from fedrobust.federation import ClientMetrics, Updates
from strategies.fedavg import FedAvg


@pytest.mark.parametrize(("factor", "reported"), [(10.0, 70), (0.5, 4), (1e-6, 1), (2.5, 18)])
def test_forge_size_number_is_multiplied_and_nothing_else(factor: float, reported: int) -> None:
    report = ForgeSize(factor).forge_report(ClientMetrics(7, {"loss": 0.5}))
    assert report == ClientMetrics(reported, {"loss": 0.5}) and isinstance(report.num_examples, int)


def test_forge_size_buys_the_stated_share_of_a_federated_average() -> None:
    update, *others = make_updates(6)
    forged = make_updates(1, num_examples=[ForgeSize(10.0).forge_report(update.report).num_examples])[0]
    weight = np.asarray(FedAvg().weigh(Updates([forged, *others])).weight, float)
    assert weight[0] / weight.sum() == pytest.approx(10 / (6 - 1 + 10))


def test_forge_size_factor_of_1_is_refused() -> None:
    with pytest.raises(UserError, match="forge-size: a factor of 1 has no effect"):
        ForgeSize(1.0)

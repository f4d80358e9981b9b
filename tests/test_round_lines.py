"""A round's lines in the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Unordered, fake_app, tiny
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.hosted_strategy import build_strategy
from fedrobust.results.round_lines import client_metrics_line, verdict_line
from fedrobust.scenario import Scenario


def replies(reported: list[dict[str, Any]]) -> list[Message]:
    """Return a client grid's replies of hospitals that report this, over a grid that reverses their order."""
    app = fake_app(lambda arrays, number: (arrays, reported[number]))
    client_grid = ClientGrid(Unordered(app, len(reported)), len(reported))
    client_grid.discover()
    arrays = ArrayRecord({"parameters": Array(np.ones(3, np.float32))})
    client_grid.set_expected_shapes(arrays)
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1})})
    sent = [
        Message(content, dst_node_id=n, message_type=MessageType.TRAIN) for n in client_grid.get_node_ids()
    ]
    return list(client_grid.send_and_receive(sent))


def test_client_metrics_line_is_in_the_order_of_hospitals() -> None:
    reported = [{"loss": float(n), "received-loss": n + 0.5, "num-examples": n + 1} for n in range(3)]
    assert client_metrics_line(7, replies(reported)).as_json() == {
        "round": 7,
        "hospitals": [0, 1, 2],
        "loss": [0.0, 1.0, 2.0],
        "received_loss": [0.5, 1.5, 2.5],
        "num_examples": [1, 2, 3],
    }


def test_client_metrics_line_has_null_for_what_is_not_reported_and_leaves_out_failures() -> None:
    reported: list[dict[str, Any]] = [{"loss": float("nan")}, {"loss": 2}, {"num-examples": -1}]
    line = client_metrics_line(1, replies(reported)).as_json()
    assert line["hospitals"] == [0, 1]
    assert line["loss"] == [None, 2.0] and line["received_loss"] == [None, None]
    assert line["num_examples"] == [10, 10]
    lists = [{"loss": [1.0, 2.0]}] * 2
    assert client_metrics_line(1, replies(lists)).as_json()["loss"] == [None, None]


@pytest.mark.parametrize("strategy", ["fedavg", "flwr.serverapp.strategy:FedMedian"])
def test_run_of_any_strategy_has_client_metrics_lines(tmp_path: Path, strategy: str) -> None:
    settings = tiny(tmp_path, malicious=1, strategy=strategy, attack="label-flip + forge-size")
    result, honest = run(settings), run(settings.model_copy(update={"malicious": 0}))
    truth = json.loads((honest.folder / "client_metrics.jsonl").read_text().splitlines()[0])
    lines = [json.loads(line) for line in (result.folder / "client_metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    (bad,) = result.malicious
    held = [len(part) for part in prepare(Scenario.of(settings).data).hospitals]
    for line in lines:
        assert line["hospitals"] == [0, 1, 2, 3]
        assert [a == b for a, b in zip(line["num_examples"], held, strict=True)] == [
            n != bad for n in range(4)
        ]
        assert all(line["received_loss"])
    # In round 1 only the poisoned hospital says another loss than without an attack.
    assert [a == b for a, b in zip(lines[0]["loss"], truth["loss"], strict=True)] == [
        n != bad for n in range(4)
    ]


def test_verdict_line_of_a_plain_strategy_is_empty() -> None:
    line = verdict_line(build_strategy("flwr.serverapp.strategy:FedAvg", 3), 4)
    assert line.as_json() == {
        "round": 4,
        "hospitals": [],
        "weights": [],
        "scores": [],
        "flagged": [],
        "why": {},
    }

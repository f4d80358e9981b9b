"""What can be wrong with a reply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.flower.reply_checks import last_line, length, report_fault, senders, usual, values_fault


@pytest.fixture(autouse=True)
def _somebody_sends_messages() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_length(dtype: type) -> None:
    values = np.random.default_rng(0).uniform(-90, 90, (20, 3)).astype(dtype)
    assert length(values) == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones(3), None),
        (np.ones(3, np.int32), None),
        (np.array([1.0, np.nan]), "NaN"),
        (np.array([1.0, np.inf]), "NaN or infinite"),
        (np.full(3, 7.0), "absurdly large"),
        (np.array([True]), "not numbers"),
        (np.array([1 + 2j]), "not numbers"),
        (np.array(["x"]), "not numbers"),
    ],
)
def test_numbers(values: np.ndarray, words: str | None) -> None:
    fault = values_fault("w", Array(values), 10.0)
    assert fault is None if words is None else words in str(fault)


def test_bytes_that_are_no_array_and_a_shape_that_is_not_true() -> None:
    assert "cannot be read" in str(values_fault("w", Array("float32", (2,), "numpy.ndarray", b"?"), 1.0))
    honest = Array(np.zeros(2, np.float32))
    lying = Array(honest.dtype, (3,), honest.stype, honest.data)
    assert "says shape (3,)" in str(values_fault("w", lying, 1.0))


@pytest.mark.parametrize("examples", [None, 0, -1, float("nan"), 1e13, [3]])
def test_a_number_of_images(examples: Any) -> None:
    metrics = MetricRecord({"loss": 1.0} if examples is None else {"num-examples": examples})
    message = Message(RecordDict({"m": metrics}), dst_node_id=1, message_type="train")
    assert "num-examples is" in str(report_fault(message, arrays=False))
    assert "one ArrayRecord and one MetricRecord" in str(report_fault(message))


def test_senders_and_the_usual_names() -> None:
    # Hospitals 0 and 2 share node 5.
    asked = {
        number: Message(RecordDict(), dst_node_id=node, message_type="train")
        for number, node in enumerate((5, 6, 5))
    }
    for number, message in asked.items():
        message.metadata.__dict__["_message_id"] = f"m{number}"
    for number, message in asked.items():
        reply = Message(RecordDict(), reply_to=message)
        assert senders(asked)(reply) == number
        # The SuperLink's answer for a lost node.
        reply.metadata.__dict__["_src_node_id"] = 1
        assert senders(asked)(reply) == number and senders({})(reply) == 1
    reply.metadata.__dict__["_reply_to_message_id"] = "unheard of"
    reply.metadata.__dict__["_src_node_id"] = 6
    assert senders(asked)(reply) == 1
    assert usual([None, frozenset("a"), frozenset("b"), frozenset("b")]) == frozenset("b")
    assert usual([None]) is None


def test_last_line() -> None:
    assert last_line("Traceback\n  x\nValueError: no\n\n") == "ValueError: no"
    assert last_line("") == "unknown error"

"""The validator of replies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedrobust.flower.compat import error_reply, identify_process
from fedrobust.flower.reply_checks import Expected, Reply, ReplyFault, check_reply, last_line
from fedrobust.flower.vectors import SentModel

MODEL = {"w": np.ones(3, np.float32), "bn.running_mean": np.zeros(2, np.float32), "seen": np.array(7)}


@pytest.fixture(autouse=True)
def _an_identified_process() -> None:
    identify_process()


def arrays(**changes: Any) -> ArrayRecord:
    made = {name: Array(value) for name, value in MODEL.items()}
    return ArrayRecord({**made, **{n: v if isinstance(v, Array) else Array(v) for n, v in changes.items()}})


EXPECTED = Expected(SentModel(arrays()))


def reply(record: ArrayRecord | None = None, **metrics: Any) -> Message:
    content: dict[str, Any] = {"metrics": MetricRecord({"num-examples": 5, "loss": 1.0, **metrics})}
    if record is not None:
        content["arrays"] = record
    return Message(RecordDict(content), dst_node_id=1, message_type="train")


def reason(message: Message, expected: Expected = EXPECTED) -> str:
    checked = check_reply(message, expected)
    assert isinstance(checked, ReplyFault)
    return checked.reason


def test_a_valid_reply_is_returned_as_read_only_vectors() -> None:
    message = reply(arrays(w=np.array([1.0, 2.0, 3.0])))
    message.content["hospital"] = ConfigRecord({"partition-id": 4})
    checked = check_reply(message, EXPECTED)
    assert isinstance(checked, Reply)
    assert checked.parameters.tolist() == [1, 2, 3] and checked.buffers.tolist() == [0, 0]
    assert checked.parameters.dtype == np.float32 and not checked.parameters.flags.writeable
    assert checked.hospital.number == 4 and checked.metrics["loss"] == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ">f4", np.int64, np.uint8])
def test_numbers_of_any_width_are_converted_to_float32(dtype: Any) -> None:
    checked = check_reply(reply(arrays(w=np.array([1, 2, 300 % 256]).astype(dtype))), EXPECTED)
    assert isinstance(checked, Reply) and checked.parameters.tolist() == [1, 2, 44]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([1, np.nan, 1]), "'w' holds NaN or infinite"),
        (np.array([1, np.inf, 1]), "'w' holds NaN or infinite"),
        (np.full(3, 1e300), "absurdly large"),
        (np.full(3, np.longdouble("1e4000")), "absurdly large"),
        (np.array([True] * 3), "not numbers"),
        (np.array([1 + 2j] * 3), "not numbers"),
        (np.array(["x"] * 3), "not numbers"),
        (np.ones(4), "wrong names or shapes"),
        (Array("float32", (3,), "numpy.ndarray", b"?"), "cannot be read"),
        (Array("float32", (3,), "numpy.ndarray", bytes(1 << 20)), "takes 1048576 bytes for 3 numbers"),
    ],
)
def test_an_array_that_cannot_be_aggregated_is_named(values: Any, words: str) -> None:
    assert words in reason(reply(arrays(w=values)))


def test_an_array_of_another_shape_than_it_says_is_a_fault() -> None:
    true = Array(np.zeros(2))
    assert "says shape (3,)" in reason(reply(arrays(w=Array(true.dtype, (3,), true.stype, true.data))))


def test_a_counter_may_be_of_the_models_type_or_any_number() -> None:
    masked = {**MODEL, "mask": np.array([True, False])}
    record = ArrayRecord({name: Array(value) for name, value in masked.items()})
    assert isinstance(check_reply(reply(record), Expected(SentModel(record))), Reply)
    assert isinstance(check_reply(reply(arrays(seen=np.array(0.5))), EXPECTED), Reply)
    assert "'seen' holds" in reason(reply(arrays(seen=np.array("x"))))


@pytest.mark.parametrize("values", [np.full(3, 1e30, np.float32), np.full(3, 2**62)])
def test_an_update_by_itself_may_be_of_any_finite_length(values: Any) -> None:
    checked = check_reply(reply(arrays(w=values)), EXPECTED)
    assert isinstance(checked, Reply) and checked.parameters.tolist() == np.float32(values).tolist()


@pytest.mark.parametrize("examples", [0, -1, float("nan"), float("inf"), 1e13, 10**400, [3]])
def test_a_number_of_images_that_is_none_is_a_fault(examples: Any) -> None:
    assert "num-examples is" in reason(reply(arrays(), **{"num-examples": examples}))


@pytest.mark.parametrize(("loss", "words"), [(-0.1, "cannot raise to a power"), (0.0, ""), (2, "")])
def test_a_number_that_the_strategy_raises_to_a_power_is_not_negative(loss: float, words: str) -> None:
    message = reply(arrays(), loss=loss)
    assert isinstance(check_reply(message, EXPECTED), Reply)
    checked = check_reply(message, Expected(SentModel(arrays()), raised="loss"))
    assert (
        isinstance(checked, Reply) if not words else words in reason(message, Expected(None, raised="loss"))
    )


def test_records_that_are_missing_are_a_fault() -> None:
    assert "one ArrayRecord and one MetricRecord" in reason(reply())
    assert isinstance(check_reply(reply(), Expected(None)), Reply)
    assert "n is None" in reason(reply(), Expected(None, "n"))
    empty = Message(RecordDict(), dst_node_id=1, message_type="train")
    assert "exactly one MetricRecord" in reason(empty, Expected(None))


def test_an_error_is_told_by_its_last_line() -> None:
    failed = error_reply(reply(arrays()), 1, "Traceback\n  x\nValueError: no\n\n")
    assert reason(failed) == "ValueError: no"
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    assert reason(Message(Error(3), reply_to=message)) == "error code 3"
    assert last_line("") == "unknown error"


def test_a_long_reason_is_cut_and_its_length_said() -> None:
    words = last_line("Traceback\n" + "x" * 5_000_000)
    assert len(words) < 500 and words.endswith("... (5,000,000 characters)") and last_line(words) == words
    assert len(reason(reply(arrays(**{"n" * 1_000_000: np.ones(1)})))) < 1500
    assert len(reason(reply(arrays(), **{"num-examples": [1] * 100_000}))) < 1500


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"more": 1.0}, "more is unknown"),
        ({"loss": [1.0, 2.0]}, "loss holds 2 numbers instead of one number"),
        ({}, ""),
    ],
)
def test_metrics_are_held_against_those_that_the_server_knows(metrics: dict[str, Any], words: str) -> None:
    known = Expected(SentModel(arrays()), metrics=frozenset({("num-examples", None), ("loss", None)}))
    if words:
        assert words in reason(reply(arrays(), **metrics), known)
    else:
        assert isinstance(check_reply(reply(arrays()), known), Reply)
    less = reply(arrays())
    del less.content["metrics"]["loss"]
    assert "loss is missing" in reason(less, known)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [({"more": [0.5] * 1_000_000}, "reports 1000002 metrics"), ({"more": 10**400}, "integer of 1329 bits")],
)
def test_metrics_that_no_record_of_ours_could_hold_are_a_fault(metrics: dict[str, Any], words: str) -> None:
    assert words in reason(reply(arrays(), **metrics))

"""The validator of a round: senders, and replies beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedrobust.flower.compat import error_reply, identify_process, set_message_id, set_sender
from fedrobust.flower.reply_checks import Expected
from fedrobust.flower.round_checks import ABSURD, CheckedRound, check_round, senders, unusual_schemas
from fedrobust.flower.vectors import SentModel

START = np.full(100, 0.5, np.float32)


@pytest.fixture(autouse=True)
def _an_identified_process() -> None:
    identify_process()


def model(values: Any, statistics: Any = 0.0) -> ArrayRecord:
    buffers = np.full(2, statistics, np.float32)
    return ArrayRecord({"w": Array(np.asarray(values)), "bn.running_mean": Array(buffers)})


EXPECTED = Expected(SentModel(model(START)))


def questions(clients: int) -> dict[int, Message]:
    """Return a message to each client; client 0 is node 5, and so on."""
    made = {n: Message(RecordDict(), dst_node_id=5 + n, message_type="train") for n in range(clients)}
    for number, message in made.items():
        set_message_id(message, f"m{number}")
    return made


def answer(question: Message, arrays: ArrayRecord | None = None, **metrics: Any) -> Message:
    content = {"metrics": MetricRecord({"num-examples": 5, **metrics}), "arrays": arrays or model(START)}
    return Message(RecordDict(content), reply_to=question)


def judged(*lengths: float, statistics: float = 0.0) -> CheckedRound:
    """Check a round of updates of these lengths; the last brings these running statistics."""
    asked = questions(len(lengths))
    step = np.ones(100) / 10
    replies = [
        answer(asked[n], model(START + length * step, statistics if n == len(lengths) - 1 else 0.0))
        for n, length in enumerate(lengths)
    ]
    return check_round(replies, asked, EXPECTED)


def test_the_sender_is_the_client_that_was_asked() -> None:
    # Clients 0 and 2 share node 5.
    asked = {
        number: Message(RecordDict(), dst_node_id=node, message_type="train")
        for number, node in enumerate((5, 6, 5))
    }
    for number, message in asked.items():
        set_message_id(message, f"m{number}")
    sender = senders(asked)
    for number, message in asked.items():
        assert sender(Message(RecordDict(), reply_to=message)) == number
        # The SuperLink's answer for a lost node.
        lost = Message(Error(1, "gone"), reply_to=message)
        set_sender(lost, 1)
        assert sender(lost) == number and senders({})(lost) is None


def test_nobody_speaks_for_another() -> None:
    asked = questions(2)
    forged = answer(asked[0])
    set_sender(forged, 6)
    assert senders(asked)(forged) == 1
    set_sender(forged, 99)
    assert senders(asked)(forged) is None
    shared = {n: Message(RecordDict(), dst_node_id=5, message_type="train") for n in range(2)}
    assert senders(shared)(Message(RecordDict(), reply_to=shared[0])) is None


def test_an_answer_to_an_earlier_round_is_ignored() -> None:
    earlier, asked = questions(1), questions(1)
    late = answer(earlier[0])
    set_message_id(asked[0], "new")
    found = check_round([late], asked, EXPECTED)
    assert not found.usable and found.failures[0].reason == "no reply in time"
    assert list(check_round([late, answer(asked[0])], asked, EXPECTED).usable) == [0]


def test_of_two_replies_the_first_counts() -> None:
    asked = questions(2)
    once, again = answer(asked[1], model(START + 1)), answer(asked[1], model(START + 2))
    found = check_round([once, again, answer(asked[0])], asked, EXPECTED)
    assert found.repeated == [1] and found.failures == []
    assert found.usable[1].message is once and found.first[1] is once
    failed = error_reply(answer(asked[1]), 1, "ValueError: no")
    assert [one.reason for one in check_round([failed, again], asked, EXPECTED).failures] == [
        "no reply in time",
        "ValueError: no",
    ]


@pytest.mark.parametrize("absurd", [2 * ABSURD, 0.9e6 * 5, 1e18, 1e25])
@pytest.mark.parametrize("honest", [(1.0,), (1.0, 1.1, 0.9, 0.0)])
def test_an_update_is_absurd_beside_the_others(absurd: float, honest: tuple[float, ...]) -> None:
    found = judged(*honest, absurd)
    assert [failure.client for failure in found.failures] == [len(honest)]
    assert "absurdly large: a change of length" in found.failures[0].reason


def test_an_update_below_the_factor_counts() -> None:
    assert judged(1.0, 1.0, 0.9 * ABSURD).failures == []
    # All are long: a rate that is too high is no fault of one hospital.
    assert judged(1e5, 2e5, 3e5).failures == []


def test_a_minority_that_stands_still_makes_nobody_absurd() -> None:
    assert judged(0.0, 1.0).failures == []
    assert judged(1e-9, 1.0).failures == []
    assert judged(1e-9, 1e-9, 1.0, 1.0, 1.1).failures == []


def test_a_majority_of_absurd_updates_does_not_hide_them() -> None:
    found = judged(1.0, 1.0, 1e9, 1e9)
    assert [failure.client for failure in found.failures] == [2, 3]


def test_a_hospital_alone_is_held_against_the_model() -> None:
    assert judged(1.0).failures == []
    assert "absurdly" in judged(1e6).failures[0].reason


def test_running_statistics_are_judged_likewise() -> None:
    assert judged(1.0, 1.0, statistics=5.0).failures == []
    assert [failure.client for failure in judged(1.0, 1.0, statistics=1e6).failures] == [1]


def test_metrics_of_other_names_or_lengths_than_most_are_unusual() -> None:
    asked = questions(5)
    replies = [answer(asked[n], loss=1.0) for n in range(5)]
    replies[2] = answer(asked[2], loss=1.0, more=1.0)
    replies[3] = answer(asked[3], loss=[1.0, 2.0])
    found = check_round(replies, asked, EXPECTED)
    assert [failure.client for failure in found.failures] == [2, 3]
    assert "other names or lengths" in found.failures[0].reason
    assert unusual_schemas([]) == set()


def test_an_evaluation_is_checked_without_a_model() -> None:
    asked = questions(2)
    bare = Message(RecordDict({"metrics": MetricRecord({"loss": 1.0})}), reply_to=asked[1])
    found = check_round([answer(asked[0]), bare], asked, Expected(None))
    assert list(found.usable) == [0] and "num-examples is None" in found.failures[0].reason

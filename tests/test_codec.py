"""The wire format of a run's messages."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedrobust.federation import ClientMetrics, Update
from fedrobust.flower.codec import (
    CLIENT_ASSIGNMENT,
    DATA_SPEC,
    DataSpecRecord,
    HospitalRecord,
    TrainConfig,
    hospital_record,
    model_of,
    pack_reply,
    read_metrics,
    unpack,
    with_record,
    write_metrics,
)


def message(**records: object) -> Message:
    named = {name.replace("_", "-"): record for name, record in records.items()}
    return Message(RecordDict(named), dst_node_id=1, message_type="train")  # type: ignore[arg-type]


@pytest.mark.parametrize(("sent", "kept"), [(5, 5), (5.0, 5), (0.25, 0.25)])
def test_metrics_hold_the_number_of_images_under_the_key(sent: float, kept: float) -> None:
    metrics = read_metrics(MetricRecord({"n": sent, "loss": 2, "by-class": [1, 2]}), "n")
    assert metrics == ClientMetrics(kept, {"loss": 2.0, "by-class": (1.0, 2.0)})  # type: ignore[arg-type]
    assert type(metrics.num_examples) is type(kept)


def test_metrics_are_read_as_they_were_written() -> None:
    metrics = ClientMetrics(7, {"loss": 0.5, "class-losses": (1.0, 2.0)})
    assert read_metrics(write_metrics(metrics)) == metrics


@pytest.mark.parametrize(
    "record",
    [
        HospitalRecord(),
        HospitalRecord(3),
        HospitalRecord(0, 5, own_data=True, no_effect=frozenset({"boost", "alie"})),
    ],
)
def test_a_hospital_record_is_read_as_it_was_written(record: HospitalRecord) -> None:
    assert HospitalRecord.read(record.record()) == record


@pytest.mark.parametrize("number", ["one", 1.5, True])
def test_a_number_of_another_type_counts_as_not_given(number: str | float | bool) -> None:
    assert HospitalRecord.read(ConfigRecord({"partition-id": number})).number is None


def test_a_message_without_a_hospital_record_names_no_hospital() -> None:
    assert hospital_record(message(metrics=MetricRecord({"loss": 1.0}))) == HospitalRecord()


def test_a_train_config_is_told_from_the_records_that_grids_add() -> None:
    added = message(
        client_assignment=ConfigRecord({"partition-id": 2}),
        data_spec=DataSpecRecord(("a", "b"), (1, 8, 8)).record(),
        config=ConfigRecord({"server-round": 3, "lr": 0.1, "proximal-mu": 0.5, "momentum": 0.9}),
    )
    assert {CLIENT_ASSIGNMENT, DATA_SPEC} < set(added.content)
    assert TrainConfig.of(added) == TrainConfig(3, 0.1, 0.5)
    assert TrainConfig.unread(added) == {"momentum"}
    assert DataSpecRecord.of(added) == DataSpecRecord(("a", "b"), (1, 8, 8))
    plain = message(config=ConfigRecord({"server-round": 3, "lr": 0.1}))
    assert TrainConfig.of(plain) == TrainConfig(3, 0.1) and DataSpecRecord.of(plain) is None
    assert TrainConfig.round_of(plain) == 3
    assert TrainConfig.round_of(message(config=ConfigRecord({"lr": 0.1}))) is None


def test_a_reply_holds_float32_arrays_whatever_an_attack_made() -> None:
    start = np.zeros(2, np.float32)
    update = Update(1, np.array([1.0, 2.0]), ClientMetrics(4, {"loss": 1.0}), start)  # type: ignore[arg-type]
    content = pack_reply(update, HospitalRecord(1))
    state = unpack(content["arrays"])  # type: ignore[arg-type]
    assert state.parameters.dtype == np.float32 and not state.parameters.flags.writeable
    assert state.parameters.tolist() == [1, 2] and state.buffers.shape == (0,)
    assert dict(content["metrics"]) == {"num-examples": 4, "loss": 1.0}
    assert dict(content["hospital"]) == {"partition-id": 1}


def test_the_model_of_a_message_is_its_only_record_of_arrays() -> None:
    arrays = ArrayRecord({"parameters": Array(np.ones(2, np.float32))})
    assert model_of(message(config=ConfigRecord({"lr": 0.1}), arrays=arrays)).parameters.tolist() == [1, 1]


def test_a_record_is_added_to_a_copy_of_the_content() -> None:
    content = RecordDict({"config": ConfigRecord({"lr": 0.1})})
    assert set(with_record(content, "more", ConfigRecord({"a": 1}))) == {"config", "more"}
    assert set(content) == {"config"}

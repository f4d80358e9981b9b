"""What leaves a hospital: the trained model and numbers that describe the training, but no image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from fedrobust import run
from fedrobust.data.sources import prepare
from fedrobust.engines.local import LocalGrid
from fedrobust.scenario import Scenario

#: docs/deployment.md lists what a reply holds; beside the model it is at most so long.
BESIDE_THE_MODEL = 4096


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Message, Message]]:
    """Return the messages to hospitals of the runs in a test, each with the reply."""
    seen: list[tuple[Message, Message]] = []
    answer = LocalGrid._reply

    def recorded(self: LocalGrid, message: Message) -> Message:
        reply = answer(self, message)
        seen.append((message, reply))
        return reply

    monkeypatch.setattr(LocalGrid, "_reply", recorded)
    return seen


def on_the_wire(messages: Iterable[Message]) -> bytes:
    """Return the bytes of messages as a SuperNode sends them."""
    return b"".join(
        part.deflate() for message in messages for part in get_all_nested_objects(message).values()
    )


def test_replies_hold_what_the_page_lists_and_are_as_long_as_the_model(
    exchanged: list[tuple[Message, Message]], tmp_path: Path
) -> None:
    settings = tiny(tmp_path, malicious=1, attack="label-flip + forge-loss")
    run(settings)
    classes = len(prepare(Scenario.of(settings).data).records.classes)
    training = [(asked, reply) for asked, reply in exchanged if asked.metadata.message_type == "train"]
    assert len(training) == 8
    for asked, reply in training:
        content = reply.content
        assert set(content) == {"arrays", "metrics", "hospital"}
        assert isinstance(content["arrays"], ArrayRecord) and isinstance(content["metrics"], MetricRecord)
        assert isinstance(content["hospital"], ConfigRecord)
        assert set(content["arrays"]) <= {"parameters", "buffers"}
        assert set(content["hospital"]) <= {"partition-id", "num-partitions", "own-data", "no-effect"}
        # Single numbers, and one for each class: nothing grows with the number of images.
        lengths = [len(value) if isinstance(value, list) else 1 for value in content["metrics"].values()]
        assert max(lengths) <= classes and len(lengths) <= 10, dict(content["metrics"])
        model = len(on_the_wire([asked]))
        assert len(on_the_wire([reply])) <= model + BESIDE_THE_MODEL
    others = [reply for asked, reply in exchanged if asked.metadata.message_type != "train"]
    assert all(set(reply.content) == {"hospital"} for reply in others)


def test_no_image_is_on_the_wire(exchanged: list[tuple[Message, Message]], tmp_path: Path) -> None:
    settings = tiny(tmp_path, malicious=1, attack="backdoor")
    run(settings)
    images = prepare(Scenario.of(settings).data).records.images
    sent = on_the_wire(reply for _, reply in exchanged)
    assert len(sent) > 10_000
    for image in images:
        for form in (image, image.astype(np.float32), image.astype(np.float32) / 255):
            # A quarter of an image would do to recognise it.
            assert form[:, :4].tobytes() not in sent

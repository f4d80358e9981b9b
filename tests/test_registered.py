"""Which hospital a SuperNode is: the one that its key is registered for."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import fake_app
from flwr.app import Message, MessageType, RecordDict

from fedrobust import UserError
from fedrobust.engines.local import LocalGrid
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.registered import REGISTERED_NODES, RegisteredGrid, registered_nodes


def grid(claimed: list[int | None]) -> LocalGrid:
    """Return a grid whose nodes claim to be these hospitals."""
    says = {number: {} if claim is None else {"partition-id": claim} for number, claim in enumerate(claimed)}
    return LocalGrid(fake_app(lambda arrays, number: (arrays, {}), lambda number: says[number]), len(claimed))


def answers(inner: LocalGrid, nodes: dict[int, int]) -> list[str]:
    """Return the error of each node's answer, or nothing."""
    asked = [Message(RecordDict(), n, MessageType.QUERY) for n in inner.get_node_ids()]
    replies = RegisteredGrid(inner, nodes).send_and_receive(asked)
    return [reply.error.reason or "" if reply.has_error() else "" for reply in replies]


def test_nodes_are_the_hospitals_of_their_keys() -> None:
    inner = grid([0, 1, None])
    first, second, third = inner.get_node_ids()
    assert answers(inner, {first: 0, second: 1, third: 2}) == ["", "", ""]


def test_node_in_the_name_of_another_hospital_is_named() -> None:
    inner = grid([0, 0, 2])
    first, second, _ = inner.get_node_ids()
    assert answers(inner, {first: 0, second: 1}) == [
        "",
        "it claims to be hospital 0, but its key is registered for hospital 1",
        "it claims to be hospital 2, but its key is registered for no hospital",
    ]


def test_liar_does_not_take_the_place_of_the_hospital_that_it_names() -> None:
    inner = grid([0, 0])
    first, second = inner.get_node_ids()
    client_grid = ClientGrid(RegisteredGrid(inner, {first: 0, second: 1}), 2, wait_s=0)
    with pytest.raises(UserError, match=f"node {second} .*claims to be hospital 0, .*for hospital 1"):
        client_grid.discover()


def test_registered_nodes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REGISTERED_NODES, raising=False)
    assert registered_nodes() is None
    file = tmp_path / "nodes.json"
    monkeypatch.setenv(REGISTERED_NODES, str(file))
    file.write_text('{"17293822569102704641": 0, "2": 1}')
    assert registered_nodes() == {17293822569102704641: 0, 2: 1}


@pytest.mark.parametrize("text", [None, "", "[1, 2]", '{"a": 0}', '{"1": "x"}', '{"1": null}'])
def test_other_files_are_refused(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nodes.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(REGISTERED_NODES, str(file))
    with pytest.raises(UserError, match="flwr supernode list"):
        registered_nodes()

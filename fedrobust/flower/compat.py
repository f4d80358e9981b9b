"""All that touches Flower's private names: an upgrade of Flower is checked against this module."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol, cast

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from flwr.supercore.task_identity import TaskIdentity

from fedrobust.errors import UserError

__all__ = [
    "SUPERLINK_NODE_ID",
    "actors_limited_to",
    "aggregate_metricrecords",
    "error_reply",
    "identify_process",
    "is_simulation",
    "is_superlink",
    "log_mistakes_in_one_sentence",
    "pool_size",
    "run_guarded_superlink",
    "run_guarded_supernode",
    "set_message_id",
    "set_sender",
    "simulate",
]


def identify_process() -> None:
    """Give this process an identity as a sender of messages, which Flower needs outside its own runtimes."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


def error_reply(reply: Message, code: int, reason: str) -> Message:
    """Return an error in place of a reply, from the same sender to the same question."""
    return cast(Message, cast(Any, Message)(error=Error(code, reason), metadata=reply.metadata))


def set_sender(reply: Message, node: int) -> None:
    """Set the node that a reply comes from."""
    reply.metadata.__dict__["_src_node_id"] = node


def set_message_id(message: Message, identifier: str) -> None:
    """Set a message's id, as a grid does when it sends the message."""
    message.metadata.__dict__["_message_id"] = identifier


def is_simulation(grid: Grid) -> bool:
    """Tell whether a grid is that of Flower's simulation runtime."""
    return _is_flowers(grid, "InMemoryGrid")


def is_superlink(grid: Grid) -> bool:
    """Tell whether a grid is that of a real SuperLink."""
    return _is_flowers(grid, "HttpGrid")


def _is_flowers(grid: Grid, name: str) -> bool:
    # The import takes over half a second, and without it nobody can have made such a grid.
    grids = sys.modules.get("flwr.superlink.grid")
    return grids is not None and isinstance(grid, getattr(grids, name))


def simulate(
    server_app: ServerApp, client_app: ClientApp, nodes: int, resources: dict[str, float], at_once: int
) -> None:
    """Run Flower's simulation; so many virtual nodes train at once, on actors with these resources."""
    from flwr.simulation import run_simulation

    with actors_limited_to(at_once):
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=nodes,
            backend_config={"client_resources": cast(Any, dict(resources))},
        )


def pool_size(resources: dict[str, float]) -> int:
    """Return how many actors of these resources fit the Ray cluster; `ValueError` if none does."""
    from flwr.simulation.ray_transport.ray_actor import pool_size_from_resources

    return int(pool_size_from_resources(cast(Any, dict(resources))))


@contextmanager
def actors_limited_to(at_once: int) -> Iterator[None]:
    """Let Flower's simulation have so many actors, and as many threads that send them messages.

    By itself it starts an actor on every CPU of a cluster, needed or not, and distributes messages from as
    many threads as suit *this* machine's cores, which leaves a large cluster waiting.
    """
    from flwr.server.superlink.fleet.vce import vce_api
    from flwr.simulation.ray_transport import ray_actor

    threads: Callable[..., ThreadPoolExecutor] = functools.partial(ThreadPoolExecutor, at_once)
    with (
        _replaced(ray_actor, "pool_size_from_resources", lambda resources: at_once),
        _replaced(vce_api, "ThreadPoolExecutor", threads),
    ):
        yield


class _OneSentence(logging.Filter):
    """Takes the traceback from Flower's record of a user's mistake."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, UserError):
            record.msg, record.args = f"fedrobust: {error}", ()
            record.exc_info = record.exc_text = None
        return True


def log_mistakes_in_one_sentence() -> None:
    """Let Flower log a `UserError` that ends a ServerApp as one sentence, not as a traceback."""
    logger = logging.getLogger("flwr")
    if not any(isinstance(one, _OneSentence) for one in logger.filters):
        logger.addFilter(_OneSentence())


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class FleetChecks(Protocol):
    """What a SuperLink asks about a SuperNode's requests; a `PermissionError` refuses one."""

    def signed(self, signature: str) -> None:
        """Take a valid signature."""

    def pulled(self, node: int, identifier: str, length: int) -> None:
        """Note an object that a SuperNode was sent."""

    def replying(self, node: int, senders: Sequence[int]) -> None:
        """Take the beginning of a reply."""

    def pushing(self, node: int, length: int) -> None:
        """Take a part of a reply."""


def run_guarded_superlink(guard: Callable[[Any], Any], checks: FleetChecks) -> None:
    """Run `flower-superlink` behind an ASGI application, with further checks of SuperNodes' requests."""
    from flwr.superlink import extensions
    from flwr.superlink.cli import flower_superlink
    from starlette.middleware import Middleware

    _check_fleet(checks)
    cast(Any, extensions).get_middleware = lambda: (Middleware(guard),)
    flower_superlink()


def _check_fleet(checks: FleetChecks) -> None:
    """Have Flower's handlers of SuperNodes' requests ask first."""
    from flwr.supercore.constant import FLEET_HTTP_SIGNATURE_HEADER
    from flwr.superlink.routers.fleet import node_auth
    from flwr.superlink.servicer.fleet import fleet_handlers

    authenticate, pull = node_auth.authenticate_node, fleet_handlers.pull_object
    push_messages, push_object = fleet_handlers.push_messages, fleet_handlers.push_object

    def authenticated(request: Any) -> None:
        authenticate(request)
        with _refusing(401):
            checks.signed(request.headers[FLEET_HTTP_SIGNATURE_HEADER])

    def pulled(request: Any, state: Any) -> Any:
        response = pull(request=request, state=state)
        checks.pulled(request.node.node_id, request.object_id, len(response.object_content))
        return response

    def messages_pushed(request: Any, state: Any) -> Any:
        with _refusing(403):
            checks.replying(request.node.node_id, [m.metadata.src_node_id for m in request.messages_list])
        return push_messages(request=request, state=state)

    def object_pushed(request: Any, state: Any) -> Any:
        with _refusing(413):
            checks.pushing(request.node.node_id, len(request.object_content))
        return push_object(request=request, state=state)

    cast(Any, node_auth).authenticate_node = authenticated
    handlers = cast(Any, fleet_handlers)
    handlers.pull_object, handlers.push_object = pulled, object_pushed
    handlers.push_messages = messages_pushed


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    """Turn a `PermissionError` into an answer with this status."""
    from fastapi import HTTPException

    try:
        yield
    except PermissionError as error:
        raise HTTPException(status, str(error)) from None


def run_guarded_supernode(guard: Callable[[Any], Any]) -> None:
    """Run `flower-supernode`, its server for the hospital's own processes behind an ASGI application."""
    from flwr.supernode import main
    from flwr.supernode.cli import flower_supernode

    create = main.create_app

    def create_guarded(*arguments: Any, **options: Any) -> Any:
        app = create(*arguments, **options)
        cast(Any, app).add_middleware(guard)
        return app

    cast(Any, main).create_app = create_guarded
    flower_supernode()

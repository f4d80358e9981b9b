"""The flower engine: Flower's simulation runtime on Ray, on this machine or on a running Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedrobust.engines.answering import LimitedApp
from fedrobust.engines.retrying import RestartingGrid
from fedrobust.engines.signals import interrupted_by_signals
from fedrobust.engines.socket_folder import socket_folder
from fedrobust.engines.stopping import StoppableGrid
from fedrobust.errors import UserError
from fedrobust.flower.compat import pool_size, simulate
from fedrobust.plugins.folders import search_path
from fedrobust.settings.execution import Execution

__all__ = ["enter_working_folder", "join_cluster", "leave_cluster", "run_on_flower"]

#: Ray restarts an actor after a crash, so that its hospital fails in one round and not in all later ones.
_HOSPITAL = {"num_cpus": 1, "num_gpus": 0.0, "max_restarts": -1}
_FOLDER = "FEDROBUST_WORKING_FOLDER"
_ANSWER_S = 5.0
#: Seconds that the server may take to close the run folder after an interruption.
_CLOSING_S = 2.0


def run_on_flower(client_app: ClientApp, execution: Execution, main: Callable[[Grid], None]) -> None:
    """Run `main` as a ServerApp over virtual SuperNodes, one for each hospital.

    Parameters
    ----------
    client_app : ClientApp
        Travels to Ray's workers.
    execution : Execution
        `ray_address` names a running Ray cluster to join; it stays up afterwards. Without it Ray is started
        on this machine, with `workers` CPUs, and stopped. One hospital trains on each CPU, at most `workers`
        at once.
    main : callable
        Gets the grid; what it raises comes out of this function.

    Raises
    ------
    UserError
        If no cluster answers at `ray_address`, or none that accepts this process.
    """
    _quiet_environment()
    caught: list[BaseException] = []
    threads: list[threading.Thread] = []
    at_once: list[int] = []
    stop = threading.Event()
    server_app = ServerApp()

    @server_app.main()
    def guarded(grid: Grid, context: Context) -> None:
        """Run, and keep what is raised for the caller's thread."""
        threads.append(threading.current_thread())
        try:
            main(RestartingGrid(StoppableGrid(grid, stop, at_once[0])))
        except BaseException as error:  # noqa: BLE001 - carried out of Flower's thread and raised below
            caught.append(error)

    limited = LimitedApp(client_app, execution.client_timeout)
    with _silent_flower(), _ray(execution) as actors, interrupted_by_signals() as interrupted:
        at_once.append(actors)
        try:
            simulate(server_app, limited, execution.hospitals, _HOSPITAL, actors)
        except BaseException as error:
            # The server's thread closes the run folder before this process may end.
            stop.set()
            for thread in threads:
                thread.join(_CLOSING_S)
            if interrupted.is_set() and isinstance(error, Exception):
                raise KeyboardInterrupt from error
            raise
    if caught:
        raise caught[0]


@contextlib.contextmanager
def _silent_flower() -> Iterator[None]:
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _ray(execution: Execution) -> Iterator[int]:
    """Start Ray or join a cluster; yield how many hospitals train at once."""
    try:
        address = execution.ray_address
        yield _start_ray(execution) if address is None else _join(execution, address)
    finally:
        leave_cluster()


def enter_working_folder() -> None:
    """Make the folder that the run was started in a Ray worker's own, where the worker's machine has it.

    A cluster's workers start elsewhere; relative paths such as ``--data-root data`` must mean the same there.
    """
    folder = os.environ.get(_FOLDER, "")
    if os.path.isdir(folder):
        os.chdir(folder)


def join_cluster(address: str) -> int:
    """Connect to a running Ray cluster; return how many CPUs it has.

    Raises
    ------
    UserError
        If no cluster answers there, or none that accepts this process.
    """
    _quiet_environment()
    found = _answering(address)
    try:
        _init(address=found)
    except Exception as error:
        raise UserError(
            f"--ray-address {address}: the Ray cluster does not take this process ({_first_line(error)}); "
            f"run on one of its machines, with the Python and Ray versions that it was started with"
        ) from error
    try:
        return pool_size(_HOSPITAL)
    except ValueError:
        raise UserError(
            f"--ray-address {address}: no node of the cluster has a CPU to train on; start nodes with "
            f"--num-cpus"
        ) from None


def leave_cluster() -> None:
    """Disconnect; of Ray's processes only those that this process started itself end."""
    import ray

    ray.shutdown()


def _quiet_environment() -> None:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Ray's metrics are not read here, and their thread would delay the end of the process by five seconds.
    os.environ.setdefault("RAY_enable_metrics_collection", "false")


def _start_ray(execution: Execution) -> int:
    """Start Ray on this machine; return how many hospitals train at once."""
    cpus = execution.workers if isinstance(execution.workers, int) else os.cpu_count() or 1
    # "local": a cluster that happens to run on this machine is joined when asked for only.
    _init(address="local", num_cpus=cpus, include_dashboard=False, **_short_folder())
    return min(cpus, execution.hospitals)


def _join(execution: Execution, address: str) -> int:
    """Connect to a running cluster; return how many hospitals train at once."""
    cpus = join_cluster(address)
    wanted = execution.workers if isinstance(execution.workers, int) else cpus
    return min(cpus, wanted, execution.hospitals)


def _answering(address: str) -> str:
    """Return host:port of the cluster that an address names, once it has answered.

    `ray.init` itself tries for minutes. Ray's control service answers gRPC's standard health check, within a
    bound.
    """
    import grpc
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
    except ConnectionError:
        raise UserError(
            f"--ray-address {address}: no running Ray cluster is found from this machine; start one with "
            f"'ray start --head', or give its host:port"
        ) from None
    except (ValueError, OSError):
        found = None
    if found is None or "://" in address:
        raise UserError(
            f"--ray-address {address}: is not the host:port that 'ray start --head' prints, nor 'auto'"
        )
    # Ray bypasses proxies too.
    with grpc.insecure_channel(found, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            ask(b"", timeout=_ANSWER_S)
        except grpc.RpcError as error:
            raise UserError(
                f"--ray-address {address}: no Ray cluster answers there ({error.code().name.lower()}); start "
                f"one with 'ray start --head', or give the address of one that runs"
            ) from None
    return str(found)


def _init(**arguments: Any) -> None:
    """Initialise Ray before Flower does; workers can import what this process can."""
    import ray

    passed = {
        name: os.environ[name] for name in ("FLWR_TELEMETRY_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
    }
    environment = {
        "env_vars": {**passed, "PYTHONPATH": search_path(), _FOLDER: os.getcwd()},
        "worker_process_setup_hook": f"{__name__}.{enter_working_folder.__name__}",
    }
    # Ray puts the folder that it starts in first on its workers' search path: here one without modules.
    with contextlib.chdir(os.sep):
        ray.init(runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **arguments)


def _short_folder() -> dict[str, str]:
    """Return the folder for Ray's sockets, if the path of its usual one is too long."""
    folder = socket_folder()
    return {} if folder == tempfile.gettempdir() else {"_temp_dir": os.path.join(folder, "ray")}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

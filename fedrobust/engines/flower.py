"""The flower engine: Flower's simulation runtime on Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedrobust.config import Settings

__all__ = ["run_on_flower"]


def run_on_flower(client_app: ClientApp, settings: Settings, main: Callable[[Grid], None]) -> None:
    """Run `main` as a ServerApp over virtual SuperNodes, one for each hospital.

    Parameters
    ----------
    client_app : ClientApp
        Travels to Ray's workers.
    settings : Settings
        `workers` is the number of Ray's CPUs; one hospital trains on each.
    main : callable
        Gets the grid; what it raises comes out of this function.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    from flwr.simulation import run_simulation

    cpus = settings.workers if isinstance(settings.workers, int) else os.cpu_count() or 1
    caught: list[BaseException] = []

    server_app = ServerApp()

    @server_app.main()
    def guarded(grid: Grid, context: Context) -> None:
        """Run, and keep what is raised for the caller's thread."""
        try:
            main(grid)
        except BaseException as error:  # noqa: BLE001 - carried out of Flower's thread and raised below
            caught.append(error)

    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=settings.clients,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {"num_cpus": cpus, "log_to_driver": False, "include_dashboard": False},
            },
        )
    finally:
        logger.setLevel(before)
    if caught:
        raise caught[0]

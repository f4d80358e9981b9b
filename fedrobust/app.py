"""Flower's ServerApp and ClientApp for `flwr run`; pyproject.toml names them."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrobust.commands.run_config import scenario_from, settings_from
from fedrobust.commands.run_display import Terminal
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.compat import is_simulation
from fedrobust.flower.data_spec import DataSpecGrid
from fedrobust.runtime.runner import serve

__all__ = ["client_app", "server_app"]

server_app = ServerApp()
client_app = make_client_app(scenario_from)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation of the run config and say at the end what it found."""
    settings = settings_from(context)
    if not is_simulation(grid):
        grid = DataSpecGrid(grid, scenario_from(context).data)
    terminal = Terminal(settings)
    terminal.finish(serve(grid, settings, [terminal]))

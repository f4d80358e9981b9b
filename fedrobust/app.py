"""Flower's ServerApp and ClientApp for `flwr run`; pyproject.toml names them."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrobust.commands.run_config import scenario_from, settings_from
from fedrobust.commands.run_summary import print_run
from fedrobust.flower.client_app import make_client_app
from fedrobust.flower.compat import is_simulation, log_mistakes_in_one_sentence
from fedrobust.flower.data_spec import DataSpecGrid
from fedrobust.flower.registered import RegisteredGrid, registered_nodes
from fedrobust.results.finished_run import read_run
from fedrobust.runtime.progress import Progress
from fedrobust.runtime.runner import serve

__all__ = ["client_app", "server_app"]

server_app = ServerApp()
client_app = make_client_app(scenario_from)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation of the run config and say at the end what it found."""
    log_mistakes_in_one_sentence()
    settings = settings_from(context)
    if not is_simulation(grid):
        nodes = registered_nodes()
        if nodes is not None:
            grid = RegisteredGrid(grid, nodes)
        grid = DataSpecGrid(grid, scenario_from(context).data)
    with Progress() as progress:
        folder = serve(grid, settings, [progress]).folder
    print_run(read_run(folder))

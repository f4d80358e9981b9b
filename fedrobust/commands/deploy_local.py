"""`fedrobust deploy-local`: one run on a real SuperLink and SuperNodes of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fedrobust.commands.flags import ConfigFile, Flags, JsonOnly, Quiet, settings_flags
from fedrobust.commands.messages import note
from fedrobust.settings import load_settings

__all__ = ["deploy_local"]


@settings_flags
def deploy_local(
    flags: Flags,
    config: ConfigFile = None,
    node_data: Annotated[
        list[str] | None,
        typer.Option(
            "--node-data", help="NUMBER=SOURCE: this hospital trains on data of its own; repeatable"
        ),
    ] = None,
    as_json: JsonOnly = False,
    quiet: Quiet = False,
) -> None:
    r"""Run the federation on a real SuperLink and SuperNodes that this machine starts and stops.

    Example: fedrobust deploy-local --clients 3 --node-data "0=phantom(images=300, seed=7)"
    """
    settings = load_settings(flags, config)
    from fedrobust.commands.run_summary import print_run
    from fedrobust.deploy.command import deploy, own_data
    from fedrobust.results.finished_run import read_run
    from fedrobust.runtime.progress import Progress

    silent = quiet or as_json
    with Progress(quiet=silent) as progress:
        own = own_data(node_data or [], settings.clients)
        folder = deploy(settings, progress, own, (lambda _: None) if silent else note).folder
    run = read_run(folder)
    if as_json:
        print(run.summary.model_dump_json())
    else:
        print_run(run)

"""The catalogue that `fedrobust list` prints."""

from __future__ import annotations

import textwrap

from flwr.serverapp.strategy import Strategy
from rich.console import Console

from fedrobust.data.partition import PARTITIONS
from fedrobust.data.sources import SOURCES
from fedrobust.errors import UserError
from fedrobust.federation import Attack, Defence, PreAggregation
from fedrobust.learners.backbones import backbone_names
from fedrobust.plugins import available, find

__all__ = ["catalogue", "print_catalogue"]


def catalogue() -> dict[str, dict[str, str]]:
    """Return kind -> name -> one line, a user's own plug-ins included."""
    return {
        "attack": {name: line + _sight(name) for name, line in available("clients", (Attack,)).items()},
        "strategy": available("strategies", (Defence, PreAggregation, Strategy)),
        "data": dict(SOURCES),
        "partition": dict(PARTITIONS),
        "backbone": backbone_names(),
    }


def _sight(name: str) -> str:
    """Return what an attack sees beyond its own hospital, as words behind its description."""
    try:
        kind: type[Attack] = find(name, "clients", (Attack,), "attack")
    except UserError:
        return ""
    return {"colluders": " Sees its colluders' updates.", "all": " Sees all updates."}.get(kind.knowledge, "")


def print_catalogue() -> None:
    """Print the catalogue, descriptions wrapped beside their names."""
    console = Console()
    for kind, entries in catalogue().items():
        column = 4 + max(map(len, entries), default=0)
        print(f"--{kind}")
        for name, line in entries.items():
            wrapped = textwrap.wrap(line, max(20, console.width - column)) or [""]
            print(f"  {name:<{column - 4}}  " + f"\n{'':{column}}".join(wrapped))
        print()
    said = "Anything else: --strategy package.module:Class, a plain Flower strategy included."
    print(textwrap.fill(said, console.width))

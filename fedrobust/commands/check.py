"""`fedrobust check`: one battery of checks for any strategy, attack or behaviour."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fedrobust.printing import PlainConsole

if TYPE_CHECKING:
    from fedrobust.battery import Outcome

__all__ = ["check", "check_plugin"]

_WORDS = {True: "holds", False: "DOES NOT HOLD", None: "not applicable"}


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="a strategy or an attack, with options if wanted; all, if none is given", metavar="NAME"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Check what holds of strategies and attacks, your own included, on small made-up rounds.

    Examples: fedrobust check krum, fedrobust check "nnm | krum(f=2)" "backdoor + boost", fedrobust check
    """
    found = {name: check_plugin(name) for name in names or _all_names()}
    if as_json:
        print(json.dumps({name: [asdict(one) for one in outcomes] for name, outcomes in found.items()}))
    elif len(found) == 1:
        _print_one(*next(iter(found.items())))
    else:
        _print_all(found)
    if any(one.holds is False for outcomes in found.values() for one in outcomes):
        raise typer.Exit(1)


def check_plugin(text: str) -> Sequence[Outcome]:
    """Return the outcomes for a strategy or a chain of attacks, as the settings write it.

    Raises
    ------
    UserError
        If there is no such plug-in, or it takes no such options.
    """
    from fedrobust.battery import check_behaviour, check_strategy
    from fedrobust.federation import Behaviour, Defence, PreAggregation, Repair
    from fedrobust.pipeline.specs import build_pipeline
    from fedrobust.plugins import AttackChain, PipelineSpec, available, find, instantiate, origin_of

    chain = () if "|" in text else AttackChain.parse(text).parts
    if chain and all(part.name in available("clients", (Behaviour,)) for part in chain):
        kinds = [find(part.name, "clients", (Behaviour,), "attack") for part in chain]

        def behaviours(**changed: object) -> list[Behaviour]:
            options = [dict(part.options) for part in chain]
            options[-1] |= changed
            return [
                instantiate(kind, given, part.name)
                for kind, given, part in zip(kinds, options, chain, strict=True)
            ]

        behaviours()
        return check_behaviour(behaviours, origin_of(kinds[-1]).file)
    last = find(
        PipelineSpec.parse(text).parts[-1].name, "strategies", (Defence, PreAggregation, Repair), "plug-in"
    )
    # A step is checked before the plain mean, a repair after it.
    spec = f"{text} | fedavg" if issubclass(last, PreAggregation) else text
    spec = f"fedavg | {text}" if issubclass(last, Repair) and "|" not in text else spec
    build_pipeline(spec)
    return check_strategy(lambda: build_pipeline(spec), origin_of(last).file)


def _all_names() -> Iterator[str]:
    from fedrobust.federation import Behaviour, Defence, PreAggregation, Repair
    from fedrobust.plugins import available

    yield from available("strategies", (Defence, PreAggregation, Repair))
    yield from available("clients", (Behaviour,))


def _print_one(name: str, outcomes: Sequence[Outcome]) -> None:
    from rich.table import Table

    table = Table(title=name, title_justify="left")
    for column in ("check", "", "seen"):
        table.add_column(column, overflow="fold")
    for one in outcomes:
        table.add_row(one.check, _WORDS[one.holds], one.detail)
    PlainConsole().print(table)


def _print_all(found: Mapping[str, Sequence[Outcome]]) -> None:
    from rich.table import Table

    table = Table(title="what holds", title_justify="left")
    for column in ("plug-in", "checks that hold", "what does not"):
        table.add_column(column, overflow="fold")
    for name, outcomes in found.items():
        counted = [one for one in outcomes if one.holds is not None]
        faults = [f"{one.check}: {one.detail}" for one in counted if one.holds is False]
        table.add_row(name, f"{len(counted) - len(faults)} of {len(counted)}", "; ".join(faults))
    PlainConsole().print(table)

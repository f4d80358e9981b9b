"""`fedrobust list`: what there is, one line each; a kind of it, one of it, or what a word finds."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from fedrobust.errors import UserError, nearest

__all__ = ["KINDS", "Kind", "catalogue", "list_plugins"]


@dataclass(frozen=True)
class Kind:
    """One kind of thing that a flag of `simulate` names.

    Attributes
    ----------
    name, plural : str
        What one and several are called; both are taken as the argument of `fedrobust list`.
    usage : str
        How a flag names one.
    entries : callable
        Returns name -> one line.
    other_words : tuple of str
        What else users call it.
    brief : str
        Shown in place of the entries on the page of all kinds, where there are too many.
    """

    name: str
    plural: str
    usage: str
    entries: Callable[[], dict[str, str]]
    other_words: tuple[str, ...] = ()
    brief: str = ""

    def answers_to(self, word: str) -> bool:
        """Return whether a word means this kind."""
        return word.lower() in (self.name, self.plural, *self.other_words)


def _attacks() -> dict[str, str]:
    from fedrobust.federation import Attack
    from fedrobust.plugins import available

    return {name: line + _sight(name) for name, line in available("clients", (Attack,)).items()}


def _sight(name: str) -> str:
    """Return which updates an attack sees beside its own hospital's, as words behind its description."""
    from fedrobust.federation import Attack
    from fedrobust.plugins import find

    try:
        kind: type[Attack] = find(name, "clients", (Attack,), "attack")
    except UserError:
        return ""
    return {"colluders": " Sees its colluders' updates.", "all": " Sees all updates."}.get(kind.knowledge, "")


def _strategies() -> dict[str, str]:
    from flwr.serverapp.strategy import Strategy

    from fedrobust.federation import Defence, PreAggregation
    from fedrobust.plugins import available

    return available("strategies", (Defence, PreAggregation, Strategy))


def _sources() -> dict[str, str]:
    from fedrobust.data.sources import SOURCES

    return dict(SOURCES)


def _partitions() -> dict[str, str]:
    from fedrobust.data.partition import PARTITIONS

    return dict(PARTITIONS)


def _backbones() -> dict[str, str]:
    from fedrobust.learners.backbones import backbone_names

    return backbone_names()


KINDS = (
    Kind(
        "strategy",
        "strategies",
        '--strategy "NAME(option=value)"; "STEP | RULE" puts a step first',
        _strategies,
        ("defence", "defences", "defense", "defenses", "aggregation", "rules"),
    ),
    Kind(
        "attack",
        "attacks",
        '--attack "A + B" --malicious 2, or --threat "A + B:2"',
        _attacks,
        ("client", "clients", "threat", "threats"),
    ),
    Kind("data", "data", "--data NAME", _sources, ("source", "sources", "dataset", "datasets")),
    Kind("partition", "partitions", "--partition NAME", _partitions, ("split", "splits")),
    Kind(
        "backbone",
        "backbones",
        "--backbone NAME",
        _backbones,
        ("model", "models", "network", "networks"),
        "cnn (the default) and torchvision's networks by name, such as resnet18",
    ),
)


def list_plugins(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="a kind (attacks), a name (krum), or words to search for", metavar="WHAT"),
    ] = None,
) -> None:
    r"""List strategies, attacks, data sources, partitions and backbones, your own included.

    Examples: fedrobust list, fedrobust list attacks, fedrobust list krum, fedrobust list median
    """
    words = list(what or ())
    kinds = [kind for kind in KINDS if words and kind.answers_to(words[0])]
    words = words[1:] if kinds else words
    kinds = kinds or list(KINDS)
    if not words:
        _print_all(kinds)
        return
    named = [(kind, words[0]) for kind in kinds if len(words) == 1 and words[0] in kind.entries()]
    if named:
        for kind, name in named:
            _print_one(kind, name)
        return
    _print_found(kinds, words)


def catalogue() -> dict[str, dict[str, str]]:
    """Return kind -> name -> one line, a user's own plug-ins included."""
    return {kind.name: kind.entries() for kind in KINDS}


def _print_all(kinds: Sequence[Kind]) -> None:
    """Print whole descriptions of one kind; of several, one line for each entry, or one for all where they are many."""
    several = len(kinds) > 1
    for kind in kinds:
        brief = kind.brief if several else ""
        _print_kind(kind, {} if brief else kind.entries(), in_one_line=several)
        if brief:
            print(f"  {brief}\n  all of them: fedrobust list {kind.plural}")
        print()
    if several:
        print("fedrobust list NAME: its options; fedrobust list WORD: what mentions the word")
        print("any other class, a plain Flower strategy too: --strategy package.module:Class")


def _print_found(kinds: Sequence[Kind], words: Sequence[str]) -> None:
    """Print the entries that hold all the words in their names or lines."""
    wanted = [word.lower() for word in words]
    names: list[str] = []
    found = False
    for kind in kinds:
        entries = kind.entries()
        names += entries
        hits = {
            name: line
            for name, line in entries.items()
            if all(word in f"{name} {line}".lower() for word in wanted)
        }
        if hits:
            _print_kind(kind, hits)
            print()
            found = True
    if not found:
        hint = nearest(words[0], [*names, *(word for kind in KINDS for word in (kind.name, kind.plural))])
        hint = hint if hint.startswith("did you mean") else "fedrobust list shows what there is"
        raise UserError(f"nothing listed mentions '{' '.join(words)}'; {hint}")


def _print_kind(kind: Kind, entries: dict[str, str], *, in_one_line: bool = False) -> None:
    print(f"{kind.plural}: {kind.usage}")
    column = 4 + max(map(len, entries), default=0)
    for name, line in entries.items():
        width = max(20, _width() - column)
        lines = [_one_line(line, width)] if in_one_line else textwrap.wrap(line, width) or [""]
        print(f"  {name:<{column - 4}}  " + f"\n{'':{column}}".join(lines))


def _print_one(kind: Kind, name: str) -> None:
    """Print one entry: its whole line, and how it is given."""
    _print_paragraph(f"{name} ({kind.name}): {kind.entries()[name]}")
    print(f"\n  {kind.usage.split(';')[0].replace('NAME', name).replace('A + B', name)}")


def _print_paragraph(text: str, indent: str = "") -> None:
    print(textwrap.fill(text, _width(), initial_indent=indent, subsequent_indent=indent))


def _one_line(line: str, width: int) -> str:
    """Return a description in one line: without its reference where that helps, cut where it must be."""
    if len(line) > width and line.rstrip(".").endswith(")"):
        line = line[: line.rindex(" (")] if " (" in line else line
    return textwrap.shorten(line, width, placeholder=" ...")


def _width() -> int:
    from rich.console import Console

    return Console().width

"""`fedrobust list`: what there is, one line each; a kind of it, one of it, or what a word finds."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from fedrobust.errors import UserError, nearest
from fedrobust.printing import PlainConsole, lines, one_line

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
    code : callable
        Returns the class or function of a name, whose signature has the options; None where there is none.
    other_words : tuple of str
        What else users call it.
    brief : str
        Shown in place of the entries on the page of all kinds, where there are too many.
    flag : str
        The flag's name where it is not the kind's.
    """

    name: str
    plural: str
    usage: str
    entries: Callable[[], dict[str, str]]
    code: Callable[[str], Callable[..., object] | None] = lambda _: None
    other_words: tuple[str, ...] = ()
    brief: str = ""
    flag: str = ""

    def answers_to(self, word: str) -> bool:
        """Return whether a word means this kind."""
        return word.lower() in (self.name, self.plural, *self.other_words)


def _attacks() -> dict[str, str]:
    from fedrobust.federation import Behaviour
    from fedrobust.plugins import available

    return {name: line + _sight(name) for name, line in available("clients", (Behaviour,)).items()}


def _sight(name: str) -> str:
    """Return which updates an attack sees beside its own hospital's, as words behind its description."""
    kind = _attack(name)
    knowledge = getattr(kind, "knowledge", "own")
    return {"colluders": " Sees its colluders' updates.", "all": " Sees all updates."}.get(knowledge, "")


def _attack(name: str) -> type | None:
    from fedrobust.federation import Behaviour

    return _found(name, "clients", (Behaviour,))


def _strategies() -> dict[str, str]:
    from fedrobust.plugins import available

    return available("strategies", _strategy_bases())


def _strategy(name: str) -> type | None:
    return _found(name, "strategies", _strategy_bases())


def _strategy_bases() -> tuple[type, ...]:
    from flwr.serverapp.strategy import Strategy

    from fedrobust.federation import Defence, PreAggregation, Repair

    return Defence, PreAggregation, Repair, Strategy


def _found(name: str, package: str, bases: tuple[type, ...]) -> type | None:
    """Return the class of a plug-in; None if it does not load, in which case its line has the reason."""
    from fedrobust.plugins import find

    try:
        return find(name, package, bases, "plug-in")
    except UserError:
        return None


def _sources() -> dict[str, str]:
    from fedrobust.data.sources import SOURCES

    return dict(SOURCES)


def _source(name: str) -> Callable[..., object] | None:
    from fedrobust.data.phantom import phantom

    return phantom if name == "phantom" else None


def _partitions() -> dict[str, str]:
    from fedrobust.data.partition import PARTITIONS

    return dict(PARTITIONS)


def _evaluations() -> dict[str, str]:
    from fedrobust.plugins import available
    from fedrobust.robustness import Evaluation

    return available("evaluations", (Evaluation,))


def _evaluation(name: str) -> type | None:
    from fedrobust.robustness import Evaluation

    return _found(name, "evaluations", (Evaluation,))


def _auditors() -> dict[str, str]:
    from fedrobust.audit.base import Auditor
    from fedrobust.plugins import available

    return available("auditors", (Auditor,))


def _auditor(name: str) -> type | None:
    from fedrobust.audit.base import Auditor

    return _found(name, "auditors", (Auditor,))


def _backbones() -> dict[str, str]:
    from fedrobust.learners.backbones import backbone_names

    return backbone_names()


KINDS = (
    Kind(
        "strategy",
        "strategies",
        '--strategy "NAME(option=value)"; "STEP | RULE" puts a step first',
        _strategies,
        _strategy,
        ("defence", "defences", "defense", "defenses", "aggregation", "rules"),
    ),
    Kind(
        "attack",
        "attacks",
        '--attack "A + B" --malicious 2, or --threat "A + B:2"',
        _attacks,
        _attack,
        ("client", "clients", "threat", "threats"),
    ),
    Kind("data", "data", "--data NAME", _sources, _source, ("source", "sources", "dataset", "datasets")),
    Kind("partition", "partitions", "--partition NAME", _partitions, other_words=("split", "splits")),
    Kind(
        "evaluation",
        "evaluations",
        '--evaluate "NAME, NAME(option=value)" of the last model',
        _evaluations,
        _evaluation,
        ("evaluate", "corruption", "evasion", "robustness"),
        flag="evaluate",
    ),
    Kind(
        "auditor",
        "auditors",
        'fedrobust audit SOURCE --methods "A + B"',
        _auditors,
        _auditor,
        ("audit", "audits", "sanitizer", "sanitizers"),
        brief="label errors, noise, planted marks, duplicates, strays",
    ),
    Kind(
        "backbone",
        "backbones",
        "--backbone NAME",
        _backbones,
        other_words=("model", "models", "network", "networks"),
        brief="cnn (the default) and torchvision's networks by name, such as resnet18",
    ),
)


def list_plugins(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="a kind (attacks), a name (krum), or words to search for", metavar="WHAT"),
    ] = None,
) -> None:
    r"""List strategies, attacks, data sources, partitions, evaluations, auditors and backbones.

    Examples: fedrobust list, fedrobust list attacks, fedrobust list krum, fedrobust list median
    """
    words = list(what or ())
    kinds = [kind for kind in KINDS if words and kind.answers_to(words[0])]
    words = words[1:] if kinds else words
    kinds = kinds or list(KINDS)
    if not words:
        _print_all(kinds)
        return
    # 'krum(f=2)' is asked for by its name; its options are on the page.
    name = words[0].partition("(")[0]
    named = [(kind, name) for kind in kinds if len(words) == 1 and name in kind.entries()]
    if named:
        for kind, name in named:
            _print_one(kind, name)
        return
    _print_found(kinds, words)


def catalogue() -> dict[str, dict[str, str]]:
    """Return kind -> name -> one line, a user's own plug-ins included."""
    return {kind.name: kind.entries() for kind in KINDS}


def _print_all(kinds: Sequence[Kind]) -> None:
    """Print one kind with complete descriptions, or several with one line for each entry."""
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
        line = one_line(line)
        shown = [_shortened(line, width)] if in_one_line else textwrap.wrap(line, width) or [""]
        print(f"  {one_line(name):<{column - 4}}  " + f"\n{'':{column}}".join(shown))


def _print_one(kind: Kind, name: str) -> None:
    """Print what an entry does, its options and its paper; the file too where it is the user's."""
    line = kind.entries()[name]
    code = kind.code(name)
    _print_paragraph(f"{name} ({kind.name}): {line}")
    if code is not None:
        description, references = _documentation(code)
        for paragraph in description:
            print()
            _print_paragraph(paragraph)
        _print_options(kind, name, code)
        if references:
            print("\nreferences")
            for reference in references:
                _print_paragraph(reference, "  ")
    if inspect.isclass(code):
        from fedrobust.plugins import origin_of

        origin = origin_of(code)
        if origin.kind != "built-in":
            instead = ", in place of the built-in one" if origin.replaces_built_in else ""
            print(f"\nfile: {one_line(origin.file)}{instead}")


def _print_options(kind: Kind, name: str, code: Callable[..., object]) -> None:
    """Print each option: its default, the values it takes, and what it means."""
    from fedrobust.plugins import options_of

    options = options_of(code)
    name = one_line(name)
    print(
        f'\noptions, given as --{kind.flag or kind.name} "{name}(option=value)"'
        if options
        else "\nIt has no options."
    )
    for option in options:
        facts = ["required" if option.required else f"default {_default(option.default)}"]
        _print_paragraph(
            f"{option.name}: {'; '.join([*facts, option.allowed]) if option.allowed else facts[0]}", "  "
        )
        if option.meaning:
            _print_paragraph(option.meaning.replace("``", "'"), "      ")


def _default(value: object) -> str:
    return "none" if value is None else str(value)


def _documentation(code: Callable[..., object]) -> tuple[list[str], list[str]]:
    """Return the descriptive paragraphs of a docstring after its first line, and those of its references."""
    text = inspect.cleandoc(code.__doc__ or "").replace("``", "'").replace("`", "")
    sections = re.split(r"^(\w[\w ]*)\n-{3,}$", text, flags=re.MULTILINE)
    bodies = dict(zip(sections[1::2], sections[2::2], strict=True))

    def paragraphs(text: str) -> list[str]:
        return [part for part in re.split(r"\n\s*\n", text.strip()) if part]

    described = [*paragraphs(sections[0])[1:], *paragraphs(bodies.get("Algorithm", ""))]
    return [*described, *paragraphs(bodies.get("Notes", ""))], paragraphs(bodies.get("References", ""))


def _print_paragraph(text: str, indent: str = "") -> None:
    width = _width()
    text = " ".join(lines(text).split())
    print(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent))


def _shortened(line: str, width: int) -> str:
    """Return a description in one line: without its reference where that helps, cut where it must be."""
    if len(line) > width and line.rstrip(".").endswith(")"):
        line = line[: line.rindex(" (")] if " (" in line else line
    return textwrap.shorten(line, width, placeholder=" ...")


def _width() -> int:
    return PlainConsole().width

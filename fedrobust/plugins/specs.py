"""Specifications: texts such as ``nnm | krum(f=2)`` become frozen objects here, and nowhere else.

Two specifications are equal if they are written alike.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import ClassVar, Self

from fedrobust.errors import UserError

__all__ = [
    "FIRST_OPTION",
    "AttackChain",
    "AvailabilitySpec",
    "EvaluationSpecs",
    "PipelineSpec",
    "PluginSpec",
    "ThreatSpec",
    "parse_threats",
    "with_first_option_named",
]

#: The key of a single value that is written without an option's name, as in ``dirichlet(0.3)``.
FIRST_OPTION = ""

#: A quoted text, or a bare word with dashes behind an equals sign.
_DASHED = re.compile(r"""'[^']*'|"[^"]*"|(?<==)(\s*)([A-Za-z_]\w*(?:-\w+)+)(?=\s*(?:,|$))""")
#: A name, which may have blanks and other signs behind a colon, as files have; then options in brackets.
_CALL = re.compile(r"\s*([A-Za-z_](?:[\w\-.:/]*|\w*:[^()]*[^()\s]))\s*(?:\((.*)\))?\s*", re.DOTALL)
#: A source at a path, whose folders may have brackets in their names: options have an equals sign in theirs.
_AT_PATH = re.compile(
    r"\s*((?:folder|manifest|hf|features):.*?\S)\s*(?:\(((?:\s*\w+\s*=.*)?)\))?\s*", re.DOTALL
)
#: An attack with a number of hospitals, which only a threat has.
_COUNTED = re.compile(r"[A-Za-z_][\w\-]*(?:\(.*\))?\s*:\s*\d+", re.DOTALL)


@dataclass(frozen=True)
class PluginSpec:
    """A plug-in's name and the options that it is given.

    Attributes
    ----------
    text : str
        As it is written.
    name : str
    options : mapping of str to object
        Values are Python literals. One that is written without a name stands under `FIRST_OPTION`.
    """

    text: str
    name: str = field(compare=False)
    options: Mapping[str, object] = field(compare=False, default_factory=dict)

    @classmethod
    def parse(cls, text: str | PluginSpec) -> PluginSpec:
        """Read ``name`` or ``name(option=value, ...)``; a specification is returned as it is.

        A bare word as a value, dashes and all, counts as a string.

        Raises
        ------
        UserError
            If the text has another form.
        """
        if isinstance(text, PluginSpec):
            return text
        return cls(text.strip(), *_parse_call(text))

    @property
    def without_folders(self) -> str:
        """Return the text without the folders above a path, which are private: pages and names are shared."""
        kind, colon, place = self.name.partition(":")
        last = PurePath(place).name if _AT_PATH.fullmatch(self.text) else place
        return kind + colon + last + self.text.removeprefix(self.name)

    def with_option(self, option: str, value: object) -> PluginSpec:
        """Return the specification with one more option, written out."""
        options = {**self.options, option: value}
        given = ", ".join(f"{key}={one!r}" if key else repr(one) for key, one in options.items())
        return PluginSpec(f"{self.name}({given})", self.name, options)


@dataclass(frozen=True)
class _Chain:
    """Plug-ins that a separator joins, in order."""

    text: str
    parts: tuple[PluginSpec, ...] = field(compare=False)

    separator: ClassVar[str]

    @classmethod
    def parse(cls, text: str | Self) -> Self:
        """Read plug-ins joined with the separator; a specification is returned as it is.

        Raises
        ------
        UserError
            If the text has another form.
        """
        if isinstance(text, cls):
            return text
        assert isinstance(text, str)
        parts = []
        for part in _split(text, cls.separator):
            cls._refuse(text, part)
            parts.append(PluginSpec.parse(part))
        return cls(text, tuple(parts))

    @classmethod
    def of(cls, parts: Iterable[PluginSpec]) -> Self:
        """Return the chain of these parts."""
        joined = tuple(parts)
        return cls(f" {cls.separator} ".join(part.text for part in joined), joined)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the parts as they are written, options included."""
        return tuple(part.text for part in self.parts)

    @classmethod
    def _refuse(cls, text: str, part: str) -> None:
        """Raise `UserError` if a part is written as in another kind of chain."""


@dataclass(frozen=True)
class AttackChain(_Chain):
    """Attacks that one hospital carries out in order, joined with ``+``."""

    separator: ClassVar[str] = "+"

    @classmethod
    def _refuse(cls, text: str, part: str) -> None:
        if len(attacks := _split_or_none(part, "|")) > 1:
            raise UserError(
                f"'{text}': '|' joins the steps of a strategy; attacks are joined with '+', as in "
                f"'{' + '.join(attacks)}'"
            )
        if _COUNTED.fullmatch(part):
            raise UserError(
                f"attack '{text}' ends with a number of hospitals, which belongs to a threat; write "
                f"--threat '{text}'"
            )


@dataclass(frozen=True)
class AvailabilitySpec(_Chain):
    """What keeps hospitals from taking part, joined with ``+``."""

    separator: ClassVar[str] = "+"


@dataclass(frozen=True)
class PipelineSpec(_Chain):
    """Pre-aggregation steps and a defence, joined with ``|``; or one plain Flower strategy."""

    separator: ClassVar[str] = "|"

    @classmethod
    def _refuse(cls, text: str, part: str) -> None:
        if len(steps := _split_or_none(part, "+")) > 1:
            raise UserError(
                f"strategy '{text}': '+' joins attacks; the steps of a strategy are joined with '|', as in "
                f"'{' | '.join(steps)}'"
            )


@dataclass(frozen=True)
class EvaluationSpecs(_Chain):
    """Evaluations of the last model, joined with ``,``; each stands once."""

    separator: ClassVar[str] = ","

    @classmethod
    def parse(cls, text: str | Self) -> Self:
        """Read evaluations; none of an empty text."""
        if isinstance(text, str) and not text.strip():
            return cls(text, ())
        found = super().parse(text)
        for place, name in enumerate(found.names):
            if name in found.names[:place]:
                raise UserError(f"evaluation '{name}' is given twice; leave one out")
        return found


@dataclass(frozen=True)
class ThreatSpec:
    """Attacks and the number of hospitals that carry them out."""

    attacks: AttackChain
    count: int

    @property
    def text(self) -> str:
        """Return it as ``ATTACK:NUMBER``."""
        return f"{self.attacks.text}:{self.count}"


def parse_threats(given: object) -> tuple[ThreatSpec, ...]:
    """Read ``ATTACK:NUMBER`` texts, a sequence of them or one text in which ``;`` joins them.

    Raises
    ------
    UserError
        If one has another form.
    """
    if isinstance(given, str):
        given = _split(given, ";") if given else ()
    found = []
    for text in given if isinstance(given, list | tuple) else [given]:
        chain, colon, count = str(text).rpartition(":")
        if not (colon and chain.strip() and count.strip().isdigit() and int(count)):
            raise UserError(f"threat '{text}' must end with its number of hospitals, such as 'label-flip:2'")
        found.append(ThreatSpec(AttackChain.parse(chain.strip()), int(count)))
    return tuple(found)


def with_first_option_named(
    options: Mapping[str, object], takes: Sequence[str], label: str
) -> dict[str, object]:
    """Return options with the name of the first one for a value that is written without a name.

    Raises
    ------
    UserError
        If there is such a value and no option at all; `label` says of what.
    """
    if FIRST_OPTION not in options:
        return dict(options)
    if not takes:
        raise UserError(
            f"{label} takes no options, but is given {options[FIRST_OPTION]!r}; leave the brackets out"
        )
    return {(takes[0] if name == FIRST_OPTION else name): value for name, value in options.items()}


def _parse_call(text: str) -> tuple[str, dict[str, object]]:
    match = _AT_PATH.fullmatch(text) or _CALL.fullmatch(text)
    if match is None:
        raise UserError(f"'{text}' is not of the form name or name(option=value, ...)")
    name, inside = match.group(1), match.group(2)
    if not inside or not inside.strip():
        return name, {}
    try:
        quoted = _DASHED.sub(lambda m: f"{m[1]}'{m[2]}'" if m[2] else m[0], inside)
        call = ast.parse(f"f({quoted})", mode="eval").body
        assert isinstance(call, ast.Call)
        names = [keyword.arg for keyword in call.keywords]
        if len(call.args) > 1 or None in names or len(set(names)) != len(names):
            raise ValueError
        first = {FIRST_OPTION: _literal(call.args[0])} if call.args else {}
        return name, first | {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        raise UserError(
            f"'{text}': options are written name=value, each once, with plain values, such as "
            f"{name}(size=0.1)"
        ) from None


def _literal(node: ast.expr) -> object:
    match node:
        case ast.BinOp(ast.Constant(int(first)), ast.Sub(), ast.Constant(int(last))):
            return f"{first}-{last}"
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _split(text: str, separator: str) -> list[str]:
    """Split ``a(x=1) + b`` at a separator that stands outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts = [part.strip() for part in (*parts, text[start:])]
    if not all(parts):
        raise UserError(f"'{text}': something is missing beside '{separator}'")
    return parts


def _split_or_none(text: str, separator: str) -> list[str]:
    """Return the parts of a text; none where something is missing beside the separator."""
    try:
        return _split(text, separator)
    except UserError:
        return []

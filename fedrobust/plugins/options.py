"""A plug-in's options: what its constructor declares for them, and whether a value fits.

An option is a parameter of the plug-in's constructor. Its annotation is its check: ``Annotated[float,
Field(gt=0, le=1)]``, ``PositiveInt``, ``Literal["std", "unit"] | None``. The message of the check, what
``fedrobust list`` shows and what the tests violate follow from it; a constructor checks by hand only what
concerns several options at once.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fedrobust.errors import UserError, nearest
from fedrobust.plugins.failures import place_of
from fedrobust.plugins.specs import with_first_option_named

__all__ = [
    "Fraction",
    "Limits",
    "OptionInfo",
    "PositiveFraction",
    "allowed_values",
    "declared_options",
    "instantiate",
    "limits",
    "options_of",
]

#: Shares of something, with 0 and without.
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class OptionInfo:
    """An option of a plug-in, for a reader.

    Attributes
    ----------
    name : str
    allowed : str
        The values that it takes, such as ``"a number in (0, 1]"``; empty where nothing is declared.
    required : bool
        Whether it must be given.
    default : object
        Its value unless given; None where it is required.
    meaning : str
        Its entry in the class's docstring, in one line; empty without one.
    """

    name: str
    allowed: str
    required: bool
    default: object
    meaning: str


@dataclass(frozen=True)
class Limits:
    """The interval that a number must lie in; an end is open where the value itself is not allowed."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = True
    open_high: bool = True


def options_of(thing: Callable[..., Any]) -> tuple[OptionInfo, ...]:
    """Return the options of a plug-in's class or function, in the order of its signature."""
    declared, meanings = declared_options(thing), _meanings(thing)
    return tuple(
        OptionInfo(
            name=parameter.name,
            allowed=allowed_values(declared[parameter.name]) if parameter.name in declared else "",
            required=parameter.default is parameter.empty,
            default=None if parameter.default is parameter.empty else parameter.default,
            meaning=meanings.get(parameter.name, ""),
        )
        for parameter in _parameters(thing)
    )


def limits(annotation: object) -> Limits | None:
    """Return the interval that an option's annotation declares for numbers; None without one.

    Of a union it is that of the first part which has one.
    """
    for part, metadata in _parts(annotation):
        if part not in (int, float):
            continue
        found = Limits()
        for constraint in metadata:
            for name, value in (("gt", True), ("ge", False)):
                if (bound := getattr(constraint, name, None)) is not None:
                    found = Limits(bound, found.high, value, found.open_high)
            for name, value in (("lt", True), ("le", False)):
                if (bound := getattr(constraint, name, None)) is not None:
                    found = Limits(found.low, bound, found.open_low, value)
        if found != Limits():
            return found
    return None


def instantiate(thing: Callable[..., Any], options: Mapping[str, object], label: str) -> Any:
    """Call a plug-in's class or function, its options checked against the signature and its annotations.

    Parameters
    ----------
    thing : callable
    options : mapping
        The values by name; one under `specs.FIRST_OPTION` is that of the first option. A text becomes the
        number or the truth value that the annotation asks for; floats must be finite unless an annotation
        says otherwise.
    label : str
        The plug-in's name, for messages.

    Raises
    ------
    UserError
        If it takes no such option, misses a required one, or refuses a value.
    """
    signature = inspect.signature(thing)
    takes = [parameter.name for parameter in _parameters(thing)]
    options = with_first_option_named(options, takes, label)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for option in options:
        if option not in takes and not open_ended:
            hint = nearest(option, takes) if takes else "it takes none"
            raise UserError(f"{label}: there is no option '{option}'; {hint}")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"{label}: {error}; give it as {label}(option=value)") from None
    declared = declared_options(thing)
    fitting = {
        option: _fitting(value, option, declared[option], label) if option in declared else value
        for option, value in options.items()
    }
    try:
        return thing(**fitting)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{label}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{label} cannot be built: {place_of(error)}") from error


def _fitting(value: Any, option: str, annotation: Any, label: str) -> Any:
    """Return an option's value as the type that the plug-in declares for it; `UserError` if it is none."""
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=config)
    except Exception:  # noqa: BLE001 - what pydantic cannot check is the plug-in's own business
        return value
    # Python takes True for 1; as a number or a text it is a mistake.
    misused = isinstance(value, bool) and all(
        part in (int, float, str, None) or _words(part) for part, _ in _parts(annotation)
    )
    for candidate in (value, None) if value in ("none", "None") else (value,):
        try:
            if not misused:
                return adapter.validate_python(candidate)
        except ValidationError as error:
            wrong = error
    allowed = allowed_values(annotation)
    if not allowed:
        messages = dict.fromkeys(one["msg"].removeprefix("Input ") for one in wrong.errors())
        raise UserError(f"{label}: {option} is {value!r}, but {' or '.join(messages)}")
    if isinstance(value, float) and not math.isfinite(value):
        allowed = allowed.replace("number", "finite number", 1)
    words = [word for part, _ in _parts(annotation) for word in _words(part)]
    hint = nearest(value, words) if words and isinstance(value, str) else ""
    hint = f"; {hint}" if hint.startswith("did you mean") else ""
    raise UserError(f"{label}: {option} is {value!r}, but must be {allowed}{hint}")


def allowed_values(annotation: object) -> str:
    """Return what an annotation allows, such as ``"a positive number or 'optimal'"``; empty if unclear."""
    phrases: list[str] = []
    for part, metadata in _parts(annotation):
        if part is None:
            continue
        names = {bool: "true or false", str: "a text"}
        if part in (int, float):
            phrase = _number(part is int, limits(Annotated[part, *metadata] if metadata else part))
        elif words := _words(part):
            phrase = ", ".join(f"'{word}'" for word in words[:-1])
            phrase = f"{phrase} or '{words[-1]}'" if phrase else f"'{words[-1]}'"
        elif part in names:
            phrase = names[part]
        elif get_origin(part) is tuple and (each := allowed_values(get_args(part)[0])):
            phrase = f"a list, each {each}"
        else:
            return ""
        phrases.append(phrase)
    return " or ".join(dict.fromkeys(phrases))


def _number(integer: bool, found: Limits | None) -> str:
    noun, article = ("integer", "an") if integer else ("number", "a")
    if found is None:
        return f"{article} {noun}"
    low, high = f"{found.low:g}", f"{found.high:g}"
    if not math.isinf(found.low) and not math.isinf(found.high):
        ends = "(" if found.open_low else "[", ")" if found.open_high else "]"
        return f"{article} {noun} in {ends[0]}{low}, {high}{ends[1]}"
    if math.isinf(found.low):
        return f"{article} {noun} {'below' if found.open_high else 'of at most'} {high}"
    if found.open_low:
        return f"a positive {noun}" if found.low == 0 else f"{article} {noun} above {low}"
    return f"{article} {noun} of {low} or more"


def _parts(annotation: object, metadata: tuple[object, ...] = ()) -> Iterator[tuple[Any, tuple[object, ...]]]:
    """Yield the alternatives of a union, each with its metadata of `Annotated`; None stands for NoneType."""
    if get_origin(annotation) is Annotated:
        inner, *constraints = get_args(annotation)
        flat = [one for each in constraints for one in (getattr(each, "metadata", None) or [each])]
        yield from _parts(inner, (*metadata, *flat))
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part, metadata)
    else:
        yield (None if annotation is type(None) else annotation), metadata


def _words(part: object) -> list[str]:
    return [str(word) for word in get_args(part)] if get_origin(part) is Literal else []


def _parameters(thing: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by name."""
    found = inspect.signature(thing).parameters.values()
    return [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def declared_options(thing: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the options' annotations, of those without one that of a default that is true or false."""
    called = thing.__init__ if inspect.isclass(thing) else thing
    try:
        hints = get_type_hints(called, include_extras=True)
    except Exception:  # noqa: BLE001 - a name that is there for type checkers only
        hints = {}
    parameters = inspect.signature(thing).parameters.values()
    switches = {p.name: bool for p in parameters if isinstance(p.default, bool) and p.annotation is p.empty}
    return {**switches, **hints}


def _meanings(thing: Callable[..., Any]) -> dict[str, str]:
    """Return each option's entry in the docstrings of a class and its bases; the class's own comes first."""
    found: dict[str, str] = {}
    for described in reversed(inspect.getmro(thing) if inspect.isclass(thing) else (thing,)):
        found |= _documented(inspect.cleandoc(vars(described).get("__doc__") or ""))
    return found


def _documented(docstring: str) -> dict[str, str]:
    """Return the entries of a numpydoc docstring's section Parameters, each in one line."""
    section = docstring.partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\w+\n-{3,}(?:\n|$)", section)[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line[0].isspace():
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
        elif line.strip():
            found |= {name: f"{found.get(name, '')} {line.strip()}".strip() for name in names}
    return found

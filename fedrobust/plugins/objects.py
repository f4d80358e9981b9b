"""Plug-ins given as objects: an object stands for its class and the options that its constructor got."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fedrobust.errors import UserError
from fedrobust.plugins.specs import PluginSpec

__all__ = ["RemembersOptions", "spec_of"]

#: Stands for the default of an option that has none.
_REQUIRED = object()

#: The namespace packages in which a module's name is a plug-in's name.
_FOLDERS = ("clients", "strategies")


class RemembersOptions:
    """Base of plug-ins that keep the options of their constructor, so that they can be written down."""

    def __init_subclass__(cls, **more: Any) -> None:
        """Let the constructor keep what it gets."""
        super().__init_subclass__(**more)
        if "__init__" in vars(cls):
            cls.__init__ = _keeping_options(cls.__init__)  # type: ignore[method-assign]


def _keeping_options(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def kept(self: object, *values: Any, **named: Any) -> None:
        # The outermost constructor's: one that it calls gets what it makes of them.
        if "_options" not in vars(self):
            vars(self)["_options"] = _bound(signature, self, values, named)
        init(self, *values, **named)

    return kept


def _bound(
    signature: inspect.Signature, self: object, values: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, object]:
    try:
        arguments = signature.bind(self, *values, **named).arguments
    except TypeError:
        return {}  # The constructor itself refuses them.
    _, *options = arguments.items()
    found: dict[str, object] = {}
    for name, value in options:
        several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        found |= value if several else {name: value}
    return found


def spec_of(thing: object) -> PluginSpec:
    """Return the specification that an object stands for: its class, and its options unless default.

    Parameters
    ----------
    thing : object
        A defence, a step, an attack or a plain Flower strategy. What has been changed in it since it was
        built does not count.

    Raises
    ------
    UserError
        If its class cannot be imported by name, or an option cannot be written down.
    """
    kind = type(thing)
    name = _name(kind)
    given = _options(thing, kind)
    for option, value in given.items():
        if not _is_literal(value):
            raise UserError(
                f"{kind.__name__}: the option {option}={value!r} cannot be written down in settings; options "
                f"are numbers, texts, truth values, and lists, tuples and dictionaries of them"
            )
    if not given:
        return PluginSpec(name, name)
    return PluginSpec(f"{name}({', '.join(f'{key}={one!r}' for key, one in given.items())})", name, given)


def _name(kind: type) -> str:
    module = sys.modules.get(kind.__module__)
    if getattr(module, kind.__qualname__, None) is not kind:
        raise UserError(f"{kind.__name__} is not found by its name; define it at the top of a module")
    folder, _, file = kind.__module__.partition(".")
    if folder in _FOLDERS and file and "." not in file:
        return str(file).replace("_", "-")
    return f"{kind.__module__}:{kind.__qualname__}"


def _options(thing: object, kind: type) -> dict[str, object]:
    """Return the options that differ from the defaults."""
    parameters = inspect.signature(kind).parameters
    if isinstance(thing, RemembersOptions):
        kept: Mapping[str, object] = vars(thing).get("_options", {})
        defaults = {name: one.default for name, one in parameters.items()}
    else:
        # Flower's strategies keep their options under their own names; a missing one becomes some default
        # of theirs.
        kept = {name: getattr(thing, name) for name in parameters if hasattr(thing, name)}
        required = {name: kept.get(name) for name, one in parameters.items() if one.default is one.empty}
        default = kind(**{name: value for name, value in required.items() if name in kept})
        defaults = {name: getattr(default, name) for name in kept if name not in required}
    return {name: value for name, value in kept.items() if not _same(value, defaults.get(name, _REQUIRED))}


def _same(value: object, default: object) -> bool:
    return value is default or (type(value) is type(default) and repr(value) == repr(default))


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False

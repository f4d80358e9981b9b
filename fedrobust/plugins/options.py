"""A plug-in's options: what its constructor declares, and whether a value fits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from fedrobust.errors import UserError, nearest
from fedrobust.plugins.failures import place_of

__all__ = ["instantiate"]


def instantiate(thing: Callable[..., Any], options: dict[str, Any], label: str) -> Any:
    """Call a plug-in's class or function, its options checked against the signature and its annotations.

    Raises
    ------
    UserError
        If it takes no such option, misses a required one, or refuses a value.
    """
    signature = inspect.signature(thing)
    takes = [
        p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for option in options:
        if option not in takes and not open_ended:
            hint = nearest(option, takes) if takes else "it takes none"
            raise UserError(f"{label}: there is no option '{option}'; {hint}")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"{label}: {error}; give it as {label}(option=value)") from None
    fitting = {option: _fitting(value, option, thing, label) for option, value in options.items()}
    try:
        return thing(**fitting)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{label}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{label} cannot be built: {place_of(error)}") from error


def _fitting(value: Any, option: str, thing: Callable[..., Any], label: str) -> Any:
    """Return an option's value as the type that the plug-in declares for it; as it is where it declares none."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    declared = _declared(thing)
    if option not in declared:
        return value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            declared[option], config=ConfigDict(arbitrary_types_allowed=True)
        )
    except Exception:  # noqa: BLE001 - what pydantic cannot check is the plug-in's own business
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        wrong = list(dict.fromkeys(one["msg"].removeprefix("Input ") for one in error.errors()))
    if value in ("none", "None"):
        try:
            return adapter.validate_python(None)
        except ValidationError:
            pass
    raise UserError(f"{label}: {option} is {value!r}, but {' or '.join(wrong)}")


def _declared(thing: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the options' types, of those without one that of a default that is true or false."""
    called = thing.__init__ if inspect.isclass(thing) else thing
    try:
        hints = get_type_hints(called)
    except Exception:  # noqa: BLE001 - a name that is there for type checkers only
        hints = {}
    parameters = inspect.signature(thing).parameters.values()
    switches = {p.name: bool for p in parameters if isinstance(p.default, bool) and p.annotation is p.empty}
    return {**switches, **hints}

"""Libraries that only the audit needs, imported when a method uses them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fedrobust.errors import UserError

__all__ = ["needs"]


def needs(module: str, extra: str) -> ModuleType:
    """Return a module of an optional library; `UserError` that names the extra if it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise UserError(
            f'this method needs {library}, which is not installed; pip install "fedrobust[{extra}]"'
        ) from None

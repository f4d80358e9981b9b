"""fedrobust: simulate a poisoned federation of hospitals, defend it, and measure what was saved."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrobust.apps import attack as attack
    from fedrobust.apps import strategy as strategy
    from fedrobust.config import Settings as Settings
    from fedrobust.errors import UserError as UserError
    from fedrobust.runner import Result as Result
    from fedrobust.runner import run as run

__version__ = "0.1.0"

__all__ = ["Result", "Settings", "UserError", "attack", "run", "strategy"]

_HOMES = {
    "Result": "fedrobust.runner",
    "Settings": "fedrobust.config",
    "UserError": "fedrobust.errors",
    "attack": "fedrobust.apps",
    "run": "fedrobust.runner",
    "strategy": "fedrobust.apps",
}


def __getattr__(name: str) -> Any:
    """Load the Python interface when it is first used: `--help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fedrobust' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)

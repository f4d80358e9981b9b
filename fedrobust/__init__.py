"""fedrobust: simulate poisoned federated learning among hospitals, defend it, and measure the damage."""

from __future__ import annotations

import sys

# `python -m` puts the working folder first, where a random.py or html.py of the user's would be taken for the
# library's: it is searched last, for plug-ins. Before anything else is imported.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and "fedrobust" in " ".join(sys.orig_argv):
    sys.path.append(sys.path.pop(0))

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrobust.errors import RunInterrupted as RunInterrupted
    from fedrobust.errors import UserError as UserError
    from fedrobust.flower.apps import attack as attack
    from fedrobust.flower.apps import strategy as strategy
    from fedrobust.results.load import load as load
    from fedrobust.runtime.observers import Observer as Observer
    from fedrobust.runtime.progress import Progress as Progress
    from fedrobust.runtime.result import Result as Result
    from fedrobust.runtime.runner import run as run
    from fedrobust.settings import Settings as Settings

__version__ = "0.1.0"

__all__ = [
    "Observer",
    "Progress",
    "Result",
    "RunInterrupted",
    "Settings",
    "UserError",
    "attack",
    "load",
    "run",
    "strategy",
]

_HOMES = {
    "Observer": "fedrobust.runtime.observers",
    "Progress": "fedrobust.runtime.progress",
    "Result": "fedrobust.runtime.result",
    "RunInterrupted": "fedrobust.errors",
    "Settings": "fedrobust.settings",
    "UserError": "fedrobust.errors",
    "attack": "fedrobust.flower.apps",
    "load": "fedrobust.results.load",
    "run": "fedrobust.runtime.runner",
    "strategy": "fedrobust.flower.apps",
}


def __getattr__(name: str) -> Any:
    """Load the Python interface when it is first used: `--help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fedrobust' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, those that `__getattr__` loads included."""
    return sorted([*__all__, "__version__"])

"""Tasks: each has its learner, evaluation, metrics, files and report sections in one module."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from fedrobust.errors import UserError, nearest
from fedrobust.printing import one_line
from fedrobust.tasks.base import Task

__all__ = ["CLASSIFICATION", "SYNTHESIS", "Task", "task_class"]

CLASSIFICATION, SYNTHESIS = "classification", "synthesis"

#: Each task's module and class; a module is imported when its task is needed.
_TASKS = {
    CLASSIFICATION: ("fedrobust.tasks.classification", "Classification"),
    SYNTHESIS: ("fedrobust.tasks.synthesis", "Synthesis"),
}


def task_class(name: str = CLASSIFICATION) -> type[Task]:
    """Return a task by its name, as the manifest of a run has it.

    Raises
    ------
    UserError
        If there is no such task.
    """
    if name not in _TASKS:
        raise UserError(f"there is no task '{one_line(name)[:40]}'; {nearest(name, _TASKS)}")
    module, kind = _TASKS[name]
    return cast(type[Task], getattr(import_module(module), kind))

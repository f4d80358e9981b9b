"""The folders of plug-ins: `clients/`, `strategies/` and the like, fedrobust's own and the user's.

Python's own rule for such folders would let any `clients.py` or `clients/__init__.py` of a user's hide
fedrobust's. A finder of these names joins the folders instead, and passes over what else has the name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import overload

__all__ = [
    "HOME",
    "PluginFolders",
    "add_working_folder",
    "built_in_folder",
    "join_folders",
    "passed_over",
    "search_path",
]

#: The folder that holds `fedrobust` and the built-in `clients`, `strategies` and `experiments`.
HOME = Path(__file__).resolve().parents[2]

#: Each folder's name, as users have it, and where the built-in plug-ins are.
_BUILT_IN = {
    "clients": HOME / "clients",
    "strategies": HOME / "strategies",
    "experiments": HOME / "experiments",
    "evaluations": HOME / "fedrobust" / "robustness" / "evaluations",
    "auditors": HOME / "fedrobust" / "audit" / "methods",
}


def add_working_folder() -> None:
    """Let plug-ins in the working folder be found; it is searched last, as all else has its own place."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def search_path() -> str:
    """Return this process's search path for another one's ``PYTHONPATH``, the working folder in its place."""
    here = os.getcwd()
    return os.pathsep.join(dict.fromkeys(folder or here for folder in sys.path))


def built_in_folder(name: str) -> Path | None:
    """Return where the built-in plug-ins of a folder's name are; None for any other name."""
    return _BUILT_IN.get(name)


class PluginFolders(Sequence[str]):
    """The folders of one name, those on the search path before fedrobust's own; follows changes of the path.

    Parameters
    ----------
    name : str
        ``"clients"``, ``"strategies"``, ``"experiments"``, ``"evaluations"`` or ``"auditors"``.
    """

    def __init__(self, name: str) -> None:
        """Keep the name."""
        self._name = name

    def _found(self) -> list[str]:
        own = [folder for folder in _on_path(self._name) if not _is_package(folder)]
        return [str(folder) for folder in dict.fromkeys([*own, _BUILT_IN[self._name]])]

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return a folder."""
        return self._found()[place]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found())


def passed_over(name: str) -> list[Path]:
    """Return the folders of a name that are somebody's packages, in which plug-ins are not looked for."""
    return [folder for folder in _on_path(name) if _is_package(folder)]


def join_folders(module: ModuleType) -> None:
    """Let plug-ins be imported from a module of their folder's name, whoever has made it.

    A program that imported a package of its own under this name before keeps it; the built-in plug-ins are
    found behind its modules.
    """
    if getattr(module, "__file__", None) is None:
        module.__path__ = PluginFolders(module.__name__)  # type: ignore[assignment]
        return
    home = str(_BUILT_IN[module.__name__])
    path = list(getattr(module, "__path__", ()))
    if home not in path:
        module.__path__ = [*path, home]


def _on_path(name: str) -> list[Path]:
    """Return the folders of this name on the search path, without fedrobust's own."""
    folders = [Path(entry or ".").absolute() / name for entry in sys.path]
    return [folder for folder in dict.fromkeys(folders) if folder != _BUILT_IN[name] and folder.is_dir()]


def _is_package(folder: Path) -> bool:
    # Suites are no modules: they may stand in a package.
    return folder.name != "experiments" and (folder / "__init__.py").exists()


class _Finder:
    """Finds these names, before Python's own finders do."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what to import of the name; None for any other."""
        if name not in _BUILT_IN:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = PluginFolders(name)  # type: ignore[assignment]
        return spec


sys.meta_path.insert(0, _Finder)

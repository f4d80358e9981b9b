"""Names to classes: how `clients/`, `strategies/` and a user's own folder join in.

`folders` joins the folders of these names: a file ``strategies/my_defence.py`` in the folder where the
command runs stands beside the built-in ones and is found as ``my-defence``. ``package.module:Class`` reaches
anything else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Iterable
from types import ModuleType

from fedrobust.errors import UserError, nearest
from fedrobust.plugins.folders import PluginFolders, join_folders, passed_over

__all__ = ["available", "describe", "find"]


def available(package: str, bases: tuple[type, ...]) -> dict[str, str]:
    """Return each plug-in's name and its one-line description; of a file that does not load the reason.

    Parameters
    ----------
    package : str
        ``"clients"``, ``"strategies"`` or ``"evaluations"``.
    bases : tuple of type
        What a plug-in's class derives from.
    """
    listing = {}
    for module_name in _module_names(package):
        name = module_name.replace("_", "-")
        try:
            classes = _public_classes(_import(f"{package}.{module_name}"), bases)
        except UserError as error:
            listing[name] = f"does not load: {error}"
            continue
        if classes:
            listing[name] = (
                describe(classes[0]) if len(classes) == 1 else "ambiguous: several classes in one file"
            )
    return dict(sorted(listing.items()))


def describe(thing: type) -> str:
    """Return the first line of a class's own docstring."""
    lines = (vars(thing).get("__doc__") or "").strip().splitlines()
    return lines[0] if lines else "(no description)"


def find(name: str, package: str, bases: tuple[type, ...], kind: str) -> type:
    """Return the class that a plug-in name stands for.

    Parameters
    ----------
    name : str
        ``my-defence`` for ``<package>/my_defence.py``, or ``package.module:Class``.
    package : str
        The namespace package to look in.
    bases : tuple of type
        The class must derive from one of these.
    kind : str
        What to call it in messages, such as ``"strategy"``.

    Raises
    ------
    UserError
        If nothing or more than one thing answers to the name, or the file fails when imported.
    """
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        found = getattr(_import(module_name), attribute, None)
        if not inspect.isclass(found):
            raise UserError(f"{kind} '{name}': module {module_name} has no class '{attribute}'")
        if not issubclass(found, bases):
            raise UserError(f"{kind} '{name}': {attribute} is not a {_names(bases)}")
        return found
    module_name = name.replace("-", "_")
    names = _module_names(package)
    if module_name not in names:
        if name in names:
            raise UserError(
                f"{kind} '{name}': a plug-in's file needs a name that Python can import; "
                f"rename {name}.py to {module_name}.py"
            )
        for folder in passed_over(package):
            if (folder / f"{module_name}.py").is_file():
                raise UserError(
                    f"{kind} '{name}': {folder} is a Python package (it has an __init__.py), which is not "
                    f"searched for plug-ins; put {module_name}.py into a folder {package} without one"
                )
        known = [other.replace("_", "-") for other in names if _offers(package, other, bases)]
        raise UserError(f"unknown {kind} '{name}'; {nearest(name, known)}")
    module = _import(f"{package}.{module_name}")
    classes = _public_classes(module, bases)
    if len(classes) != 1:
        what = (
            "no public class"
            if not classes
            else "several public classes: " + ", ".join(c.__name__ for c in classes)
        )
        raise UserError(
            f"{kind} '{name}': {module.__file__} has {what}; a plug-in file holds exactly one {_names(bases)}"
        )
    return classes[0]


def _names(bases: Iterable[type]) -> str:
    return " or ".join(base.__name__ for base in bases)


def _offers(package: str, module_name: str, bases: tuple[type, ...]) -> bool:
    try:
        return bool(_public_classes(_import(f"{package}.{module_name}"), bases))
    except UserError:
        return False


def _public_classes(module: ModuleType, bases: tuple[type, ...]) -> list[type]:
    """Return the public classes that the module itself defines and that derive from a base."""
    return [
        thing
        for name, thing in vars(module).items()
        if inspect.isclass(thing)
        and not name.startswith("_")
        and thing.__module__ == module.__name__
        and issubclass(thing, bases)
        and not inspect.isabstract(thing)
    ]


def _module_names(package: str) -> list[str]:
    join_folders(_import(package))
    found = pkgutil.iter_modules(PluginFolders(package))
    return sorted(info.name for info in found if not info.name.startswith("_"))


def _import(module_name: str) -> ModuleType:
    """Import a module; what it raises becomes one sentence with file and line number."""
    try:
        return importlib.import_module(module_name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"there is no module '{error.name}' to import; check the spelling and the folder"
            ) from None
        raise UserError(_broken(module_name, error)) from error
    except (Exception, SystemExit) as error:
        # A script that ends itself when imported is no plug-in.
        raise UserError(_broken(module_name, error)) from error


def _broken(module_name: str, error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
    last = traceback.format_exception_only(error)[-1].strip()
    return f"plug-in {module_name} fails when imported{place}: {last}"

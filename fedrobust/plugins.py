"""Names to classes: how `clients/`, `strategies/` and a user's own folder join in.

`clients`, `strategies` and `experiments` are namespace packages. Python merges every folder of that name on
``sys.path``, so a file ``strategies/my_defence.py`` in the folder where the command runs stands beside the
built-in ones and is found as ``my-defence``. ``package.module:Class`` reaches anything else.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from fedrobust.errors import UserError, nearest

__all__ = [
    "add_working_folder",
    "available",
    "describe",
    "find",
    "instantiate",
    "parse_call",
    "reraise_as_user_error",
    "split_chain",
]

#: A quoted text, or a bare word with dashes behind an equals sign.
_DASHED = re.compile(r"""'[^']*'|"[^"]*"|(?<==)(\s*)([A-Za-z_]\w*(?:-\w+)+)(?=\s*(?:,|$))""")
_CALL = re.compile(r"\s*([A-Za-z_][\w\-.:/]*)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name`` or ``name(option=value, ...)``.

    Parameters
    ----------
    text : str
        Values are Python literals; a bare word, dashes and all, counts as a string.

    Returns
    -------
    tuple of str and dict
        The name and its options.

    Raises
    ------
    UserError
        If the text has another form.
    """
    match = _CALL.fullmatch(text)
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
        if call.args or None in names or len(set(names)) != len(names):
            raise ValueError
        return name, {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError):
        raise UserError(
            f"'{text}': options are written name=value, each once, with plain values, such as {name}(size=0.1)"
        ) from None


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def split_chain(text: str, separator: str) -> list[str]:
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


def add_working_folder() -> None:
    """Let plug-in files in the working folder be found, as ``python -m`` does by itself."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def available(package: str, bases: tuple[type, ...]) -> dict[str, str]:
    """Return each plug-in's name and its one-line description; a file that does not load says why.

    Parameters
    ----------
    package : str
        ``"clients"`` or ``"strategies"``.
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
                f"{kind} '{name}': a plug-in's file needs a name that Python can import; rename {name}.py to {module_name}.py"
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
        raise UserError(f"{label} cannot be built: {_last_words(error)}") from error


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


@contextmanager
def reraise_as_user_error(what: str) -> Iterator[None]:
    """Turn whatever a plug-in raises into a `UserError`: what failed, as given, then why and where."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {_last_words(error)}") from error


def _last_words(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())
    text = f": {words}" if words else ""
    return f"{type(error).__name__}{text} ({frame.filename}, line {frame.lineno})"


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
    namespace = _import(package)
    if getattr(namespace, "__file__", None):
        raise UserError(
            f"{namespace.__file__} makes '{package}' a regular package, which hides fedrobust's own {package}; "
            f"delete that __init__.py"
        )
    return sorted(
        info.name for info in pkgutil.iter_modules(namespace.__path__) if not info.name.startswith("_")
    )


def _import(module_name: str) -> ModuleType:
    """Import a module; what it raises is said in its own traceback's last line, with file and line number."""
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

"""Where a plug-in comes from, and a hash of its source, so that a result can be traced to its code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import site
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedrobust.plugins.folders import HOME, built_in_folder

__all__ = ["Origin", "origin_of", "source_hash"]


@dataclass(frozen=True)
class Origin:
    """Where a plug-in comes from.

    Attributes
    ----------
    plugin : str
        ``module:Class``.
    kind : str
        ``built-in``; ``own``, a file of the user's; or ``installed``, of another package.
    file : str
        The file that it stands in; empty for a class without one, as in a notebook.
    replaces_built_in : bool
        Whether the user's file hides a built-in plug-in of the same name.
    source_hash : str
        See `source_hash`.
    """

    plugin: str
    kind: Literal["built-in", "own", "installed"]
    file: str
    replaces_built_in: bool
    source_hash: str


def origin_of(thing: type) -> Origin:
    """Return where a plug-in's class comes from."""
    file = _file(thing)
    kind: Literal["built-in", "own", "installed"] = "own"
    if file is not None and _built_in(file):
        kind = "built-in"
    elif file is not None and _installed(file):
        kind = "installed"
    return Origin(
        plugin=f"{thing.__module__}:{thing.__qualname__}",
        kind=kind,
        file="" if file is None else str(file),
        replaces_built_in=file is not None and not _built_in(file) and _hides_built_in(thing.__module__),
        source_hash=source_hash(thing),
    )


def source_hash(thing: type) -> str:
    """Return the SHA-256 of a plug-in's source file and of the files beside it that it imports.

    Imports are followed through all modules of the folder that the plug-in was found in, as its text names
    them; `fedrobust` itself and installed packages are identified by their versions. A file that is read, or
    a module that is imported by a computed name, is not covered.

    Parameters
    ----------
    thing : type
        The plug-in's class. One without a file, as in a notebook, is hashed by its own source if that is
        known.
    """
    file = _file(thing)
    digest = hashlib.sha256()
    if file is None:
        try:
            text = inspect.getsource(thing)
        except (OSError, TypeError):
            text = f"{thing.__module__}:{thing.__qualname__}"
        digest.update(text.encode())
        return digest.hexdigest()
    root = _root(thing, file)
    files = {file} if _installed(file) and not _built_in(file) else _with_imports(file, root)
    for one in sorted(files):
        content = one.read_bytes()
        digest.update(f"{one.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _file(thing: type) -> Path | None:
    try:
        name = inspect.getsourcefile(thing)
    except (OSError, TypeError):
        return None
    path = None if name is None else Path(name).resolve()
    return path if path is not None and path.is_file() else None


def _root(thing: type, file: Path) -> Path:
    """Return the folder on ``sys.path`` that a class's module was found in."""
    depth = thing.__module__.count(".") + (file.name == "__init__.py")
    return file.parents[min(depth, len(file.parents) - 1)]


def _built_in(file: Path) -> bool:
    return any(file.is_relative_to(HOME / package) for package in ("clients", "strategies", "fedrobust"))


def _hides_built_in(module: str) -> bool:
    package, _, name = module.rpartition(".")
    folder = built_in_folder(package)
    return folder is not None and (folder / f"{name}.py").is_file()


def _beside(path: Path, root: Path) -> bool:
    """Tell whether a file counts as one of the plug-in's folder, and not as one of an installed package."""
    if not path.is_file() or not path.is_relative_to(root) or path.is_relative_to(HOME / "fedrobust"):
        return False
    return _built_in(path) or not _installed(path)


def _installed(file: Path) -> bool:
    paths = (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
    )
    return any(file.is_relative_to(Path(path).resolve()) for path in paths)


def _with_imports(file: Path, root: Path) -> set[Path]:
    """Return a file and those beneath the root that it imports, directly or not."""
    found: set[Path] = set()
    ahead = [file]
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += _imported(one, root)
    return found


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files beneath the root that a file's import statements name."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        start = root
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = node.module or ""
            names = [above, *(f"{above}.{alias.name}".strip(".") for alias in node.names)]
            start = file.parents[node.level - 1] if node.level else root
        for name in names:
            parts = name.split(".") if name else []
            for length in range(len(parts) + 1):
                place = start.joinpath(*parts[:length])
                for path in (place.with_suffix(".py"), place / "__init__.py"):
                    if _beside(path, root):
                        yield path

"""The structure of the package: what imports what, and how long a module and a function are."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import grimp
import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "fedrobust"
FILES = sorted(
    path for folder in ("fedrobust", "clients", "strategies") for path in (TOP / folder).rglob("*.py")
)

#: Modules and packages that may read `Settings`: where a user's values enter, and the scenario that is made
#: of them.
READS_SETTINGS = {
    *("fedrobust", "fedrobust.app", "fedrobust.settings", "fedrobust.scenario", "fedrobust.commands"),
    *("fedrobust.suites", "fedrobust.deploy", "fedrobust.runtime.runner", "fedrobust.runtime.result"),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("fedrobust", cache_dir=None)


def _layers() -> list[set[str]]:
    """Return the layers that pyproject.toml declares, highest first."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [set(re.split(r"\s*[|:]\s*", layer)) for layer in contract["layers"]]


def test_layers_contract_covers_every_module_at_the_top(graph: grimp.ImportGraph) -> None:
    declared = set().union(*_layers())
    found = {module.split(".")[1] for module in graph.modules if "." in module}
    assert declared == found


def test_imports_never_form_a_circle(graph: grimp.ImportGraph) -> None:
    """Imports within functions count too."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while True:
        leaves = {module for module, imported in imports.items() if not imported & imports.keys() - {module}}
        if not leaves:
            break
        imports = {module: imported for module, imported in imports.items() if module not in leaves}
    assert sorted(imports) == []


def test_packages_never_form_a_circle(graph: grimp.ImportGraph) -> None:
    rank = {name: place for place, layer in enumerate(_layers()) for name in layer}
    upward = [
        f"{module} imports {imported}"
        for module in sorted(graph.modules - {"fedrobust"})
        for imported in sorted(graph.find_modules_directly_imported_by(module) - {"fedrobust"})
        if rank[imported.split(".")[1]] < rank[module.split(".")[1]]
    ]
    assert upward == []


def test_package_has_at_most_ten_modules_at_its_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_modules_have_at_most_400_lines() -> None:
    lengths = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_function_bodies_have_at_most_60_lines() -> None:
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if length > 60:
                    long[f"{path.relative_to(TOP)}: {node.name}"] = length
    assert long == {}


def test_untyped_mappings_stand_at_borders_only() -> None:
    lines = [
        f"{path.relative_to(TOP)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if "dict[str, Any]" in line or "Mapping[str, Any]" in line
    ]
    assert len(lines) <= 40, lines


def test_settings_are_read_by_the_border_and_the_scenario_only(graph: grimp.ImportGraph) -> None:
    readers = graph.find_modules_that_directly_import("fedrobust.settings")
    assert [
        module for module in sorted(readers) if not any(_within(module, name) for name in READS_SETTINGS)
    ] == []


@pytest.mark.parametrize("setting", ["dr_weight", "local_epochs", "noise_std", "client_timeout"])
def test_one_setting_enters_at_most_twelve_modules(setting: str) -> None:
    entered = [str(path.relative_to(TOP)) for path in FILES if re.search(rf"\b{setting}\b", path.read_text())]
    assert len(entered) <= 12, entered


def _within(module: str, package: str) -> bool:
    return module == package or (package != "fedrobust" and module.startswith(f"{package}."))

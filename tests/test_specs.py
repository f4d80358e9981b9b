"""Specifications: how they are written, what they become, and who may read texts or settings."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

import fedrobust
from fedrobust.errors import UserError
from fedrobust.plugins import AttackChain, PipelineSpec, PluginSpec, instantiate
from fedrobust.plugins.specs import FIRST_OPTION, parse_threats

PACKAGE = Path(fedrobust.__file__).parent

#: The border, which may know the settings: all else gets a scenario.
MAY_READ_SETTINGS = (
    "__init__",
    "app",
    "commands",
    "deploy",
    "runtime.result",
    "runtime.runner",
    "scenario",
    "suites",
)


def imported(file: Path) -> set[str]:
    """Return the names that a module of the package imports, each as ``module.name``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def modules() -> dict[str, set[str]]:
    """Return the imports of each module of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(file.relative_to(PACKAGE).with_suffix("").parts): imported(file) for file in files}


def test_settings_are_imported_by_the_border_alone() -> None:
    readers = {
        module
        for module, names in modules().items()
        if not module.startswith("settings.")
        and any(name.startswith("fedrobust.settings") and "execution" not in name for name in names)
    }
    outside = {
        m for m in readers if not any(m == one or m.startswith(one + ".") for one in MAY_READ_SETTINGS)
    }
    assert outside == set()


@pytest.mark.parametrize("setting", ["dr_weight", "mutual_weight", "noise_std", "patience", "ray_address"])
def test_setting_is_named_in_few_modules(setting: str) -> None:
    # The model of the settings, the scenario, a part of it, and where it is used.
    naming = [file for file in PACKAGE.rglob("*.py") if setting in file.read_text(encoding="utf-8")]
    assert 3 <= len(naming) <= 8, naming


def test_text_is_parsed_by_one_module_alone() -> None:
    # The hash of a plug-in's source reads code, not specifications.
    reads_code = {
        file.stem for file in PACKAGE.rglob("*.py") if "ast.parse(" in file.read_text(encoding="utf-8")
    }
    assert reads_code == {"specs", "origin"}
    private = [name for names in modules().values() for name in names if "plugins.specs._" in name]
    assert private == []


def test_equal_specs_are_those_written_alike() -> None:
    spec = PluginSpec.parse("krum(f=2)")
    assert (spec.name, spec.options, spec.text) == ("krum", {"f": 2}, "krum(f=2)")
    assert spec == PluginSpec.parse("krum(f=2)") == pickle.loads(pickle.dumps(spec))
    assert len({spec, PluginSpec.parse("krum(f=2)"), PluginSpec.parse("krum(f=3)")}) == 2
    assert (
        PluginSpec.parse("oracle(malicious=[1, 2])").with_option("x", "a").text
        == "oracle(malicious=[1, 2], x='a')"
    )


def test_chain_keeps_its_parts_as_they_are_written() -> None:
    spec = PipelineSpec.parse("nnm | clipping(c='a|b') | krum(f=2)")
    assert spec.names == ("nnm", "clipping(c='a|b')", "krum(f=2)")
    assert PipelineSpec.parse(spec) is spec
    assert PipelineSpec.of(spec.parts[1:]).text == "clipping(c='a|b') | krum(f=2)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label-flip | forge-loss", "attacks are joined with '+', as in 'label-flip + forge-loss'"),
        ("label-flip:2", "belongs to a threat; write --threat 'label-flip:2'"),
        ("backdoor(size=0.1) : 3", "write --threat 'backdoor(size=0.1) : 3'"),
        ("label-flip +", "missing beside '+'"),
    ],
)
def test_attacks_written_otherwise_are_refused_with_the_right_form(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        AttackChain.parse(text)
    assert said in str(caught.value)


def test_steps_joined_as_attacks_are_refused_with_the_right_form() -> None:
    with pytest.raises(UserError, match=r"joined with '\|', as in 'nnm \| krum\(f=2\)'"):
        PipelineSpec.parse("nnm + krum(f=2)")


def test_class_by_its_path_is_no_threat() -> None:
    assert AttackChain.parse("my.attacks:Mine + boost").names == ("my.attacks:Mine", "boost")


def test_threats_are_one_text_or_several() -> None:
    several = parse_threats(["label-flip:2", "backdoor + boost:1"])
    assert parse_threats("label-flip:2; backdoor + boost:1") == several
    assert [(threat.attacks.names, threat.count) for threat in several] == [
        (("label-flip",), 2),
        (("backdoor", "boost"), 1),
    ]
    assert parse_threats("") == parse_threats(()) == ()


def test_value_without_a_name_is_that_of_the_first_option() -> None:
    def made(alpha: float, beta: int = 3) -> tuple[float, int]:
        return alpha, beta

    assert PluginSpec.parse("made(0.3)").options == {FIRST_OPTION: 0.3}
    assert instantiate(made, PluginSpec.parse("made(0.3)").options, "made") == (0.3, 3)
    assert instantiate(made, PluginSpec.parse("made(0.3, beta=4)").options, "made") == (0.3, 4)
    with pytest.raises(UserError, match="made takes no options, but is given 2"):
        instantiate(lambda: None, PluginSpec.parse("made(2)").options, "made")

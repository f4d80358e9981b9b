"""Plug-ins: how text becomes a name with options, and a name a class."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from fedrobust.errors import UserError
from fedrobust.federation import Attack, Defence
from fedrobust.plugins import AttackChain, PluginSpec, available, describe, find, instantiate

MEAN = '''
from fedrobust.federation import Defence
import numpy as np

class {name}(Defence):
    """{line}"""

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def weigh(self, updates):
        return np.ones(len(updates))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a user's folder with an empty strategies/ on the path."""
    (tmp_path / "strategies").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("strategies", "clients"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("krum", "krum", {}),
        (" krum ( ) ", "krum", {}),
        ("krum(f=3)", "krum", {"f": 3}),
        (
            "a-b(x=0.1, y='c d', z=[1, 2], place=top)",
            "a-b",
            {"x": 0.1, "y": "c d", "z": [1, 2], "place": "top"},
        ),
        ("package.module:Class(x=True)", "package.module:Class", {"x": True}),
        ("backdoor(place=top-left, size=1)", "backdoor", {"place": "top-left", "size": 1}),
        ("image-noise(kind= salt-and-pepper )", "image-noise", {"kind": "salt-and-pepper"}),
        ("a(x='b=c-d, e', y=\"f=g-h\")", "a", {"x": "b=c-d, e", "y": "f=g-h"}),
        ("medmnist:brain_mri4_28", "medmnist:brain_mri4_28", {}),
        ("medmnist:my data, 2nd set", "medmnist:my data, 2nd set", {}),
        ("medmnist:my data (x=1)", "medmnist:my data", {"x": 1}),
        ("folder:/d/Images (1)/a b", "folder:/d/Images (1)/a b", {}),
        ("folder:Images (1) (levels='class')", "folder:Images (1)", {"levels": "class"}),
        ("manifest:a.csv(join='b.csv', on=UID)", "manifest:a.csv", {"join": "b.csv", "on": "UID"}),
        ("hf:~/set()", "hf:~/set", {}),
    ],
)
def test_parse_call_reads_name_and_options(text: str, name: str, options: dict[str, object]) -> None:
    spec = PluginSpec.parse(text)
    assert (spec.name, dict(spec.options)) == (name, options)


@pytest.mark.parametrize(
    "text",
    ["", "krum(", "krum(3, 4)", "krum(f=)", "krum(f=open('x'))", "krum(f=1, f=2)", "krum f"],
)
def test_parse_call_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        PluginSpec.parse(text)


def test_text_without_folders_keeps_what_is_no_path() -> None:
    for text, shown in (
        ("manifest:/home/ann/study/a.csv(label=x)", "manifest:a.csv(label=x)"),
        ("folder:study/", "folder:study"),
        ("medmnist:pneumoniamnist", "medmnist:pneumoniamnist"),
        ("phantom(images=3)", "phantom(images=3)"),
    ):
        assert PluginSpec.parse(text).without_folders == shown


def test_split_chain_minds_brackets_and_quotes() -> None:
    assert AttackChain.parse("a(x='+') + b(y=[1, 2]) + c").names == ("a(x='+')", "b(y=[1, 2])", "c")
    with pytest.raises(UserError, match="missing beside"):
        AttackChain.parse("a + ")


def test_plug_in_file_in_the_users_folder_joins_the_built_in_ones(folder: Path) -> None:
    (folder / "strategies" / "weighs_alike.py").write_text(
        MEAN.format(name="WeighsAlike", line="Weighs all alike.")
    )
    assert find("weighs-alike", "strategies", (Defence,), "strategy").__name__ == "WeighsAlike"
    assert find("fedavg", "strategies", (Defence,), "strategy").__name__ == "FedAvg"
    listing = available("strategies", (Defence,))
    assert listing["weighs-alike"] == "Weighs all alike."
    assert "isolation-forest" in listing


def test_find_missing_name_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'feddetect'"):
        find("fedetect", "strategies", (Defence,), "strategy")
    with pytest.raises(UserError, match="did you mean 'label-flip'"):
        find("label-flp", "clients", (Attack,), "attack")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_plug_in_file_that_fails_says_its_own_last_line(folder: Path, code: str, words: str) -> None:
    (folder / "strategies" / "bad_file.py").write_text(code + "\n")
    with pytest.raises(UserError) as caught:
        find("bad-file", "strategies", (Defence,), "strategy")
    assert words in str(caught.value)
    assert "bad_file.py, line 1" in str(caught.value)
    assert "does not load" in available("strategies", (Defence,))["bad-file"]


def test_plug_in_ambiguous_file_and_an_empty_one(folder: Path) -> None:
    two = MEAN.format(name="One", line="1") + MEAN.format(name="Two", line="2")
    (folder / "strategies" / "two_rules.py").write_text(two)
    (folder / "strategies" / "no_rule.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="several public classes: One, Two"):
        find("two-rules", "strategies", (Defence,), "strategy")
    with pytest.raises(UserError, match="no public class"):
        find("no-rule", "strategies", (Defence,), "strategy")


def test_package_of_the_users_does_not_hide_the_built_in_plug_ins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "strategies" / "__init__.py").write_text("raise RuntimeError('this has nothing to do with us')")
    (folder / "strategies" / "weighs_alike.py").write_text(MEAN.format(name="WeighsAlike", line="Alike."))
    for name in [n for n in sys.modules if n.split(".")[0] == "strategies"]:
        monkeypatch.delitem(sys.modules, name)
    assert find("fedavg", "strategies", (Defence,), "strategy").__name__ == "FedAvg"
    assert "weighs-alike" not in available("strategies", (Defence,))
    with pytest.raises(UserError, match=r"put weighs_alike.py into a folder strategies without one"):
        find("weighs-alike", "strategies", (Defence,), "strategy")


def test_program_with_a_package_of_that_name_keeps_it_and_finds_the_built_in_plug_ins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "strategies"]:
        monkeypatch.delitem(sys.modules, name)
    theirs = ModuleType("strategies")
    theirs.__file__ = str(folder / "strategies.py")
    monkeypatch.setitem(sys.modules, "strategies", theirs)
    assert find("fedavg", "strategies", (Defence,), "strategy").__name__ == "FedAvg"
    assert sys.modules["strategies"] is theirs


def test_find_anything_else_by_module_and_class() -> None:
    from flwr.serverapp.strategy import FedMedian, Strategy

    assert find("flwr.serverapp.strategy:FedMedian", "strategies", (Strategy,), "strategy") is FedMedian
    with pytest.raises(UserError, match="no class 'FedMedien'"):
        find("flwr.serverapp.strategy:FedMedien", "strategies", (Strategy,), "strategy")
    with pytest.raises(UserError, match="is not a Strategy"):
        find("collections:Counter", "strategies", (Strategy,), "strategy")
    with pytest.raises(UserError, match="no module 'nowhere'"):
        find("nowhere.at_all:Thing", "strategies", (Strategy,), "strategy")


def test_plug_in_options_are_checked_against_the_signature() -> None:
    class Rule:
        def __init__(self, *, size: float = 1.0, need: int) -> None:
            if size < 0:
                raise ValueError("size is negative")
            self.size, self.need = size, need

    assert instantiate(Rule, {"need": 1}, "rule").need == 1
    with pytest.raises(UserError, match="no option 'sise'; did you mean 'size'"):
        instantiate(Rule, {"sise": 1, "need": 1}, "rule")
    with pytest.raises(UserError, match="need"):
        instantiate(Rule, {}, "rule")
    with pytest.raises(UserError, match="size is negative"):
        instantiate(Rule, {"size": -1, "need": 1}, "rule")


def test_describe_takes_the_first_line_of_the_class() -> None:
    class Base:
        """Base line."""

    class Undocumented(Base):
        pass

    assert describe(Base) == "Base line."
    assert describe(Undocumented) == "(no description)"


class Declares:
    """Declares its options."""

    def __init__(
        self,
        on: bool = False,
        times: float = 1.0,
        n: int = 1,
        mode: Literal["a", "b"] = "a",
        most: int | None = None,
        place: int | str = "auto",
        rows: Sequence[Sequence[float]] = (),
        loose=True,
        free=None,
    ) -> None:
        self.given = (on, times, n, mode, most, place, rows, loose, free)


@pytest.mark.parametrize(
    ("options", "place", "value"),
    [
        ("on=false", 0, False),
        ("on=true", 0, True),
        ("on=True", 0, True),
        ("times='2'", 1, 2.0),
        ("n='2'", 2, 2),
        ("n=2.0", 2, 2),
        ("mode=b", 3, "b"),
        ("most=none", 4, None),
        ("most=3", 4, 3),
        ("place=none", 5, "none"),
        ("place=3", 5, 3),
        ("rows=[[1, 2], [3, 4.5]]", 6, [[1, 2], [3, 4.5]]),
        ("loose=false", 7, False),
        ("free=anything", 8, "anything"),
    ],
)
def test_plug_in_options_become_what_the_plug_in_declares(options: str, place: int, value: object) -> None:
    made = instantiate(Declares, PluginSpec.parse(f"declares({options})").options, "declares")
    assert made.given[place] == value and type(made.given[place]) is type(value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("on=maybe", "declares: on is 'maybe', but must be true or false"),
        ("times=x", "declares: times is 'x', but must be a number"),
        ("n=2.5", "declares: n is 2.5, but must be an integer"),
        ("mode=c", "declares: mode is 'c', but must be 'a' or 'b'"),
        ("most=few", "declares: most is 'few', but must be an integer"),
        ("place=[1]", "declares: place is .*, but must be an integer or a text"),
        ("loose=[]", "declares: loose is .*, but must be true or false"),
    ],
)
def test_plug_in_options_that_are_not_what_the_plug_in_declares_are_named(options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        instantiate(Declares, PluginSpec.parse(f"declares({options})").options, "declares")


@pytest.mark.parametrize(
    "spec", ["sign-flip(scale=x)", "label-flip(mode=3)", "backdoor(size=[])", "zeno(rho=big)"]
)
def test_plug_in_built_in_option_of_the_wrong_type_is_named(spec: str) -> None:
    parsed = PluginSpec.parse(spec)
    name, options = parsed.name, parsed.options
    package, base = ("strategies", Defence) if name == "zeno" else ("clients", Attack)
    with pytest.raises(UserError, match=f"{name}: {next(iter(options))} is "):
        instantiate(find(name, package, (base,), "plug-in"), options, name)


def test_plug_in_what_a_constructor_raises_is_one_sentence() -> None:
    class Picky(Defence):
        def __init__(self, mode: str = "a") -> None:
            self.mode = {"a": 1}[mode]

    with pytest.raises(
        UserError, match=r"picky cannot be built: KeyError: 'b' \(.*test_plugins.py, line \d+\)"
    ):
        instantiate(Picky, {"mode": "b"}, "picky")


def test_plug_in_script_that_ends_itself_is_no_plug_in_and_ends_nothing(folder: Path) -> None:
    (folder / "strategies" / "old_script.py").write_text("import sys\n\nsys.exit(0)\n")
    assert "does not load" in available("strategies", (Defence,))["old-script"]
    with pytest.raises(UserError, match="unknown strategy 'mediann'; did you mean 'median'"):
        find("mediann", "strategies", (Defence,), "strategy")
    with pytest.raises(UserError, match="old_script fails when imported .*line 3.: SystemExit"):
        find("old-script", "strategies", (Defence,), "strategy")


def test_plug_in_file_with_a_dash_says_how_to_call_it(folder: Path) -> None:
    (folder / "strategies" / "with-dash.py").write_text(MEAN.format(name="WithDash", line="Means."))
    with pytest.raises(UserError, match=r"rename with-dash.py to with_dash.py"):
        find("with-dash", "strategies", (Defence,), "strategy")

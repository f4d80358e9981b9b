"""A suite file becomes cells, or one sentence that says what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedrobust.errors import UserError
from fedrobust.scenario import Scenario
from fedrobust.suites.plan import chosen, distinct, plan
from fedrobust.suites.suite_files import is_built_in, load_suite, suite_names, suite_titles

SMALL = """
seeds = [3, 1]

[base]
data = "phantom(images=240, size=16)"
clients = 5
rounds = [2, 3]

[threats]
none = "none"
flip = ["label-flip:1"]
both = ["label-flip:1", "other-scanner:1"]

[defences]
fedavg = "fedavg"
"krum, told" = {name = "krum", f = 1}
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        plan(load_suite(written(folder, text)), {})
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_plan_has_every_combination_once_for_each_seed(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, SMALL))
    assert list(suite.every_axis()) == ["threat", "rounds", "defence"]
    cells = plan(suite, {"out": str(tmp_path)})
    assert len(cells) == 3 * 2 * 2 * 2
    # Those of one seed stand together: a process keeps the data of the last.
    assert [cell.seed for cell in cells] == [3] * 12 + [1] * 12
    assert cells[0].labels == {"threat": "none", "rounds": "2", "defence": "fedavg"}
    assert {cell.settings.rounds for cell in cells} == {2, 3}
    assert {cell.settings.seed for cell in cells} == {1, 3}
    assert {cell.settings.strategy for cell in cells} == {"fedavg", "krum(f=1)"}
    assert all(cell.settings.out == str(tmp_path) for cell in cells)


def test_clean_baselines_are_shared_between_threats(tmp_path: Path) -> None:
    cells = plan(load_suite(written(tmp_path, SMALL)), {})
    by_threat = {
        threat: [c for c in cells if c.labels["threat"] == threat] for threat in ("none", "flip", "both")
    }
    assert all(cell.baseline is None for cell in by_threat["none"])
    # The baseline of a poisoned federation is the cell without a threat, which is run anyway.
    for cell, clean in zip(by_threat["flip"], by_threat["none"], strict=True):
        assert cell.baseline is not None and cell.baseline.digest() == clean.settings.digest()
    # An atypical hospital is not malicious: it stays.
    for cell in by_threat["both"]:
        assert cell.baseline is not None and cell.baseline.threat == ("other-scanner:1",)
    assert len(distinct(cells)) == len(cells) + len(by_threat["both"])


def test_atypical_hospital_is_the_same_in_the_clean_baseline(tmp_path: Path) -> None:
    for seed in range(3):
        text = f"""
seeds = [{seed}]
[base]
clients = 10
data = "phantom"
[threats]
both = ["label-flip:2", "other-scanner:1"]
[defences]
fedavg = "fedavg"
"""
        (tmp_path / "mine.toml").write_text(text)
        (cell,) = plan(load_suite(str(tmp_path / "mine.toml")), {})
        assert cell.baseline is not None
        assert Scenario.of(cell.baseline).atypical == Scenario.of(cell.settings).atypical != ()
        assert len(Scenario.of(cell.settings).malicious) == 2 and Scenario.of(cell.baseline).malicious == ()


def test_variable_in_a_text_is_replaced_by_its_value(tmp_path: Path) -> None:
    text = """
    budget-axis = "share"
    [base]
    clients = 4
    [axes]
    share = [0.5, 1.0]
    [threats]
    flip = "label-flip(share={share}):1"
    noise = "image-noise(share={share}):1"
    """
    cells = plan(load_suite(written(tmp_path, text)), {})
    assert [cell.settings.threat for cell in cells] == [
        ("label-flip(share=0.5):1",),
        ("label-flip(share=1.0):1",),
        ("image-noise(share=0.5):1",),
        ("image-noise(share=1.0):1",),
    ]
    assert len({cell.baseline.digest() for cell in cells if cell.baseline}) == 1


def test_axis_of_named_configurations_sets_their_settings(tmp_path: Path) -> None:
    text = """
    [axes.model]
    plain = {head = "linear", networks = 1}
    pair = {head = "etf-rect", networks = 2}
    """
    suite = load_suite(written(tmp_path, text))
    assert suite.compared_axis == "model"
    made = {cell.labels["model"]: (cell.settings.head, cell.settings.networks) for cell in plan(suite, {})}
    assert made == {"plain": ("linear", 1), "pair": ("etf-rect", 2)}


def test_oracle_is_given_the_malicious_hospitals(tmp_path: Path) -> None:
    text = '[base]\nclients = 4\n[threats]\nnone = "none"\nflip = "label-flip:1"\n'
    text += '[defences]\noracle = "oracle"\n'
    clean, attacked = plan(load_suite(written(tmp_path, text)), {})
    assert clean.settings.strategy == "oracle(malicious=[])"
    assert (
        attacked.settings.strategy.startswith("oracle(malicious=[")
        and attacked.settings.strategy != "oracle(malicious=[])"
    )
    assert attacked.baseline is not None and attacked.baseline.digest() == clean.settings.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seeds = ", "sedes = "), ["no key 'sedes'", "'seeds'"]),
        (("clients = 5", "cleints = 4"), ["[base]", "'cleints'", "'clients'"]),
        (("rounds = [2, 3]", "rounds = []"), ["axis 'rounds' is empty"]),
        (("rounds = [2, 3]", "rounds = [2, 2]"), ["'2' twice"]),
        (('fedavg = "fedavg"', 'fedavg = "krum(f=1)"'), ["'fedavg' and 'krum, told'", "same runs"]),
        (('fedavg = "fedavg"', 'fedavg = "fedavgg"'), ["unknown strategy 'fedavgg'", "'fedavg'"]),
        (('["label-flip:1"]', '["label-flop:1"]'), ["'flip'", "unknown attack 'label-flop'"]),
        (('["label-flip:1"]', '["label-flip"]'), ["'flip'", "number of hospitals"]),
        (('["label-flip:1"]', '["label-flip:6"]'), ["'flip'", "malicious = 6"]),
        (("clients = 5", "clients = 0"), ["clients", "an integer in [1, 100000]"]),
        (("clients = 5", "seed = 4"), ["[base]", "'seed'", "seeds = [...]"]),
        (("[threats]", "[[axes]]\n[threats]"), ["[axes] must be a table"]),
        (
            ("rounds = [2, 3]", 'threat = ["label-flip:1"]'),
            ["[base] gives 'threat' several values and [threats] does"],
        ),
        (("[3, 1]", "[]"), ["seeds"]),
        (("[3, 1]", "[1, 1]"), ["distinct"]),
        (("[3, 1]", '[1]\nmethod-axis = "defense"'), ["'defense' is no axis", "'defence'"]),
        (("[3, 1]", '[1]\nreference = "median"'), ["'median' is no label of 'defence'"]),
        (("[3, 1]", '[1]\nbudget-axis = "threat"'), ["'none', which is no number"]),
        (("[threats]", "[axes.model]\na = {depth = 3}\n[threats]"), ["[axes.model] a", "'depth'"]),
        (("[3, 1]", "[3, 1"), ["not valid TOML"]),
        (("[3, 1]", "3"), ["seeds must be a list"]),
        (("[threats]", "[axes]\nthreats = 3\n[threats]"), ["'threats'"]),
    ],
)
def test_mistake_in_a_suite_is_one_sentence_before_anything_runs(
    tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    assert change[0] in SMALL
    sentence = refused(tmp_path, SMALL.replace(*change))
    for word in words:
        assert word in sentence
    assert "mine" in sentence


def test_settings_of_one_run_are_refused_as_a_suite(tmp_path: Path) -> None:
    assert "simulate --config" in refused(tmp_path, "clients = 4\nrounds = 2\n")


def test_overrides_replace_settings_or_are_refused(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, SMALL), {"rounds": 5, "lr": 0.01}, (7,))
    cells = plan(suite, {})
    assert {cell.settings.rounds for cell in cells} == {5} and {cell.settings.lr for cell in cells} == {0.01}
    assert {cell.seed for cell in cells} == {7}
    assert list(suite.every_axis()) == ["threat", "defence"]
    with pytest.raises(UserError, match="--set rouns.*'rounds'"):
        load_suite(written(tmp_path, SMALL), {"rouns": 5})
    # It would be without effect, as each defence is a strategy.
    with pytest.raises(UserError, match="--set strategy: the axis 'defence'"):
        load_suite(written(tmp_path, SMALL), {"strategy": "krum"})
    with pytest.raises(UserError, match="--seeds"):
        load_suite(written(tmp_path, SMALL), {"seed": 5})


def test_only_chooses_cells_by_label_value_or_plugin(tmp_path: Path) -> None:
    cells = plan(load_suite(written(tmp_path, SMALL)), {})

    def some(*only: str) -> set[tuple[str, ...]]:
        return {(*cell.key, str(cell.seed)) for cell in chosen(cells, only)}

    assert some() == {(*cell.key, str(cell.seed)) for cell in cells}
    assert {key[2] for key in some("strategy=krum")} == {"krum, told"}
    assert some("strategy=krum") == some("defence=krum, told") == some("strategy=krum(f=1)")
    assert some("threat=label-flip", "rounds=3", "seed=1", "defence=fedavg") == {
        ("flip", "3", "fedavg", "1"),
        ("both", "3", "fedavg", "1"),
    }
    assert {key[0] for key in some("threat=none", "threat=both")} == {"none", "both"}
    for wrong, words in {
        "strategy": "AXIS=LABEL",
        "strategy=kurm": "'krum'",
        "defense=krum": "'defence'",
        "threat=none=": "no such label",
    }.items():
        with pytest.raises(UserError, match="--only") as caught:
            chosen(cells, [wrong])
        assert words in str(caught.value)
    with pytest.raises(UserError, match="no such label here"):
        chosen(cells, ["threat=none", "strategy=bulyan"])


def test_only_with_an_exact_label_leaves_out_labels_that_hold_it() -> None:
    cells = plan(load_suite("defences"), {"data_root": "somewhere"})
    assert {cell.labels["threat"] for cell in chosen(cells, ["threat=label-flip"])} == {"label-flip"}
    # Where no label is meant, a plug-in's name stands for all that use it.
    assert {cell.labels["threat"] for cell in chosen(cells, ["threat=boost"])} == {"boosted"}
    assert {cell.labels["defence"] for cell in chosen(cells, ["strategy=trimmed-mean"])} == {"trimmed-mean"}


@pytest.mark.parametrize("name", sorted(suite_names()))
def test_only_example_of_the_documentation_fits_every_built_in_suite(name: str) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "benchmark.md").read_text()
    example = re.search(r"some cells only: `((?:--only \S+ ?)+)`", page)
    assert example is not None
    only = example[1].split()[1::2]
    assert chosen(plan(load_suite(name), {"data_root": "somewhere"}), only)


def test_own_experiments_folder_adds_its_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    written(tmp_path / "experiments", SMALL)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"mine", "quick", "defences"} <= set(suite_names())
    # Settings of one run lie in the same folder.
    assert "paper" not in suite_names() and suite_titles()["quick"].startswith("A first look")
    assert load_suite("mine").seeds == (3, 1)
    assert is_built_in("quick") and not is_built_in("mine") and not is_built_in("experiments/quick.toml")
    with pytest.raises(UserError, match="no suite 'nosuch'") as caught:
        load_suite("nosuch")
    assert "paper" not in str(caught.value)
    with pytest.raises(UserError, match="no suite 'quik'.*'quick'"):
        load_suite("quik")
    with pytest.raises(UserError, match="cannot be read"):
        load_suite(str(tmp_path / "absent.toml"))

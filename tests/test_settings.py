"""Settings: where values come from, what is refused and in which words."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fedrobust.errors import UserError
from fedrobust.settings import Settings, load_settings, model


def test_documented_defaults() -> None:
    settings = Settings()
    assert (settings.clients, settings.malicious, settings.attack) == (10, 0, "label-flip")
    assert (settings.strategy, settings.networks, settings.head) == ("isolation-forest", 2, "etf-rect")
    assert (settings.noise_std, settings.data, settings.engine) == (0.01, "phantom", "local")
    assert (settings.weight_decay, settings.patience) == (1e-3, 20)


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('clients = 4\nlocal-epochs = 3\nbatch_size = 8\nattack = "backdoor"\nmalicious = 2\n')
    settings = load_settings({"clients": "6", "rounds": None}, file)
    assert (settings.clients, settings.local_epochs, settings.batch_size) == (6, 3, 8)
    assert (settings.attack, settings.rounds) == ("backdoor", Settings().rounds)


def test_a_plugin_may_be_a_table(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('malicious = 1\n[attack]\nname = "backdoor"\nsize = 0.1\nplace = "center"\n')
    assert load_settings({}, file).attack == "backdoor(size=0.1, place='center')"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"rounds": "0"}, ["--rounds '0': must be an integer in [1, 100000]"]),
        ({"clients": "x"}, ["--clients", "'x'"]),
        ({"malicious": "11"}, ["malicious = 11", "clients = 10"]),
        ({"head": "eft"}, ["--head", "did you mean 'etf'"]),
        ({"networks": "3"}, ["--networks", "'1' or '2'"]),
        ({"engine": "flowr"}, ["--engine", "did you mean 'flower'"]),
        ({"workers": "0"}, ["--workers", "at least 1"]),
        ({"noise_std": "-1"}, ["--noise-std"]),
        ({"lr": "nan"}, ["--lr", "a number in (0, 10]"]),
        ({"lr": "inf"}, ["--lr", "a number in (0, 10]"]),
        ({"lr": "1e30"}, ["--lr", "a number in (0, 10]"]),
        ({"temperature": "inf"}, ["--temperature", "a number in [0.001, 1000]"]),
        ({"client-timeout": "inf"}, ["--client-timeout", "a number in (0, 1e+06]"]),
        ({"client-timeout": "1e7"}, ["--client-timeout", "a number in (0, 1e+06]"]),
        ({"attack": "sign-flip"}, ["'sign-flip' is carried out by nobody", "--malicious 2"]),
        ({"attack": "label-flip:2"}, ["write --threat 'label-flip:2'"]),
        ({"threat": "label-flip"}, ["threat 'label-flip'", "its number of hospitals"]),
        ({"false_flag_rate": "0"}, ["--false-flag-rate", "a number in (0, 0.5]"]),
        ({"false_flag_rate": "0.6"}, ["--false-flag-rate", "a number in (0, 0.5]"]),
        ({"false-flag-rate": "few"}, ["--false-flag-rate", "'few'"]),
        ({"cleints": "3"}, ["cleints", "did you mean 'clients'"]),
    ],
)
def test_a_bad_flag_is_one_sentence(flags: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(flags)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cleints = 3\n", ["cleints", "did you mean 'clients'"]),
        ("rounds = 0\n", ["rounds"]),
        ('attack = "sign-flip"\n', ["'sign-flip' is carried out by nobody"]),
        ("rounds = = 3\n", ["not valid TOML"]),
        ("[attack]\nsize = 0.1\n", ["attack", "name"]),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings({}, file)
    assert "run.toml" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.toml"):
        load_settings({}, tmp_path / "nowhere.toml")


def test_the_digest_names_what_decides_the_result() -> None:
    base = Settings()
    same = Settings(engine="flower", workers=3, out="elsewhere", data_root="x")
    assert base.digest() == same.digest()
    assert len({Settings(seed=s).digest() for s in range(5)} | {Settings(lr=0.01).digest()}) == 6


def test_false_flag_rate_enters_the_digest_only_where_it_is_given(tmp_path: Path) -> None:
    assert "false_flag_rate" not in Settings().identity()
    given = load_settings({"false-flag-rate": "0.05"})
    assert given.identity()["false_flag_rate"] == 0.05
    assert given.digest() not in (Settings().digest(), Settings(false_flag_rate=0.1).digest())
    file = tmp_path / "run.toml"
    file.write_text("false-flag-rate = 0.2\n")
    assert load_settings({}, file).false_flag_rate == 0.2


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().clients = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"client": 3}, "Settings: there is no setting 'client'; did you mean 'clients'"),
        ({"clients": 0}, "Settings(clients=0): must be an integer in [1, 100000]"),
        ({"clients": 2, "malicious": 3}, "Settings: malicious = 3 is more than clients = 2"),
        (
            {"head": "eft"},
            "Settings(head='eft'): must be 'etf-rect', 'etf', 'linear-rect' or 'linear'; did you mean 'etf'?",
        ),
        ({"workers": 0}, "Settings(workers=0): must be 'auto' or at least 1"),
    ],
)
def test_call_in_python_with_a_wrong_value_is_one_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings(**values)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_paths_are_taken_and_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(data_root=tmp_path / "data", out="~/runs")
    assert (settings.data_root, settings.out) == (str(tmp_path / "data"), str(tmp_path / "runs"))
    file = tmp_path / "run.toml"
    file.write_text('data-root = "~/images"\n')
    assert load_settings({}, file).data_root == str(tmp_path / "images")


def test_no_attackers_on_purpose_are_no_mistake() -> None:
    assert Settings(malicious=0, attack="sign-flip").threats() == ()
    assert Settings(**Settings().model_dump()) == Settings()


def test_every_default_is_one_that_type_checkers_see() -> None:
    # Without pydantic's plugin mypy takes a default for one only where `Field` names it.
    tree = ast.parse(Path(model.__file__).read_text(encoding="utf-8"))
    calls = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call)
    ]
    assert len(calls) == len(Settings.model_fields)
    assert all("default" in {keyword.arg for keyword in call.keywords} for call in calls)

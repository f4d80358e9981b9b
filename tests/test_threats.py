"""Several threats in one federation: how they are written, and which hospital carries out which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from federations import threats_of, tiny

from fedrobust.commands import program
from fedrobust.errors import UserError
from fedrobust.runtime.runner import run
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.settings import Settings, load_settings

TWO = ("label-flip(shift=2):2", "backdoor + boost:1")


def test_a_threat_is_attacks_and_a_number() -> None:
    settings = Settings(threat=TWO)
    assert [threat.text for threat in settings.threats()] == list(TWO)
    assert settings.malicious == 3
    # A class by its path has a colon of its own.
    (own,) = Settings(threat=["my.attacks:Mine:2"]).threats()
    assert (own.attacks.names, own.count) == (("my.attacks:Mine",), 2)


def test_flags_a_file_and_one_text_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"threat = {json.dumps(TWO)}\n")
    wanted = Settings(threat=TWO)
    assert load_settings({}, file) == wanted
    assert load_settings({"threat": list(TWO)}) == wanted
    assert load_settings({"threat": " ; ".join(TWO)}) == wanted
    assert load_settings({"threat": ""}) == Settings()


def test_the_flag_may_be_repeated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["--clients", "3", "--rounds", "1", "--local-epochs", "1", "--networks", "1", "--workers", "1"]
    threats = ["--threat", "label-flip:1", "--threat", "sign-flip:1"]
    data = ["--data", "phantom(images=120, size=16)", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as left:
        program.main(["simulate", *quick, *threats, *data])
    out, err = capfd.readouterr()
    assert not left.value.code and "Malicious hospitals" in out
    assert "2 of them malicious (label-flip:1; sign-flip:1)" in " ".join(err.split())


def test_what_a_run_writes_down_can_be_read_again() -> None:
    settings = Settings(threat=["backdoor(place='top-left;x'):1", "label-flip:2"])
    dumped = settings.model_dump()
    assert isinstance(dumped["threat"], str) and dumped["malicious"] == 3
    assert Settings(**dumped) == settings and Settings(**dumped).digest() == settings.digest()


def test_without_threats_the_name_of_a_run_is_what_it_was() -> None:
    assert "threat" not in Settings(malicious=2).identity()
    assert Settings(threat=["label-flip:2"]).digest() != Settings(malicious=2).digest()
    assert len({Settings(threat=[f"{attack}:2"]).digest() for attack in ("label-flip", "backdoor")}) == 2


def test_hospitals_are_dealt_out_by_the_seed() -> None:
    settings = Settings(threat=TWO, seed=3)
    (first, flippers), (second, planters) = threats_of(settings)
    assert (first, second) == ("label-flip(shift=2)", "backdoor + boost")
    assert len(flippers) == 2 and len(planters) == 1 and not set(flippers) & set(planters)
    assert Scenario.of(settings).malicious == tuple(sorted((*flippers, *planters)))
    # The same hospitals as for the short form with as many.
    assert Scenario.of(settings).malicious == Scenario.of(Settings(malicious=3, seed=3)).malicious
    assert threats_of(Settings(malicious=2, seed=3)) == (("label-flip", flippers),)
    assert threats_of(Settings()) == ()


def test_hospital_gets_the_attacks_of_its_own_threat() -> None:
    settings = Settings(threat=TWO)
    (_, flippers), (_, planters) = threats_of(settings)
    for number in range(settings.clients):
        names = [attack.role.name for attack in Scenario.of(settings).attacks_of(number)]
        assert names == (
            ["label-flip"] if number in flippers else ["backdoor", "boost"] if number in planters else []
        )
    for place, number in enumerate(flippers):
        (attack,) = Scenario.of(settings).attacks_of(number)
        role = attack.role
        assert (role.hospital, role.hospitals, role.member, role.members) == (number, 10, place, 2)
    assert [attack.role.name for attack in Scenario.of(settings).all_attacks()] == [
        "label-flip",
        "backdoor",
        "boost",
    ]
    assert [attack.role.name for attack in Scenario.of(Settings()).all_attacks()] == ["label-flip"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"threat": ["label-flip"]}, "threat 'label-flip' must end with its number of hospitals"),
        ({"threat": ["label-flip:0"]}, "threat 'label-flip:0' must end"),
        ({"threat": ["label-flip:two"]}, "threat 'label-flip:two' must end"),
        ({"threat": [":2"]}, "threat ':2' must end"),
        ({"threat": 5}, "threat '5' must end"),
        ({"threat": ["label-flip:1"], "malicious": 2}, "give one or the other"),
        ({"threat": ["label-flip:1"], "attack": "backdoor"}, "give one or the other"),
        ({"threat": ["label-flip:9", "backdoor:2"]}, "malicious = 11 is more than clients = 10"),
        ({"threat": "label-flip:1;;backdoor:1"}, "something is missing beside ';'"),
    ],
)
def test_threats_that_make_no_sense_are_one_sentence(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_settings(flags)
    assert "\n" not in str(caught.value)


def test_manifest_names_the_hospitals_of_each_threat(tmp_path: Path) -> None:
    settings = tiny(tmp_path, threat=["sleeper(rounds=1) + label-flip:1", "backdoor + forge-loss:1"])
    result = run(settings)
    said = json.loads((result.folder / "manifest.json").read_text())
    assert [(t["attack"], tuple(t["hospitals"])) for t in said["threats"]] == list(threats_of(settings))
    assert tuple(said["malicious"]) == result.malicious and len(result.malicious) == 2
    assert result.summary["malicious"] == 2 and result.summary["attack_success_rate"] is not None
    assert (
        result.folder == RunIdentity.of(settings).folder
        and "sleeper-rounds-1-label-flip-backdoor" in result.folder.name
    )


def test_one_threat_is_the_short_form_bit_for_bit(tmp_path: Path) -> None:
    short = run(tiny(tmp_path, malicious=1, attack="backdoor + sign-flip"))
    listed = run(tiny(tmp_path, threat=["backdoor + sign-flip:1"]))
    assert short.folder != listed.folder
    assert (short.folder / "rounds.jsonl").read_bytes() == (listed.folder / "rounds.jsonl").read_bytes()

"""Complete runs of small federations: their files, their repeatability, and faults that do not end them."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import tiny
from safetensors.numpy import load_file

from fedrobust import Settings, UserError, run
from fedrobust.runtime.runner import existing
from fedrobust.scenario import Scenario
from fedrobust.settings import load_settings

METRICS = {
    *("loss", "accuracy", "macro_f1", "macro_precision", "macro_recall", "auroc"),
    *("balanced_accuracy", "ece", "sensitivity", "worst_class"),
}


def files(result: Any, *names: str) -> list[bytes]:
    return [(result.folder / name).read_bytes() for name in names]


def test_run_returns_summary_history_and_a_complete_folder(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, malicious=1, networks=2))
    summary = result.summary
    assert set(summary["clean"]) == set(summary["noisy"]) == METRICS
    assert set(summary["drop"]) == {"accuracy", "macro_f1", "macro_precision", "combined"}
    assert set(summary["detection"]) == {
        *("precision", "recall", "auroc", "false_flag_rate", "weights", "flagged"),
        *("malicious_weight", "malicious_share", "failed"),
    }
    assert (summary["clients"], summary["malicious"], summary["rounds"], summary["seed"]) == (4, 1, 2, 0)
    assert sum(summary["detection"]["weights"].values()) == pytest.approx(1)
    assert Path(summary["run"]) == result.folder
    assert {f.name for f in result.folder.iterdir()} == {
        *("settings.toml", "manifest.json", "rounds.jsonl", "verdicts.jsonl", "timings.jsonl"),
        *(
            "client_metrics.jsonl",
            "summary.json",
            "evaluation.json",
            "examples.safetensors",
            "model.safetensors",
        ),
        *("report.html", "SHA256SUMS"),
    }
    assert json.loads((result.folder / "summary.json").read_text()) == json.loads(result.to_json())
    assert list(result.history.index) == [1, 2]
    assert result.history.loc[2, "clean.accuracy"] == summary["clean"]["accuracy"]
    assert existing(result.settings) == result.folder
    assert not list(tmp_path.glob("*.partial"))


def test_manifest_names_data_versions_seeds_and_trusts(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, malicious=2))
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["malicious"] == list(Scenario.of(result.settings).malicious) == list(result.malicious)
    assert manifest["data"]["synthetic"] is True
    assert len(manifest["data"]["sha256"]) == 64
    assert manifest["versions"]["torch"] and manifest["versions"]["flwr"]
    assert manifest["seeds"] == {"run": 0}
    assert manifest["defence_trusts"] == ["loss", "num_examples"]
    assert manifest["oracle"] is False
    oracle = run(tiny(tmp_path, strategy="oracle(malicious=[1])"))
    assert json.loads((oracle.folder / "manifest.json").read_text())["oracle"] is True
    assert sum(map(sum, manifest["data"]["hospitals"].values())) == manifest["data"]["split"]["train"]


def test_run_from_settings_toml_is_bit_identical(tmp_path: Path) -> None:
    first = run(tiny(tmp_path / "a", malicious=1, attack="backdoor(size=0.1)"))
    again = load_settings({"out": str(tmp_path / "b")}, first.folder / "settings.toml")
    second = run(again)
    names = ("rounds.jsonl", "verdicts.jsonl", "model.safetensors")
    assert files(first, *names) == files(second, *names)


def test_runs_with_two_seeds_differ(tmp_path: Path) -> None:
    first, second = (run(tiny(tmp_path, seed=seed)) for seed in (0, 1))
    assert files(first, "model.safetensors") != files(second, "model.safetensors")
    assert first.folder != second.folder


def test_model_file_holds_both_networks_and_the_frame(tmp_path: Path) -> None:
    tensors = load_file(run(tiny(tmp_path, networks=2)).folder / "model.safetensors")
    assert {name.split(".")[1] for name in tensors if name.startswith("networks.")} == {"0", "1"}
    frame = tensors["frame"]
    assert frame.shape[1] == 6
    np.testing.assert_allclose(np.linalg.norm(frame, axis=0), 1, atol=1e-5)
    assert not np.array_equal(tensors["networks.0.project.weight"], tensors["networks.1.project.weight"])


def test_run_without_a_better_loss_ends_when_patience_runs_out(tmp_path: Path) -> None:
    # A learning rate that moves nothing cannot lower the loss again and again.
    result = run(tiny(tmp_path, rounds=30, patience=2, lr=1e-12, data="phantom(images=120, size=16)"))
    assert result.summary["rounds"] < 30


def test_run_with_one_hospital_is_centralised_training(tmp_path: Path) -> None:
    # Without the server's own steps.
    result = run(tiny(tmp_path, clients=1, strategy="isolation-forest(audit=0)"))
    assert result.summary["detection"]["weights"] == {"0": 1.0}
    plain = run(tiny(tmp_path, clients=1, strategy="flwr.serverapp.strategy:FedAvg"))
    assert files(result, "model.safetensors") == files(plain, "model.safetensors")


@pytest.mark.parametrize(
    "name", ["FedMedian", "FedAvg", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "FedAdam"]
)
def test_plain_flower_strategy_runs_unchanged(tmp_path: Path, name: str) -> None:
    result = run(
        tiny(tmp_path, clients=8, backbone="cnn(width=8)", strategy=f"flwr.serverapp.strategy:{name}")
    )
    assert result.summary["detection"]["weights"] == {}
    assert result.summary["detection"]["precision"] is None
    assert 0 <= result.summary["clean"]["accuracy"] <= 1


def test_run_with_a_backdoor_has_a_success_rate(tmp_path: Path) -> None:
    result = run(tiny(tmp_path, malicious=1, attack="backdoor(target=2, size=0.2)"))
    assert 0 <= result.summary["attack_success_rate"] <= 1
    assert run(tiny(tmp_path)).summary["attack_success_rate"] is None


ATTACKS = {
    "crash": """
        def poison_update(self, update):
            raise RuntimeError("out of order")
    """,
    "crash_at_once": """
        def poison_records(self, records):
            raise RuntimeError("never opened")
    """,
    "says_nothing": """
        def forge_report(self, report):
            from fedrobust.federation import ClientMetrics
            return ClientMetrics(report.num_examples)
    """,
    "leaves": """
        def poison_records(self, records):
            raise SystemExit(3)
    """,
    "nan_sender": """
        def poison_update(self, update):
            return update.with_delta(np.full_like(update.parameters, np.nan))
    """,
    "huge_sender": """
        def poison_update(self, update):
            return update.with_delta(np.full_like(update.parameters, 1e30))
    """,
    "wrong_shape": """
        def poison_update(self, update):
            import dataclasses
            return dataclasses.replace(update, parameters=update.parameters[:-1])
    """,
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("strategy", ["isolation-forest", "flwr.serverapp.strategy:FedAvg"])
def test_faulty_hospital_fails_its_rounds_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, strategy: str
) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    body = textwrap.indent(textwrap.dedent(ATTACKS[name]), "    ")
    head = "import numpy as np\nfrom fedrobust.federation import Attack\n\n"
    head += 'class Faulty(Attack):\n    """Faulty."""\n'
    (folder / f"{name}.py").write_text(head + body)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(tiny(tmp_path, malicious=1, attack=name.replace("_", "-"), strategy=strategy))
    bad = result.malicious[0]
    assert result.summary["faults"] == 2
    for line in result.rounds:
        assert [fault["hospital"] for fault in line["faults"]] == [bad]
    assert result.summary["detection"]["weights"].get(str(bad)) is None


def test_strategy_that_fails_is_named_and_completed_rounds_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "gives_up.py").write_text(
        "from fedrobust.federation import Defence\n\nclass GivesUp(Defence):\n"
        "    def weigh(self, updates):\n"
        "        if updates.round == 2:\n            raise RuntimeError('no more')\n"
        "        return [1.0] * len(updates)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UserError, match=r"'gives-up' fails in round 2: RuntimeError: no more .*gives_up.py, line 6"
    ):
        run(tiny(tmp_path, strategy="gives-up"))
    (partial,) = tmp_path.glob("*.partial")
    assert len((partial / "rounds.jsonl").read_text().splitlines()) == 1
    assert not (partial / "summary.json").exists()
    assert existing(tiny(tmp_path, strategy="gives-up")) is None


@pytest.mark.parametrize("body", ["return None", "return updates.global_parameters[:-1], Verdict([1.0] * 4)"])
def test_strategy_that_returns_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "wrong_return.py").write_text(
        "from fedrobust.federation import Defence, Verdict\n\nclass WrongReturn(Defence):\n"
        f"    def combine(self, updates):\n        {body}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n == "strategies.wrong_return"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        UserError,
        match="WrongReturn: combine "
        "(must return the new parameters and a Verdict|returned parameters of shape)",
    ):
        run(tiny(tmp_path, strategy="wrong-return"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "isolation-forrest"}, "did you mean 'isolation-forest'"),
        ({"malicious": 1, "attack": "lable-flip"}, "did you mean 'label-flip'"),
        ({"malicious": 0, "attack": "lable-flip"}, "did you mean 'label-flip'"),
        ({"data": "fantom"}, "did you mean 'phantom'"),
        ({"data": "phantom(image=3)"}, "did you mean 'images'"),
        ({"backbone": "resnet81"}, "did you mean 'resnet18'"),
        ({"partition": "dirichlet(alpha=-1)"}, "alpha"),
        ({"partition": "iids"}, "iid"),
        ({"data": "phantom(images=12, size=16)", "clients": 30}, "hospital"),
        ({"malicious": 1, "attack": "backdoor(target=6)"}, "target is 6"),
        ({"malicious": 1, "attack": "label-flip(shift=6)"}, "shift=6"),
        ({"malicious": 1, "attack": "label-flip(sift=1)"}, "did you mean 'shift'"),
        ({"strategy": "fedavg(x=1)"}, "no option 'x'"),
        ({"device": "cuda:99"}, "--device"),
        ({"data": "medmnist:nothing_here"}, "nothing_here"),
    ],
)
def test_mistake_in_settings_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        run(tiny(tmp_path / "out", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_run_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="--out"):
        run(tiny(tmp_path / "taken"))


def test_python_interface_has_run_and_settings() -> None:
    import fedrobust

    assert callable(fedrobust.run)
    assert fedrobust.Settings is Settings

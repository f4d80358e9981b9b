"""Resuming: an interrupted run ends in the same bits as an unbroken one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import TRAINING_OPTIONS, Cut, Unplugged, tiny
from flwr.app import Array, ArrayRecord

from fedrobust import Settings, UserError, run
from fedrobust.commands.program import main
from fedrobust.federation import Defence, PreAggregation, Updates
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.results.checkpoint import UnusableCheckpoint, load_checkpoint, save_checkpoint
from fedrobust.results.folder import RunFolder
from fedrobust.scenario import RunIdentity
from fedrobust.suites.one_cell import run_one

NAMES = ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "evaluation.json", "model.safetensors")


def interrupted(settings: Settings, number: int) -> Path:
    with pytest.raises(Unplugged):
        run(settings, [Cut(number)])
    folder = RunIdentity.of(settings).folder
    return folder.with_name(folder.name + ".partial")


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "feddetect(warm_up=1)", "attack": "label-flip + poisoned-fl"},
        {"strategy": "isolation-forest", "networks": 2},
        {"strategy": "flwr.serverapp.strategy:FedAdam"},
        {"backbone": "shufflenet_v2_x0_5", "strategy": "fedavg"},
        {"lr": 1e-9, "patience": 3},
        TRAINING_OPTIONS,
    ],
    ids=str,
)
def test_resumed_run_has_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    both = {"rounds": 5, "malicious": 1, **changes}
    unbroken = run(tiny(tmp_path / "unbroken", **both))
    for number in (1, 3):
        settings = tiny(tmp_path / f"cut-{number}", **both)
        partial = interrupted(settings, number)
        # What a cut in the middle of writing leaves: a line of a round that has no checkpoint.
        for name in ("rounds.jsonl", "client_metrics.jsonl"):
            with (partial / name).open("a") as file:
                file.write('{"round": ')
        resumed = run(settings, resume=True)
        for name in NAMES:
            assert (unbroken.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name
        assert {f.name for f in unbroken.folder.iterdir()} == {f.name for f in resumed.folder.iterdir()}
        assert resumed.summary["detection"] == unbroken.summary["detection"]


def test_resumed_run_after_its_last_round_is_evaluated(tmp_path: Path) -> None:
    unbroken = run(tiny(tmp_path / "unbroken", malicious=1))
    settings = tiny(tmp_path / "cut", malicious=1)
    interrupted(settings, 2)
    resumed = run(settings, resume=True)
    for name in (*NAMES, "examples.safetensors"):
        assert (unbroken.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name


def test_resume_from_the_command_line_takes_the_partial_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tiny(tmp_path, rounds=4)
    partial = interrupted(settings, 2)
    with pytest.raises(SystemExit) as left:
        main(["simulate", "--resume", str(partial), "--workers", "1", "--quiet"])
    assert left.value.code == 0
    assert len((RunIdentity.of(settings).folder / "rounds.jsonl").read_text().splitlines()) == 4
    for folder, code, words in (
        (RunIdentity.of(settings).folder, 0, "is finished; there is nothing to resume"),
        (partial, 0, "is finished; there is nothing to resume"),
        (tmp_path / "nothing", 2, "no unfinished run"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["simulate", "--resume", str(folder)])
        assert left.value.code == code
        assert words in capfd.readouterr().err


def test_resume_with_other_settings_or_a_broken_checkpoint_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tiny(tmp_path, rounds=3)
    partial = interrupted(settings, 1)
    with pytest.raises(SystemExit):
        main(["simulate", "--resume", str(partial), "--rounds", "9"])
    assert "--resume takes its settings from" in capfd.readouterr().err
    (partial / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        run(settings, resume=True)


def test_resume_with_changed_data_is_refused(tmp_path: Path) -> None:
    settings = tiny(tmp_path, rounds=3)
    partial = interrupted(settings, 1)
    manifest = partial / "manifest.json"
    digest = manifest.read_text().split('"sha256": "')[1][:64]
    manifest.write_text(manifest.read_text().replace(digest, "0" * 64))
    with pytest.raises(UserError, match="data have changed"):
        run(settings, resume=True)


@pytest.mark.parametrize("why", ["damaged", "of an earlier version", "of another rule"])
def test_cell_of_a_suite_whose_checkpoint_is_unusable_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    both = {"rounds": 3, "strategy": "test_checkpoint:Counts"}
    unbroken = run(tiny(tmp_path / "unbroken", **both))
    settings = tiny(tmp_path / "cut", **both)
    with monkeypatch.context() as earlier:
        if why == "of an earlier version":
            earlier.setattr("fedrobust.results.checkpoint._UNSTATED", "other/")
        if why == "of another rule":
            earlier.setattr(Counts, "state", lambda rule: {})
        partial = interrupted(settings, 1)
    if why == "damaged":
        (partial / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    else:
        words = "an earlier version wrote" if "earlier" in why else "Counts cannot resume"
        with pytest.raises(UnusableCheckpoint, match=words):
            run(settings, resume=True)
    assert run_one(settings).error == ""
    for name in NAMES:
        found = RunIdentity.of(settings).folder / name
        assert (unbroken.folder / name).read_bytes() == found.read_bytes(), name


class Large(Defence):
    """Keeps more than the head of a safetensors file may hold."""

    kept = ""

    def state(self) -> dict[str, Any]:
        return {"text": self.kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.kept = state["text"]


@pytest.mark.parametrize("size", [3, 101 << 20])
def test_checkpoint_holds_a_large_state(tmp_path: Path, size: int) -> None:
    folder, arrays = (
        RunFolder(RunIdentity.of(tiny(tmp_path))),
        ArrayRecord({"a": Array(np.ones(3, np.float32))}),
    )
    saved, loaded = Large(), Large()
    saved.kept = "a" * size
    for name in ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl"):
        folder.append(name, {"round": 1, "hospitals": []})
    save_checkpoint(folder, 1, arrays, HostedStrategy(Pipeline(saved)))
    checkpoint = load_checkpoint(folder, HostedStrategy(Pipeline(loaded)))
    assert checkpoint is not None and len(checkpoint.rounds) == 1
    assert loaded.kept == saved.kept
    assert list(checkpoint.arrays) == ["a"]


class Forgets(Defence):
    """Keeps a number for which it has no state()."""

    def __init__(self) -> None:
        self.count = 0


@pytest.mark.parametrize("count", [0, 1])
def test_number_that_no_state_returns_is_refused(tmp_path: Path, count: int) -> None:
    folder, saved = RunFolder(RunIdentity.of(tiny(tmp_path))), Forgets()
    # What it keeps within a round only, it does not begin with.
    saved.count, saved.scores = count, [1]  # type: ignore[attr-defined]
    for name in ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl"):
        folder.append(name, {"round": 1, "hospitals": []})
    arrays = ArrayRecord({"a": Array(np.ones(3, np.float32))})
    save_checkpoint(folder, 1, arrays, HostedStrategy(Pipeline(saved)))
    refused = pytest.raises(UserError, match=r"Forgets keeps 'count' from round to round, which is lost")
    with refused if count else contextlib.nullcontext():
        load_checkpoint(folder, HostedStrategy(Pipeline(Forgets())))


class Remembers(PreAggregation):
    """A step that adds what it saw in the last round."""

    def __init__(self) -> None:
        self.last: dict[int, Any] = {}

    def transform(self, updates: Updates) -> Updates:
        moved = [u.with_delta(u.delta + 0.5 * self.last.get(u.node, 0.0)) for u in updates]
        self.last = {u.node: u.delta for u in updates}
        return Updates(moved, updates.seed)

    def state(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.last = dict(state["last"])


class Counts(Defence):
    """Weighs hospitals by how often they replied, which it keeps by number."""

    def __init__(self, breaks: bool = False) -> None:
        self.count: dict[int, int] = {}
        self.breaks = breaks

    def weigh(self, updates: Updates) -> list[float]:
        for node in updates.nodes:
            self.count[node] = self.count.get(node, 0) + 1 + node
        return [1.0 / self.count[node] ** 2 for node in updates.nodes]

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = dict(state["counts" if self.breaks else "count"])


def test_checkpoint_keeps_a_plug_in_state_with_keys_and_arrays(tmp_path: Path) -> None:
    both = {"rounds": 4, "strategy": "test_checkpoint:Remembers | test_checkpoint:Counts"}
    unbroken = run(tiny(tmp_path / "unbroken", **both))
    settings = tiny(tmp_path / "cut", **both)
    interrupted(settings, 2)
    resumed = run(settings, resume=True)
    for name in NAMES:
        assert (unbroken.folder / name).read_bytes() == (resumed.folder / name).read_bytes(), name


def test_checkpoint_with_a_failing_load_state_is_one_sentence(tmp_path: Path) -> None:
    settings = tiny(tmp_path, rounds=3, strategy="test_checkpoint:Counts(breaks=true)")
    interrupted(settings, 1)
    with pytest.raises(
        UserError, match="Counts cannot resume, run without --resume; load_state fails: KeyError: 'counts'"
    ):
        run(settings, resume=True)


def test_checkpoint_with_an_unsupported_state_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Odd: state\(\) holds a object"):
        run(tiny(tmp_path, strategy="test_checkpoint:Odd"))


class Odd(Counts):
    """Keeps what cannot be written."""

    def state(self) -> dict[str, Any]:
        return {"what": object()}

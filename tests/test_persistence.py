"""Nothing computed is lost, nothing counted twice: kills at each write, full disks, two processes, links."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Cut, Unplugged, tiny
from flwr.app import Array, ArrayRecord
from run_folders import make_run

from benchmarks.reliability.damaged_folders import damaged, refused_or_read
from benchmarks.reliability.folder_race import take_and_release
from fedrobust import Settings, UserError, run
from fedrobust.commands.program import main
from fedrobust.disk import files as disk
from fedrobust.disk.files import append_bytes, read_regular, write_bytes
from fedrobust.disk.lock import Held, Lock
from fedrobust.federation import Attack, Defence, Records
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.reports.writing import write_report
from fedrobust.results.checkpoint import load_checkpoint, save_checkpoint
from fedrobust.results.checksums import SUMS, replace_checked, write_sums
from fedrobust.results.finished_run import read_run
from fedrobust.results.folder import RunFolder, partial_of, recover
from fedrobust.scenario import RunIdentity
from fedrobust.suites import scheduler
from fedrobust.suites.progress import Silent
from fedrobust.suites.scheduler import Outcome, work_off
from fedrobust.suites.store import failure, note_failure

#: Python's names of the system calls that write.
WRITES = ("open", "write", "pwrite", "ftruncate", "replace", "rename", "unlink", "rmdir", "mkdir")
ROUNDS = 2


class Mean(Defence):
    """The plain mean."""


def write_a_run(settings: Settings) -> None:
    """Write what a run writes, or continue what is there, without training."""
    identity = RunIdentity.of(settings)
    if recover(identity.folder):
        return
    folder, strategy = RunFolder(identity, resume=True), HostedStrategy(Pipeline(Mean()))
    kept = load_checkpoint(folder, strategy)
    for number in range(len(kept.rounds) + 1 if kept else 1, ROUNDS + 1):
        for name in ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "timings.jsonl"):
            folder.append(name, {"round": number})
        save_checkpoint(folder, number, ArrayRecord({"a": Array(np.full(3, number, np.float32))}), strategy)
    folder.write_json("summary.json", {"rounds": ROUNDS})
    folder.finish()


def in_child(function: Callable[[], object]) -> int:
    """Return the exit code of a fork that runs a function; the signal that ended it, negative."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            function()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, function: Callable[[], object], half: bool = False) -> Callable[[], None]:
    """Return the function with a kill at its so manieth call that writes, or in the middle of it."""

    def work() -> None:
        calls = 0

        def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    if half and name == "write":
                        original(given[0], bytes(given[1])[: len(given[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*given, **more)

            return call

        for name in WRITES:
            setattr(os, name, counted(name, getattr(os, name)))
        function()

    return work


#: The first call that is tried of a run that replaces another: what comes before is as in a new one.
LAST = 40


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaces a finished run"])
def test_kill_at_each_write_loses_and_repeats_nothing(tmp_path: Path, before: bool) -> None:
    settings = tiny(tmp_path / "runs")
    folder = RunIdentity.of(settings).folder
    for number in range(LAST if before else 1, 500):
        shutil.rmtree(folder.parent, ignore_errors=True)
        if before:
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text("{}")
        ended = in_child(killed_at(number, lambda: write_a_run(settings), half=number % 2 == 0))
        assert ended in (0, -signal.SIGKILL)
        assert in_child(lambda: write_a_run(settings)) == 0 or ended == 0
        assert [path.name for path in folder.parent.iterdir()] == [folder.name], number
        for name in ("rounds.jsonl", "verdicts.jsonl", "client_metrics.jsonl", "timings.jsonl"):
            found = [json.loads(line)["round"] for line in (folder / name).read_text().splitlines()]
            assert found == [1, 2], (number, name)
        assert not list(folder.glob(".*")) and not (folder / "checkpoint.safetensors").exists()
        if ended == 0:
            break
    assert 50 < number < 200


def test_run_killed_when_it_was_complete_is_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(tmp_path, clients=3, data="phantom(images=120, size=16)")
    folder = RunIdentity.of(settings).folder

    def stop(*_: object) -> None:
        raise Unplugged

    with monkeypatch.context() as patched:
        patched.setattr("fedrobust.results.folder._put_in_place", stop)
        with pytest.raises(Unplugged):
            run(settings)
    assert not folder.exists()
    trained = (partial_of(folder) / "model.safetensors").stat().st_mtime_ns
    result = run(settings, resume=True)
    assert (folder / "model.safetensors").stat().st_mtime_ns == trained
    assert len(result.rounds) == 2 and (folder / "report.html").is_file()


def fails(call: str, code: int, times: Iterator[bool]) -> Callable[..., Any]:
    """Return a call of `os` that fails as a disk does, when it is time."""
    original = getattr(os, call)

    def failing(*given: Any, **more: Any) -> Any:
        if next(times, False):
            raise OSError(code, os.strerror(code))
        return original(*given, **more)

    return failing


def test_full_disk_is_one_sentence_that_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tiny(tmp_path, clients=3, data="phantom(images=120, size=16)")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in settings.model_dump().items() if v and k in GIVEN]
    partial = partial_of(RunIdentity.of(settings).folder)
    # The checkpoint of round 1 stands; the fourth replacement is that of round 2.
    times = iter([False, False, False, True])
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fails("replace", errno.ENOSPC, times))
        with pytest.raises(SystemExit) as left:
            main(["simulate", *flags, "--quiet"])
    written = capfd.readouterr().err
    assert left.value.code == 2 and "Traceback" not in written
    assert f"{partial} cannot be written (No space left on device); round 1 is kept" in written
    with pytest.raises(SystemExit) as left:
        main(["simulate", "--resume", str(partial), "--quiet"])
    assert left.value.code == 0


GIVEN = {"clients", "rounds", "local_epochs", "networks", "workers", "data", "out"}


def test_run_folder_that_vanishes_is_one_sentence(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=3, data="phantom(images=120, size=16)")

    class Vanishes(Cut):
        def round_done(self, outcome: object) -> None:
            shutil.rmtree(tmp_path)

    with pytest.raises(UserError, match="has vanished while the run wrote it"):
        run(settings, [Vanishes(1)])


def test_file_that_vanishes_never_makes_a_finished_run(tmp_path: Path) -> None:
    folder = RunFolder(RunIdentity.of(tiny(tmp_path)))
    folder.append("rounds.jsonl", {"round": 1})
    (folder.partial / "rounds.jsonl").unlink()
    folder.append("rounds.jsonl", {"round": 2})
    with pytest.raises(UserError, match="has been changed while the run wrote it"):
        folder.finish()
    folder.release()
    assert not folder.final.exists()


def test_lock_is_never_held_by_two(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    processes = [context.Process(target=take_and_release, args=(tmp_path / "run", 1.0, found)) for _ in "123"]
    for process in processes:
        process.start()
    counts = [found.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(taken for taken, _ in counts) > 50 and sum(both for _, both in counts) == 0
    assert os.listdir(tmp_path) == []


def test_lock_says_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert Lock.holder(folder) == ""
    with Lock(folder):
        assert f"number {os.getpid()} on " in Lock.holder(folder)
        with pytest.raises(Held, match=f"another process .number {os.getpid()} on .* is running"):
            Lock(folder)
    assert Lock.holder(folder) == ""

    def die() -> None:
        Lock(folder)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert Lock.is_left(folder) and Lock.holder(folder) == ""
    recover(folder)
    assert os.listdir(tmp_path) == []


class AtOnce:
    """An executor that finishes each cell at once, or says that another process has it."""

    slots = 1

    def __init__(self, held: int = 0) -> None:
        self.started: list[str] = []
        self.held = held

    def start(self, digest: str, settings: Settings) -> None:
        self.started.append(digest)

    def wait(self) -> list[Outcome]:
        self.held -= 1
        return [Outcome(self.started[-1], "another process has it", held=self.held >= 0)]

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("finished", [False, True])
def test_cell_of_another_command_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    monkeypatch.setattr(scheduler, "_PAUSE_S", 0.01)
    settings = tiny(tmp_path)
    folder = RunIdentity.of(settings).folder
    monkeypatch.setattr("fedrobust.suites.store.CellStore.change", lambda *_: "")
    lock, executor = Lock(folder), AtOnce()

    def ends() -> None:
        if finished:
            make_run(folder)
        lock.release()

    timer = threading.Timer(0.2, ends)
    timer.start()
    errors = work_off({settings.digest(): settings}, executor, Silent())
    timer.join()
    # Its run is taken if it finished it, and resumed if not; never noted as failed.
    assert len(executor.started) == (0 if finished else 1)
    assert bool(errors) is not finished


def test_cell_that_another_command_takes_first_is_tried_again_and_not_noted(tmp_path: Path) -> None:
    settings, executor = tiny(tmp_path), AtOnce(held=1)
    executor.wait = lambda: [  # type: ignore[method-assign]
        Outcome(executor.started[-1], "held", held=True)
        if len(executor.started) == 1
        else Outcome(executor.started[-1])
    ]
    assert work_off({settings.digest(): settings}, executor, Silent()) == {}
    assert len(executor.started) == 2 and failure(settings) == ""


def test_links_in_a_run_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = make_run(tmp_path / "run")
    for name in (".report.html.aside", "report.html"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside)
    write_report(folder)
    assert outside.read_text() == "mine" and not (folder / "report.html").is_symlink()
    for name in ("settings.toml", "rounds.jsonl", "examples.safetensors"):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).unlink()
        (tmp_path / name / name).symlink_to(outside)
        with contextlib.suppress(UserError):
            write_report(tmp_path / name)
            assert "mine" not in (tmp_path / name / "report.html").read_text()
    with pytest.raises(UserError, match=r"settings\.toml is a symbolic link, which is not followed"):
        _ = read_run(tmp_path / "settings.toml").settings


def test_links_in_an_unfinished_run_are_not_followed(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "runs", clients=3, data="phantom(images=120, size=16)")
    with pytest.raises(Unplugged):
        run(settings, [Cut(1)])
    partial = partial_of(RunIdentity.of(settings).folder)
    outside, linked = tmp_path / "outside", tmp_path / "linked"
    outside.write_text("mine")
    shutil.copy(partial / "verdicts.jsonl", linked)
    (partial / ".rounds.jsonl.aside").symlink_to(outside)
    (partial / ".settings.toml.aside").hardlink_to(outside)
    (partial / "verdicts.jsonl").unlink()
    (partial / "verdicts.jsonl").hardlink_to(linked)
    before = linked.read_bytes()
    result = run(settings, resume=True)
    assert [line["round"] for line in result.rounds] == [1, 2]
    assert outside.read_text() == "mine" and linked.read_bytes() == before
    with pytest.raises(OSError, match="second name"):
        os.link(linked, tmp_path / "second")
        append_bytes(linked, b"more")


def test_pipe_link_and_long_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is not a regular file"):
        read_regular(tmp_path / "pipe")
    write_bytes(tmp_path / "long", bytes(20))
    monkeypatch.setattr(disk, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="20 bytes; at most 10"):
        read_regular(tmp_path / "long")


class Shouts(Attack):
    """Fails with an error of a million letters."""

    def poison_records(self, records: Records) -> Records:
        raise ValueError("a" * 1_000_000)


def test_long_error_is_cut_with_its_length_said(tmp_path: Path) -> None:
    settings = tiny(tmp_path, clients=3, rounds=1, data="phantom(images=120, size=16)", malicious=1)
    result = run(settings, attack="test_persistence:Shouts")
    (fault,) = result.rounds[0]["faults"]
    assert len(fault["reason"]) < 3000 and "characters)" in fault["reason"]
    assert (result.folder / "rounds.jsonl").stat().st_size < 20_000
    note_failure(settings, "b" * 1_000_000)
    assert len(failure(settings)) < 21_000 and "(1,000,000 characters)" in failure(settings)


def test_damage_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    write_sums(folder)
    assert read_run(folder).rounds
    replace_checked(folder, {"rounds.jsonl": b'{"round": 1}\n'})
    assert len(read_run(folder).rounds) == 1
    for path in (folder / "rounds.jsonl", folder / "summary.json"):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1", b"2", 1))
        with pytest.raises(UserError, match=rf"{path.name} is damaged: it does not match {SUMS}"):
            write_report(folder)
        path.write_bytes(content)
    (folder / SUMS).write_text("no sums")
    with pytest.raises(UserError, match="'no sums' is not a checksum"):
        write_report(folder)


def test_resume_refuses_edited_settings_and_another_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tiny(tmp_path, clients=3, data="phantom(images=120, size=16)")
    with pytest.raises(Unplugged):
        run(settings, [Cut(1)])
    partial = partial_of(RunIdentity.of(settings).folder)
    kept = (partial / "settings.toml").read_text()
    for text in ("", kept.replace("rounds = 2", "rounds = 5")):
        (partial / "settings.toml").write_text(text)
        with pytest.raises(SystemExit) as left:
            main(["simulate", "--resume", str(partial)])
        assert left.value.code == 2 and "has been edited" in capfd.readouterr().err
    (partial / "settings.toml").write_text(kept)
    checkpoint = partial / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-5] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match="does not match its checksum"):
        run(settings, resume=True)


def test_page_of_damaged_folders_is_made_or_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", atypical={2: "other-scanner"})
    found = damaged(folder, tmp_path / "damaged", random.Random(0))
    for _ in range(120):
        what, copy = next(found)
        assert refused_or_read(lambda copy=copy: write_report(copy)) == "", what  # type: ignore[misc]


def test_page_of_absurdly_many_hospitals_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    with pytest.raises(UserError, match="clients: input should be less than or equal to 100000"):
        write_report(_with_clients(tmp_path, 10**8))


def _with_clients(folder: Path, number: int) -> Path:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "clients": number}))
    return folder

"""Promise 4: files and texts from anybody end in a result or in one sentence, and are shown as text."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.reliability import hostile_files
from benchmarks.reliability.faults import Faults
from benchmarks.reliability.hostile_files import attempt, damaged
from fedrobust.printing import PlainConsole, lines, one_line

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import run_folders

__all__ = ["MINUTES", "TITLE", "inject"]

TITLE = "hostile files and texts"
MINUTES = 5

#: Files that are drawn from one seed; seeds follow each other while there is time.
AT_ONCE = 100

#: Seconds that reading one small file may take, on a busy machine.
SLOWEST_S = 20.0

#: Memory that all of the reading may add to the process, in MiB.
GROWTH_MIB = 1500

Reader = Callable[[bytes, Path], object]


def inject(faults: Faults) -> None:
    """Inject the faults."""
    warnings.simplefilter("ignore")
    before = _peak_mib()
    kinds: list[tuple[str, st.SearchStrategy[bytes], Reader]] = [
        ("settings files", hostile_files.settings_files(), hostile_files.read_settings),
        ("suite files", hostile_files.suite_files(), hostile_files.read_suite),
        ("image files", hostile_files.archives(), hostile_files.read_archive),
        ("run folders", *_run_folders(faults.folder)),
        ("poisoned examples", *_examples(faults.folder)),
    ]
    _terminal(faults)
    _crowded_folder(faults)
    _texts(faults)
    for place, (kind, drawn, read) in enumerate(kinds):
        _draw(faults, kind, drawn, read, faults.seconds_left / (len(kinds) - place))
    grown = _peak_mib() - before
    faults.check("memory", grown < GROWTH_MIB, f"reading took {grown:.0f} MiB at its peak")


def _draw(faults: Faults, kind: str, drawn: st.SearchStrategy[bytes], read: Reader, seconds: float) -> None:
    """Let a reader read drawn files for so long."""
    ends = time.monotonic() + seconds
    folder = faults.folder / kind.replace(" ", "-")
    folder.mkdir(exist_ok=True)

    @settings(
        max_examples=AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def each(content: bytes) -> None:
        began = time.monotonic()
        if began > ends:
            return
        with faults.fault(kind, repr(content[:200])):
            attempt(lambda: read(content, folder))
            seconds = time.monotonic() - began
            assert seconds < SLOWEST_S, f"took {seconds:.1f} s"

    for number in itertools.count():
        if time.monotonic() > ends:
            break
        seed(number)(each)()


def _peak_mib() -> float:
    """Return the most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


# Run folders that are given to `report`.


def _run_folders(folder: Path) -> tuple[st.SearchStrategy[bytes], Reader]:
    """Return drawn changes to a run folder, each as bytes that name a file, and how they are read."""
    from fedrobust.report import write_report

    good = run_folders.make_run(folder / "good", rounds=2, clients=3)
    names = sorted(file.name for file in good.iterdir() if file.suffix in (".json", ".jsonl", ".toml"))
    contents = {name: (good / name).read_bytes() for name in names}

    def spoilt(name: str) -> st.SearchStrategy[bytes]:
        content = contents[name]
        drawn = damaged(content)
        if name.endswith(".json"):
            values = st.tuples(st.integers(0, 1000), hostile_files.json_values())
            drawn |= values.map(lambda pair: hostile_files.replaced(content.decode(), *pair).encode())
        return drawn.map(lambda made: name.encode() + b"\0" + made)

    def read(content: bytes, folder: Path) -> None:
        name, _, made = content.partition(b"\0")
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good, run)
        (run / name.decode()).write_bytes(made)
        page = write_report(run)
        assert b"\x1b" not in page.read_bytes()

    return st.sampled_from(names).flatmap(spoilt), read


def _examples(folder: Path) -> tuple[st.SearchStrategy[bytes], Reader]:
    """Return drawn files of poisoned examples, and how a report reads them."""
    from fedrobust.reports.run.examples import poisoned_examples

    good = (run_folders.make_run(folder / "images") / "examples.safetensors").read_bytes()
    about = json.dumps([{"hospital": 0, "attack": "x", "before": 0, "after": 1}])
    arrays = st.sampled_from(
        [
            np.zeros((1, 0, 5), np.uint8), np.zeros((2, 5, 5), np.uint8), np.zeros((1, 5, 5), np.float16),
            np.zeros((0,), np.uint8), np.zeros((3, 5, 5), np.uint8), np.array(1),
            np.zeros((1, 1, 9000), np.uint8),
        ]
    )  # fmt: skip

    def made(original: Any, poisoned: Any, about: str) -> bytes:
        return bytes(
            safetensors.numpy.save({"original/0": original, "poisoned/0": poisoned}, {"fedrobust": about})
        )

    texts = st.sampled_from(
        [about, "[", "[" * 5000, "{}", about.replace("0", "-1"), about.replace("x", "<b>")]
    )

    def read(content: bytes, folder: Path) -> None:
        (folder / "examples.safetensors").write_bytes(content)
        poisoned_examples(folder)

    return damaged(good) | st.builds(made, arrays, arrays, texts), read


# Texts that are shown.

#: What a terminal, a reader of markup and a spreadsheet would act on.
SENT = ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\x07")
HOSTILE = "odd [/red] \x1b]0;owned\x07\x1b[2J\x9b31m\u202eback\r\nfedrobust: all is well"

PLUG_IN = f"""
from fedrobust.federation import Attack


class HostileError(Attack):
    {HOSTILE!r}

    def poison_update(self, update):
        raise ValueError({HOSTILE!r})
"""

RUN = [
    *("simulate", "--clients", "3", "--rounds", "1", "--local-epochs", "1", "--networks", "1"),
    *("--data", "phantom(images=120, size=16)"),
]


def _texts(faults: Faults) -> None:
    """Show drawn texts on one line, on several, and in a table of a terminal."""

    @settings(max_examples=500, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(st.text(st.characters(codec=None), max_size=60))
    def each(text: str) -> None:
        with faults.fault("texts", ascii(text)):
            console = PlainConsole(file=io.StringIO(), force_terminal=True, color_system=None, width=500)
            console.print(text)
            assert isinstance(console.file, io.StringIO)
            for shown in (one_line(text), lines(text), console.file.getvalue()):
                shown.encode("utf-8")
                assert not any(
                    ord(letter) < 32 and letter != "\n" or 127 <= ord(letter) < 160 for letter in shown
                )
            assert "\n" not in one_line(text)

    each()


def _terminal(faults: Faults) -> None:
    """Run commands in a pseudo-terminal, in a folder whose name and plug-in are hostile."""
    folder = faults.folder / "study [/b] \x1b[2J"
    (folder / "clients").mkdir(parents=True)
    (folder / "clients" / "hostile_error.py").write_text(PLUG_IN, encoding="utf-8")
    for name, arguments in (
        ("a hospital's error", [*RUN, "--attack", "hostile-error", "--malicious", "1"]),
        ("a docstring", ["list", "hostile-error"]),
        ("a refusal", ["simulate", "--strategy", HOSTILE]),
        ("a folder", ["report", f"nowhere {HOSTILE}"]),
    ):
        text = _in_terminal(arguments, folder)
        held = not any(sequence in text for sequence in SENT) and "Traceback" not in text
        held = held and not any(line.startswith("fedrobust: all is well") for line in text.splitlines())
        faults.check("terminal", held, f"{name}: {text[-300:]!r}")


def _in_terminal(arguments: list[str], folder: Path) -> str:
    """Return what a terminal gets from a command."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fedrobust", *arguments],
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # Linux's way to say that the other end is closed.
            break
        received += block
        if not block:
            break
    os.close(ours)
    process.wait()
    return received.decode("utf-8", "replace")


#: Modules of the library and of others, in a working folder.
SHADOWS = (
    *("statistics", "queue", "html", "numpy", "torch", "csv", "random", "secrets", "clients", "experiments"),
    *("tempfile", "logging", "pydantic", "flwr", "ray", "rich", "pandas", "PIL", "strategies", "sklearn"),
)


def _crowded_folder(faults: Faults) -> None:
    """Run on both engines in a folder of modules with the names of others."""
    folder = faults.folder / "crowded"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the working folder')\n")
    for engine in ("local", "flower"):
        command = [sys.executable, "-m", "fedrobust", *RUN, "--workers", "2", "--engine", engine, "--fresh"]
        with faults.fault("working folder", engine):
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0 and "failed" not in done.stderr, done.stderr[-500:]

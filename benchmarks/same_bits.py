"""Whether two commits compute the same bits: models, rounds, verdicts and suite tables, from clean clones.

    python benchmarks/same_bits.py --against 6900db5 --data-root DATA

The script clones the repository twice, checks out the commit named by ``--against`` in one clone and
``--commit`` (HEAD) in the other, carries out every setting of `RUNS` and the suite in each, and compares the
results. It names each difference and exits with 1 if there is one that `EXCEPTIONS` does not explain. A
default that changed is set back for the later commit (`FORMER`). About eight minutes on 2 cores.

Compared are the tensors of ``model.safetensors``, and every number, list and name in ``rounds.jsonl``,
``verdicts.jsonl`` and the suite's ``table.csv``. Keys that were renamed on purpose stand in `RENAMED`;
sentences for people are not compared. With ``--keep FOLDER`` the clones and runs stay, and a commit's
finished runs are not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

TOP = Path(__file__).resolve().parents[1]

#: The default of `RUNS`, where a run names no other: small enough for two cores, large enough for every
#: class.
BASE = {"data": "phantom(images=360, size=16)", "clients": "6", "rounds": "3", "local-epochs": "1"}


@dataclass(frozen=True)
class Run:
    """One run to compare.

    Attributes
    ----------
    name : str
    settings : mapping of str to str or tuple of str
        Flags of ``fedrobust simulate`` beside those of `BASE`; a tuple repeats its flag.
    resumed : bool
        Kill the run after its second round and resume it.
    real : bool
        The run needs the image files of ``--data-root``.
    """

    name: str
    settings: Mapping[str, str | tuple[str, ...]]
    resumed: bool = False
    real: bool = False


RUNS = (
    Run("default", {"malicious": "2", "workers": "2"}),
    Run(
        "one worker, linear, fedavg, dirichlet",
        {
            "malicious": "2",
            "workers": "1",
            "networks": "1",
            "head": "linear",
            "strategy": "fedavg",
            "partition": "dirichlet(alpha=0.5)",
        },
    ),
    Run("flower engine, etf", {"malicious": "2", "engine": "flower", "head": "etf", "networks": "1"}),
    Run(
        "resnet18, nnm | krum, alie",
        {
            "malicious": "2",
            "networks": "1",
            "backbone": "resnet18",
            "rounds": "2",
            "clients": "7",
            "strategy": "nnm | krum(f=2)",
            "attack": "alie",
        },
    ),
    Run(
        "plain Flower strategy, sign-flip",
        {
            "malicious": "2",
            "networks": "1",
            "strategy": "flwr.serverapp.strategy:FedAdam",
            "attack": "sign-flip(scale=2)",
        },
    ),
    Run(
        "backdoor + boost, multi-krum",
        {"malicious": "1", "networks": "1", "attack": "backdoor + boost", "strategy": "multi-krum"},
    ),
    Run(
        "other scanner and label flip, dirichlet",
        {
            "threat": ("other-scanner:1", "label-flip:1"),
            "networks": "1",
            "partition": "dirichlet(alpha=0.3)",
            "clients": "8",
        },
    ),
    Run(
        "resumed, isolation-forest, sleeper + sign-flip",
        {"malicious": "2", "workers": "1", "rounds": "4", "attack": "sleeper(rounds=2) + sign-flip"},
        resumed=True,
    ),
    Run(
        "resumed, centered-clipping, forge-loss",
        {
            "malicious": "2",
            "networks": "1",
            "workers": "1",
            "rounds": "4",
            "strategy": "centered-clipping",
            "attack": "label-flip + forge-loss",
        },
        resumed=True,
    ),
    Run(
        "optimal ipm, trimmed mean, site",
        {
            "malicious": "2",
            "networks": "1",
            "attack": "ipm(epsilon=optimal)",
            "strategy": "trimmed-mean",
            "partition": "site",
            "clients": "5",
        },
    ),
    Run(
        "feddetect, free rider, flower engine",
        {
            "malicious": "1",
            "networks": "1",
            "attack": "free-rider",
            "strategy": "feddetect",
            "engine": "flower",
        },
    ),
    Run(
        "bulyan, even number of hospitals",
        {"malicious": "1", "networks": "1", "clients": "8", "strategy": "bulyan(f=1)", "attack": "sign-flip"},
    ),
    Run(
        "backdoor with a ruler",
        {"malicious": "1", "networks": "1", "strategy": "fedavg", "attack": "backdoor(pattern=ruler)"},
    ),
    Run(
        "resumed, sgd, server momentum, augmentation, pruned weights",
        {
            "malicious": "1",
            "workers": "1",
            "rounds": "4",
            "optimizer": "sgd(momentum=0.9)",
            "lr": "0.02",
            "server-momentum": "0.5",
            "proximal": "0.1",
            "augment": "light",
            "prune": "weights(ratio=0.5, start=2)",
        },
        resumed=True,
    ),
    Run(
        "attention, attacked images, pruned filters, server adam",
        {
            "malicious": "1",
            "networks": "1",
            "attention": "cbam",
            "adversarial-training": "pgd(eps=4, steps=2)",
            "prune": "filters(ratio=0.25, start=2)",
            "server-optimizer": "adam",
            "strategy": "median",
        },
    ),
    Run(
        "brain images, default defence",
        {"data": "medmnist:brain_mri4_28", "malicious": "2", "rounds": "2", "seed": "3"},
        real=True,
    ),
    Run(
        "pneumonia images, flame, min-max",
        {
            "data": "medmnist:pneumoniamnist",
            "malicious": "2",
            "networks": "1",
            "rounds": "2",
            "attack": "min-max",
            "strategy": "flame",
            "split": "official",
        },
        real=True,
    ),
)

#: The suite: every kind of condition, an axis of settings, and an attack whose budget varies.
SUITE = """
title = "Same bits"
seeds = [0, 1, 2]

[base]
data = "phantom(images=240, size=16)"
clients = 5
networks = 1
rounds = 2
local-epochs = 1

[threats]
none = "none"
label-flip = "label-flip:2"
scanner = "other-scanner:1"

[defences]
fedavg = "fedavg"
median = "median"
isolation-forest = "isolation-forest"
"""

#: Names of keys before and after, where a commit renamed one; the later name is compared.
RENAMED = {"idle": "no_effect_attacks", "idle_defences": "no_effect_steps"}

#: Settings that came with a default of their own, and the value with which a commit that has them computes
#: what earlier ones did; given to the later commit where the earlier one lacks the setting.
FORMER = {"loss": "dot-regression"}

#: Keys that hold sentences for people.
WORDS = frozenset({"why", "reason"})

#: Runs whose numbers a commit changed on purpose, and why.
EXCEPTIONS: Mapping[str, str] = {
    "bulyan, even number of hospitals": "the paper's median is one of the chosen values, no mean of two",
    "backdoor with a ruler": "the mark's size is the share of the image that it covers, at any image size",
}


def main() -> int:
    """Make both sides, compare them, and say what differs; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, metavar="COMMIT", help="the earlier commit")
    parser.add_argument("--commit", default="HEAD", help="the later commit; default: HEAD")
    parser.add_argument(
        "--data-root", type=Path, help="folder of the image files; none: those runs are skipped"
    )
    parser.add_argument("--keep", type=Path, help="keep clones and runs in this folder")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose names hold this text")
    given = parser.parse_args()
    runs = [run for run in RUNS if given.only in run.name and (given.data_root or not run.real)]
    with tempfile.TemporaryDirectory() as scratch:
        work = (given.keep or Path(scratch)).absolute()
        sides = [_Side(work, commit, given.data_root) for commit in (given.against, given.commit)]
        known = [side.known_settings() for side in sides]
        sides[1].former = {key: FORMER[key] for key in (known[1] - known[0]) & FORMER.keys()}
        differences: dict[str, list[str]] = {}
        for run in [one for one in runs if not _lacking(one, known[0])]:
            folders = [side.carried_out(run) for side in sides]
            differences[run.name] = _of_runs(*folders)
            _print(run.name, differences[run.name])
        if given.only in "suite":
            tables = [side.suite() for side in sides]
            differences["suite"] = _of_tables(*tables)
            _print("suite", differences["suite"])
    for run in runs:
        if lacking := _lacking(run, known[0]):
            print(f"{run.name}: skipped, as {given.against} has no setting {', '.join(lacking)}")
    unexplained = [name for name, found in differences.items() if found and name not in EXCEPTIONS]
    skipped = len([run for run in RUNS if given.only in run.name]) - len(runs)
    print(
        f"{len(differences)} compared, {sum(bool(found) for found in differences.values())} differ, "
        f"{len(unexplained)} without a reason{f', {skipped} skipped without --data-root' if skipped else ''}"
    )
    return 1 if unexplained else 0


def _lacking(run: Run, known: set[str]) -> list[str]:
    """Return the settings of a run that a commit does not know."""
    return sorted(key for key in run.settings if key.replace("-", "_") not in known)


class _Side:
    """One commit in a clean clone, and the runs made with it."""

    def __init__(self, work: Path, commit: str, data_root: Path | None) -> None:
        """Clone the repository and check the commit out."""
        named = _git(TOP, "rev-parse", "--short=12", f"{commit}^{{commit}}")
        self._folder = work / named
        self._clone = self._folder / "clone"
        self._data_root = data_root.absolute() if data_root else None
        #: Settings in place of newer defaults.
        self.former: Mapping[str, str] = {}
        if not self._clone.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            _git(self._folder, "clone", "-q", "--no-checkout", str(TOP), str(self._clone))
            _git(self._clone, "checkout", "-q", named)

    def known_settings(self) -> set[str]:
        """Return the names of the settings that this commit has."""
        asked = "from fedrobust.settings import Settings; print(*Settings.model_fields)"
        said = subprocess.run(
            [sys.executable, "-c", asked],
            check=True,
            env=self._environment(),
            cwd=self._folder,
            capture_output=True,
            text=True,
        ).stdout
        return set(said.split())

    def carried_out(self, run: Run) -> Path:
        """Return the folder of a finished run."""
        out = self._folder / run.name.replace(" ", "-").replace(",", "").replace("|", "")
        found = _finished(out)
        if found:
            return found
        flags = [
            word
            for key, value in {**BASE, **self.former, **run.settings}.items()
            for one in ([value] if isinstance(value, str) else value)
            for word in (f"--{key}", one)
        ]
        if self._data_root and run.real:
            flags += ["--data-root", str(self._data_root)]
        flags += ["--out", str(out), "--quiet"]
        if run.resumed:
            flags = ["--resume", str(self._killed(flags, out)), "--quiet"]
        done = self._call("fedrobust.simulate", flags)
        found = _finished(out)
        if not found:
            raise SystemExit(f"{run.name} failed with {self._clone.parent.name}:\n{done.stdout}{done.stderr}")
        return found

    def suite(self) -> Path:
        """Return the table of the suite."""
        file = self._folder / "same_bits.toml"
        lines = "".join(f'{key} = "{value}"\n' for key, value in self.former.items())
        file.write_text(SUITE.replace("[base]\n", f"[base]\n{lines}"))
        self._call("fedrobust.benchmark", [str(file), "--out", str(self._folder / "suites"), "--quiet"])
        return next((self._folder / "suites").glob("**/table.csv"))

    def _killed(self, flags: Sequence[str], out: Path) -> Path:
        """Start a run, kill it after its second round, and return its unfinished folder."""
        process = subprocess.Popen(
            self._command("fedrobust.simulate", flags),
            env=self._environment(),
            cwd=self._folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            begun = next(out.glob("*.partial/checkpoint.safetensors"), None)
            if begun is not None and len((begun.parent / "rounds.jsonl").read_text().splitlines()) >= 2:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return begun.parent
            time.sleep(0.005)
        raise SystemExit(f"the run in {out} ended before it could be killed")

    def _call(self, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(module, arguments),
            check=False,
            env=self._environment(),
            cwd=self._folder,
            capture_output=True,
            text=True,
        )

    @staticmethod
    def _command(module: str, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def _environment(self) -> dict[str, str]:
        # The clone's packages come before those of an editable install.
        return {**os.environ, "PYTHONPATH": str(self._clone)}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _finished(out: Path) -> Path | None:
    """Return the finished run in a folder, or None."""
    return next(
        (file.parent for file in out.glob("*/summary.json") if file.parent.suffix != ".partial"), None
    )


def _of_runs(before: Path, after: Path) -> list[str]:
    """Return what differs between two run folders."""
    found = []
    # The tensors alone: the file's description may say more after a commit than before.
    models = [load_file(folder / "model.safetensors") for folder in (before, after)]
    if {name: t.tobytes() for name, t in models[0].items()} != {
        name: t.tobytes() for name, t in models[1].items()
    }:
        found.append("model.safetensors differs")
    for name in ("rounds.jsonl", "verdicts.jsonl"):
        lines = [_lines(folder / name) for folder in (before, after)]
        if len(lines[0]) != len(lines[1]):
            found.append(f"{name}: {len(lines[0])} lines before, {len(lines[1])} after")
        for number, (old, new) in enumerate(zip(*lines, strict=False), start=1):
            found += [f"{name}, line {number}, {place}" for place in _of_values(old, new)]
    return found


def _lines(file: Path) -> list[object]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _of_values(old: object, new: object, place: str = "") -> Iterator[str]:
    """Yield each place at which two JSON values differ, keys under their later names."""
    if isinstance(old, dict) and isinstance(new, dict):
        earlier, later = ({RENAMED.get(str(k), str(k)): v for k, v in side.items()} for side in (old, new))
        for key in sorted((earlier.keys() | later.keys()) - WORDS):
            if key not in earlier or key not in later:
                yield f"{place}{key}: only {'before' if key in earlier else 'after'}"
            else:
                yield from _of_values(earlier[key], later[key], f"{place}{key}.")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _of_values(one, other, f"{place}{position}.")
    elif repr(old) != repr(new):
        yield f"{place.rstrip('.')}: {old!r} before, {new!r} after"


def _of_tables(before: Path, after: Path) -> list[str]:
    """Return the numeric columns that only the earlier table has; names may change and columns be added."""
    later = set(_columns(after).values())
    return [
        f"table.csv: no column after holds what '{name}' held before"
        for name, column in _columns(before).items()
        if column not in later and all(map(_is_number, column))
    ]


def _columns(file: Path) -> dict[str, tuple[str, ...]]:
    with file.open(newline="") as stream:
        names, *rows = csv.reader(stream)
    return {name: column for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _print(name: str, found: Sequence[str]) -> None:
    if not found:
        print(f"same     {name}", flush=True)
        return
    print(
        f"{'expected' if name in EXCEPTIONS else 'DIFFERS '} {name}: {EXCEPTIONS.get(name, '')}", flush=True
    )
    for line in found[:8]:
        print(f"         {line}")
    if len(found) > 8:
        print(f"         and {len(found) - 8} more")


if __name__ == "__main__":
    sys.exit(main())

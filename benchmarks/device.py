"""What a CUDA device gains: local training and complete federations, on the device and on the processor.

    python benchmarks/device.py --data-root DATA
    python benchmarks/device.py --device cuda:1 --cores 4

Training is one hospital's epoch on random images: on one thread of the processor, as in a worker; on the
device with its usual settings; and on the device with faster settings that are not deterministic (TF32 in
convolutions, algorithms with atomic additions). The federations are commands of their own with ten hospitals
and the default defence. Their times are read from ``timings.jsonl``: seconds of a round by phase, the median
without the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fedrobust.data.records import Records
from fedrobust.learners import devices
from fedrobust.learners.mutual import MutualLearner
from fedrobust.learners.spec import LearnerSpec
from fedrobust.plugins import PluginSpec
from fedrobust.results.finished_run import read_run
from fedrobust.runtime.profiling import PHASES

#: Backbone, networks, side, images: the main job's hospital, a larger image, a common network.
TRAINED = (("cnn", 2, 28, 512), ("cnn", 2, 64, 512), ("resnet18", 1, 64, 256), ("resnet50", 1, 64, 256))
#: Name, file under the data root, options.
FEDERATIONS = (
    ("main job, brain_mri4_28", "brain_mri4_28", ["--rounds", "5", "--malicious", "2"]),
    (
        "resnet18, chest_xray3_64",
        "chest_xray3_64",
        ["--rounds", "3", "--backbone", "resnet18", "--networks", "1"],
    ),
)


@contextlib.contextmanager
def nondeterministic() -> Iterator[None]:
    """Train with faster settings of a device that are not deterministic."""
    kept = devices.repeatable
    devices.repeatable = lambda device: contextlib.nullcontext()  # type: ignore[assignment,return-value]
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            yield
    finally:
        devices.repeatable = kept


def epoch(device: str, backbone: str, networks: int, side: int, n: int, repeat: int) -> float:
    """Return the median of the seconds that a hospital's epoch takes."""
    spec = LearnerSpec(device=device, backbone=PluginSpec.parse(backbone), networks=networks, local_epochs=1)
    learner = MutualLearner(spec, 4, 1, (side, side))
    rng = np.random.default_rng(0)
    records = Records(
        rng.integers(0, 256, (n, 1, side, side), dtype=np.uint8),
        np.arange(n) % 4,
        ("a", "b", "c", "d"),
        source="random",
    )
    laps = []
    for round_ in range(repeat + 1):
        began = time.perf_counter()
        learner.fit(learner.initial(), records, round=round_, client=0, lr=1e-3)
        laps.append(time.perf_counter() - began)
    return statistics.median(laps[1:])


def federation(data_root: str, data: str, options: list[str], device: str, workers: int) -> dict[str, float]:
    """Return the median seconds of a round by phase, without the first round, and those of the command."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "fedrobust.simulate",
            "--quiet",
            "--data",
            f"medmnist:{data}",
            *options,
        ]
        command += ["--data-root", data_root, "--out", out, "--device", device, "--workers", str(workers)]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        command_s = time.perf_counter() - began
        (folder,) = Path(out).iterdir()
        laps = [line.seconds for line in read_run(folder).timings]
    rounds = laps[2:]
    seen = {phase: statistics.median(lap.get(phase, 0.0) for lap in rounds) for phase in PHASES}
    return {"command": command_s, **seen}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--data-root", help="folder with the .npz files; without it no federation is run")
    parser.add_argument(
        "--cores", type=int, default=len(os.sched_getaffinity(0)), help="worker processes on the processor"
    )
    parser.add_argument("--shared-by", type=int, default=4, help="worker processes that share the device")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: nothing to compare")
    print(
        torch.cuda.get_device_name(asked.device),
        f"torch {torch.__version__}, {asked.cores} cores",
        flush=True,
    )
    for backbone, networks, side, n in TRAINED:
        torch.set_num_threads(1)
        here = epoch("cpu", backbone, networks, side, n, 2)
        there = epoch(asked.device, backbone, networks, side, n, 5)
        with nondeterministic():
            quick = epoch(asked.device, backbone, networks, side, n, 5)
        print(
            f"{networks} x {backbone}, {side} x {side}: {1e3 * here / n:.2f} ms an image on one core, "
            f"{1e3 * there / n:.3f} on the device ({here / there:.1f} x), "
            f"{1e3 * quick / n:.3f} without determinism",
            flush=True,
        )
    for name, data, options in FEDERATIONS if asked.data_root else ():
        for device, workers in (("cpu", asked.cores), (asked.device, 1), (asked.device, asked.shared_by)):
            seen = federation(asked.data_root, data, options, device, workers)
            words = ", ".join(f"{phase} {value:.2f}" for phase, value in seen.items() if value >= 0.005)
            print(f"{name}, {device}, {workers} processes: {words}", flush=True)


if __name__ == "__main__":
    main()

"""How fast files are decoded into the cache, how fast a second start is, and what memory training takes.

``python benchmarks/ingest.py [--images N] [--json]`` writes N PNG files of 512 px to a temporary folder. The
last line of its output has three numbers:

``fraction_of_pillow``
    The rate at which a new source is loaded, checks and hashes included, as a share of the rate at which
    Pillow alone decodes the same files in one process for each core.
``second_start_s``
    Seconds in which a fresh process has the same records again.
``memory_growth``
    By how much the anonymous and shared memory of a training process grows from a tenth of the images to all,
    as a share. Pages of mapped files, which the system drops when it needs room, do not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

#: Different images; each file is one of them with a few bytes of its own behind its end.
_DISTINCT = 100

_SIDE = 512

_LOAD = """
import sys, time
from fedrobust.data.sources import load_records
from fedrobust.data.spec import DataSpec
from fedrobust.plugins import PluginSpec
start = time.perf_counter()
records = load_records(DataSpec(PluginSpec.parse("folder:" + sys.argv[1]), image_size=64))
print(len(records), time.perf_counter() - start)
"""

_TRAIN = """
import sys, threading, time
from fedrobust import Settings, run
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.02):
        lines = dict(line.split(":") for line in open("/proc/self/status"))
        now = sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem"))
        peak = max(peak, now)
watching = threading.Thread(target=watch)
watching.start()
run(Settings(data="folder:" + sys.argv[1], image_size=64, clients=4, rounds=1, local_epochs=1, networks=1,
             strategy="fedavg", workers=1, out=sys.argv[2]), report=False)
done.set()
watching.join()
print(peak / 1024)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="print the numbers alone, as JSON")
    parser.add_argument("--tmp", default=None, help="where to make the temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.tmp) as name:
        top = Path(name)
        os.environ["FEDROBUST_CACHE"] = str(top / "cache")
        files = _written(top / "all", given.images)
        few = _written(top / "few", given.images // 10)
        read = _seconds_of_pillow(files)
        first, second = _seconds_of_load(top / "all"), _seconds_of_load(top / "all")
        memory = [_memory(top / "few", top / "runs"), _memory(top / "all", top / "runs")]
        found = {
            "fraction_of_pillow": round(read / first, 3),
            "second_start_s": round(second, 3),
            "memory_growth": round(memory[1] / memory[0] - 1, 3),
        }
        if not given.json:
            print(f"{len(files)} PNG files; Pillow alone {read:.1f} s, into the cache {first:.1f} s")
            print(f"memory of training: {memory[0]:.0f} MiB on {len(few)} images, {memory[1]:.0f} MiB on all")
        print(json.dumps(found))


def _written(folder: Path, count: int) -> list[Path]:
    """Write so many PNG files of two classes, with the structure and the noise of a radiograph."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    contents = []
    for number in range(_DISTINCT):
        smooth = 120 + 60 * np.sin(6 * x + number) * np.cos(5 * y) + 40 * (number % 2) * (x > 0.5)
        image = np.clip(smooth + draw.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        path = folder.with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, compress_level=4)
        contents.append(path.read_bytes())
        path.unlink()
    files = []
    for number in range(count):
        path = folder / f"class {number % 2}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number % _DISTINCT] + number.to_bytes(4, "big"))
        files.append(path)
    return files


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _seconds_of_pillow(files: list[Path]) -> float:
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        pool.map(_decode, files[:64])  # the processes have imported what they need
        start = time.perf_counter()
        pool.map(_decode, files, chunksize=32)
        return time.perf_counter() - start


def _python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.split()[-1]


def _seconds_of_load(folder: Path) -> float:
    return float(_python(_LOAD, folder))


def _memory(folder: Path, out: Path) -> float:
    """Return the most memory, in MiB, of a process that trains on a folder's images."""
    return float(_python(_TRAIN, folder, out))


if __name__ == "__main__":
    main()

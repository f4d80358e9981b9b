"""What a round's aggregation costs, beside ByzFL and beside the plain mean in place.

Ten updates of 11 and of 47 million parameters. The floor ('mean') adds the updates in place, one thread,
float32. ByzFL gets its input as one torch tensor, made before the clock starts, which is its fastest form;
both may use the same cores. Each time is the best of the repeats, taken in turns; extra memory is the peak of
what a rule allocates, its result among it, as a share of the updates. The figures in the last line, with
``--json``, are the worse of the two sizes.

    python benchmarks/aggregation.py --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from fedrobust.federation import ClientMetrics, PreAggregation, Update, Updates
from fedrobust.learners.backbones import torchvision_models
from fedrobust.pipeline.specs import find_part
from fedrobust.plugins import PluginSpec, instantiate

N = 10
#: Rules whose memory is measured beside those that are timed.
OTHERS = ("krum", "bulyan", "norm-clipping(noise=0.001)", "dnc", "signguard", "foolsgold", "flame", "rlr")
OTHERS += ("fldetector", "dos", "bucketing", "clipping", "arc")


def make(d: int) -> tuple[Updates, Any]:
    """Return ten updates, and their differences from the global model as one torch tensor."""
    import torch

    draw = np.random.default_rng(0)
    base = draw.standard_normal(d, np.float32)
    deltas = torch.empty(N, d)
    updates = []
    for node in range(N):
        delta = deltas[node].numpy()
        draw.standard_normal(out=delta, dtype=np.float32)
        delta *= 0.01
        updates.append(Update(node, base + delta, ClientMetrics(100), base))
    return Updates(updates), deltas


def rule(spec: str) -> Any:
    """Return a fresh rule of the catalogue."""
    part = PluginSpec.parse(spec)
    return instantiate(find_part(part), part.options, part.name)


def apply(spec: str, updates: Updates) -> np.ndarray[Any, Any]:
    """Aggregate by a rule; after a step, every mixed block is made and averaged."""
    made = rule(spec)
    if isinstance(made, PreAggregation):
        return made.transform(updates).by_coordinate(lambda block: block.mean(axis=0))
    return np.asarray(made.combine(updates)[0])


def mean_in_place(updates: Updates, out: np.ndarray[Any, Any]) -> None:
    """Average in place: the least that any rule must read."""
    np.copyto(out, updates[0].parameters)
    for update in updates[1:]:
        out += update.parameters
    out *= np.float32(1 / len(updates))


def pairs(deltas: Any) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return name -> our rule and ByzFL's."""
    # ByzFL imports torchvision, which a CPU-only torch may need help with.
    torchvision_models()
    import byzfl

    length = float(deltas[0].norm())
    return {
        "median": ("median", lambda: byzfl.Median()(deltas)),
        "trimmed-mean": ("trimmed-mean(f=2)", lambda: byzfl.TrMean(f=2)(deltas)),
        "multi-krum": ("multi-krum(f=2)", lambda: byzfl.MultiKrum(f=2)(deltas)),
        "nnm": ("nnm(f=2)", lambda: byzfl.Average()(byzfl.NNM(f=2)(deltas))),
        "centered-clipping": (
            f"centered-clipping(tau={length})",
            lambda: byzfl.CenteredClipping(L=1, tau=length)(deltas),
        ),
        "geometric-median": ("geometric-median", lambda: byzfl.GeometricMedian(nu=1e-6, T=3)(deltas)),
    }


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def extra_memory(spec: str, deltas_of: Updates) -> float:
    """Return the peak of what a rule allocates, as a share of the updates."""
    fresh = Updates(list(deltas_of), deltas_of.seed)
    tracemalloc.start()
    apply(spec, fresh)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (len(fresh) * fresh.dimension * 4)


def measure(d: int, repeats: int) -> dict[str, Any]:
    """Return the figures for one size."""
    updates, deltas = make(d)
    out = np.empty(d, np.float32)
    found: dict[str, Any] = {}
    memory = {}
    for name, (spec, theirs) in pairs(deltas).items():
        ours, other, floor = [], [], []
        for _ in range(repeats):
            # A new `Updates` each time: inner products are kept within one.
            ours.append(timed(lambda spec=spec: apply(spec, Updates(list(updates)))))  # type: ignore[misc]
            floor.append(timed(lambda: mean_in_place(updates, out)))
            other.append(timed(theirs))
        memory[name] = extra_memory(spec, updates)
        found[name] = {
            "seconds": min(ours),
            "byzfl": min(other),
            "mean": min(floor),
            "vs_byzfl": min(other) / min(ours),
            "vs_mean": min(ours) / min(floor),
        }
        print(
            f"{d:>9,} {name:<18} {min(ours):6.2f} s   byzfl {min(other):6.2f} s ({found[name]['vs_byzfl']:5.1f} x)"
            f"   mean {min(floor):5.3f} s ({found[name]['vs_mean']:4.1f} x)   memory {memory[name]:.2f}",
            file=sys.stderr,
            flush=True,
        )
    for spec in OTHERS:
        memory[spec] = extra_memory(spec, updates)
        seconds = timed(lambda spec=spec: apply(spec, Updates(list(updates))))  # type: ignore[misc]
        print(f"{d:>9,} {spec:<27} {seconds:6.2f} s   memory {memory[spec]:.2f}", file=sys.stderr, flush=True)
    return {**found, "memory": memory}


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--sizes", type=int, nargs="+", default=[11_000_000, 47_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sizes = {d: measure(d, arguments.repeats) for d in arguments.sizes}
    names = [name for name in next(iter(sizes.values())) if name != "memory"]
    line: dict[str, Any] = {
        name: {
            "vs_byzfl": round(min(found[name]["vs_byzfl"] for found in sizes.values()), 2),
            "vs_mean": round(max(found[name]["vs_mean"] for found in sizes.values()), 2),
        }
        for name in names
    }
    line["extra_memory"] = round(max(max(found["memory"].values()) for found in sizes.values()), 3)
    if arguments.json:
        print(json.dumps(line))


if __name__ == "__main__":
    main()

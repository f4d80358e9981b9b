"""Cost of one round's aggregation, compared with ByzFL and with the plain mean in place.

Ten updates of 11 and of 47 million parameters. The lower bound ('mean') adds the updates in place, on one
thread, in float32. ByzFL gets its input as one torch tensor, made before the clock starts, which is its
fastest form; both may use the same cores. Each time is the best of the repeats, which alternate; extra memory
is the peak of what a rule allocates, including its result, as a share of the updates. The metrics in the last
line, with ``--json``, are the worse of the two sizes.

    python benchmarks/aggregation.py --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrobust.federation import ClientMetrics, Defence, PreAggregation, Update, Updates
from fedrobust.learners.backbones import torchvision_models
from fedrobust.pipeline.specs import find_part
from fedrobust.plugins import PluginSpec, instantiate

N = 10
#: Rules that ByzFL lacks or defines otherwise; measured without a peer.
OTHERS = (
    *("krum", "bulyan", "norm-clipping(noise=0.001)", "dnc", "signguard", "foolsgold", "flame", "rlr"),
    *("fldetector", "dos", "bucketing", "clipping", "arc"),
)


@dataclass(frozen=True)
class Times:
    """Seconds of one rule, of ByzFL's and of the mean in place."""

    ours: float
    byzfl: float
    mean: float

    @property
    def vs_byzfl(self) -> float:
        """Return how many times as fast as ByzFL we are."""
        return self.byzfl / self.ours

    @property
    def vs_mean(self) -> float:
        """Return how many times as long as the mean in place we take."""
        return self.ours / self.mean


@dataclass(frozen=True)
class Costs:
    """What was measured for one size: times by name, and extra memory by specification."""

    times: Mapping[str, Times]
    memory: Mapping[str, float]


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


def rule(spec: str) -> Defence | PreAggregation:
    """Return a new instance of a built-in rule or step."""
    part = PluginSpec.parse(spec)
    made = instantiate(find_part(part), part.options, part.name)
    assert isinstance(made, Defence | PreAggregation)
    return made


def apply(spec: str, updates: Updates) -> np.ndarray[Any, Any]:
    """Aggregate by a rule; after a step, compute and average every mixed block."""
    made = rule(spec)
    if isinstance(made, PreAggregation):
        return made.transform(updates).by_coordinate(lambda block: block.mean(axis=0))
    return np.asarray(made.combine(updates)[0])


def mean_in_place(updates: Updates, out: np.ndarray[Any, Any]) -> None:
    """Average in place: any rule must read as much."""
    np.copyto(out, updates[0].parameters)
    for update in updates[1:]:
        out += update.parameters
    out *= np.float32(1 / len(updates))


def pairs(deltas: Any) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return our rule and ByzFL's by name."""
    # ByzFL imports torchvision, which may fail beside a CPU-only torch unless it is imported this way first.
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
    """Return the seconds that one call takes."""
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


def measure(d: int, repeats: int) -> Costs:
    """Measure all rules for one size."""
    updates, deltas = make(d)
    out = np.empty(d, np.float32)
    times, memory = {}, {}
    for name, (spec, theirs) in pairs(deltas).items():
        ours, other, lowest = [], [], []
        for _ in range(repeats):
            # A new `Updates` each time, as it caches inner products.
            ours.append(timed(lambda spec=spec: apply(spec, Updates(list(updates)))))  # type: ignore[misc]
            lowest.append(timed(lambda: mean_in_place(updates, out)))
            other.append(timed(theirs))
        memory[name] = extra_memory(spec, updates)
        found = times[name] = Times(min(ours), min(other), min(lowest))
        print(
            f"{d:>9,} {name:<18} {found.ours:6.2f} s   byzfl {found.byzfl:6.2f} s ({found.vs_byzfl:5.1f} x)"
            f"   mean {found.mean:5.3f} s ({found.vs_mean:4.1f} x)   memory {memory[name]:.2f}",
            file=sys.stderr,
            flush=True,
        )
    for spec in OTHERS:
        memory[spec] = extra_memory(spec, updates)
        seconds = timed(lambda spec=spec: apply(spec, Updates(list(updates))))  # type: ignore[misc]
        print(f"{d:>9,} {spec:<27} {seconds:6.2f} s   memory {memory[spec]:.2f}", file=sys.stderr, flush=True)
    return Costs(times, memory)


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--sizes", type=int, nargs="+", default=[11_000_000, 47_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sizes = [measure(d, arguments.repeats) for d in arguments.sizes]
    line = {
        name: {
            "vs_byzfl": round(min(costs.times[name].vs_byzfl for costs in sizes), 2),
            "vs_mean": round(max(costs.times[name].vs_mean for costs in sizes), 2),
        }
        for name in sizes[0].times
    }
    extra = round(max(max(costs.memory.values()) for costs in sizes), 3)
    if arguments.json:
        print(json.dumps({**line, "extra_memory": extra}))


if __name__ == "__main__":
    main()

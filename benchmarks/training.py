"""Candidates for a faster training step of a hospital, each compared with the plain step on one thread.

    python benchmarks/training.py
    python benchmarks/training.py --profile     where the plain step's time goes, by operator
    python benchmarks/training.py --memory      the main job's training with and without keeping freed memory

A step is forward, cross-entropy and backward of a batch of 32. Results are milliseconds of processor time,
the median of rounds in which the variants alternate.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from fedrobust.learners.backbones import build_backbone
from fedrobust.scenario import Scenario

BATCH = 32
Step = Callable[[], object]


def network(spec: str, channels: int, size: int) -> nn.Module:
    """Return the same network for every variant."""
    torch.manual_seed(0)
    return build_backbone(spec, channels, 64, (size, size)).train()


def step(
    net: Callable[[Tensor], Tensor], own: nn.Module, images: Tensor, labels: Tensor, *, bf16: bool = False
) -> None:
    """Run forward and backward."""
    for parameter in own.parameters():
        parameter.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = nn.functional.cross_entropy(net(images).float(), labels)
    loss.backward()  # type: ignore[no-untyped-call]


def variants(spec: str, channels: int, size: int, *, compiled: bool) -> dict[str, Step]:
    """Return the variants of a step by name."""
    images, labels = torch.randn(BATCH, channels, size, size), torch.randint(0, 4, (BATCH,))
    plain = network(spec, channels, size)
    last = network(spec, channels, size)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reordered = images.contiguous(memory_format=torch.channels_last)
    found: dict[str, Step] = {
        "plain": lambda: step(plain, plain, images, labels),
        "channels_last": lambda: step(last, last, reordered, labels),
        "bf16": lambda: step(plain, plain, images, labels, bf16=True),
        "channels_last + bf16": lambda: step(last, last, reordered, labels, bf16=True),
    }
    if compiled:
        subject = network(spec, channels, size)
        fast = torch.compile(subject)
        began = time.perf_counter()
        step(fast, subject, images, labels)
        seconds = time.perf_counter() - began
        print(f"{spec}, {size} x {size}: torch.compile takes {seconds:.0f} s before its first step")
        found["torch.compile"] = lambda: step(fast, subject, images, labels)
    return found


def pair(size: int) -> dict[str, Step]:
    """Return two steps: two networks one after the other, and both in one batched call."""
    networks = [network("cnn", 1, size) for _ in range(2)]
    images, labels = torch.randn(BATCH, 1, size, size), torch.randint(0, 4, (BATCH,))
    parameters, _ = stack_module_state(networks)

    def loss(values: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(functional_call(networks[0], values, (images,)), labels)

    def one_by_one() -> None:
        for net in networks:
            step(net, net, images, labels)

    both = vmap(grad(loss))
    return {
        "one after the other": one_by_one,
        "vmap over both": lambda: both(parameters),
    }


def compare(steps: dict[str, Step], repeat: int) -> dict[str, float]:
    """Return each variant's milliseconds; variants alternate, as the machine's speed varies."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(9):
        for name, one in steps.items():
            began = time.process_time()
            for _ in range(repeat):
                one()
            seconds[name].append((time.process_time() - began) / repeat)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def show(title: str, found: dict[str, float]) -> None:
    """Print a row."""
    print(f"{title}: " + ", ".join(f"{name} {value:.2f} ms" for name, value in found.items()), flush=True)


def training_seconds(keep: bool) -> float:
    """Return the seconds in which this process trains the main job's ten hospitals for one round."""
    from fedrobust import Settings
    from fedrobust.data.sources import prepare
    from fedrobust.engines.launch import keep_freed_memory
    from fedrobust.learners.factory import build_learner

    if keep:
        keep_freed_memory()
    settings = Settings()
    scenario = Scenario.of(settings)
    learner, data = build_learner(scenario.learner, scenario.data), prepare(scenario.data)
    seconds = []
    for round_ in range(4):
        began = time.perf_counter()
        for number in range(settings.clients):
            learner.fit(
                learner.initial(), data.of_hospital(number), round=round_, client=number, lr=settings.lr
            )
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def memory() -> None:
    """Train in new processes, alternately with and without keeping freed memory."""
    found: dict[str, list[float]] = {"released": [], "kept": []}
    for _ in range(3):
        for name, seconds in found.items():
            call = [sys.executable, __file__, "--trained", name]
            seconds.append(float(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
    for name, seconds in found.items():
        print(f"freed memory, {name}: " + ", ".join(f"{value:.2f} s" for value in seconds))


def main() -> None:
    """Compare the variants, or profile the plain step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--trained", help=argparse.SUPPRESS)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    arguments = parser.parse_args()
    if arguments.trained:
        print(training_seconds(arguments.trained == "kept"))
        return
    if arguments.memory:
        memory()
        return
    if arguments.profile:
        plain = variants("cnn", 1, 28, compiled=False)["plain"]
        plain()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(30):
                plain()
        print(
            profile.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=36
            )
        )
        return
    for spec, channels, size, repeat in (
        ("cnn", 1, 28, 60),
        ("cnn", 3, 64, 20),
        ("cnn", 1, 128, 8),
        ("resnet18", 1, 28, 3),
    ):
        steps = variants(spec, channels, size, compiled=(spec, size) == ("cnn", 28))
        show(f"{spec}, {size} x {size}", compare(steps, repeat))
    show("two cnn, 28 x 28", compare(pair(28), 30))


if __name__ == "__main__":
    main()

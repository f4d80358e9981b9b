"""Cost of the federation alone: ten hospitals return the 47 million parameters that they received.

    python benchmarks/engine_big.py ours fedavg
    python benchmarks/engine_big.py stock fedavg
    python benchmarks/engine_big.py memory fedavg

'ours' is the seconds of a round on the local engine, 'stock' those of the same ClientApp on Flower's
simulation runtime with Flower's own rule, 'memory' the peak memory of the local engine's processes over the
updates' size. The last line is the result. `engine.py` runs all three.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedMedian, Krum, Strategy

from fedrobust.engines.launch import warm_up
from fedrobust.engines.pool import PoolGrid
from fedrobust.engines.shared_folder import SharedFolder
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import pack
from fedrobust.flower.hosted_strategy import build_strategy
from fedrobust.learners.base import State
from fedrobust.settings import Settings

HOSPITALS = 10
PARAMETERS = 47_000_000
WORKERS = 2


def only_returns() -> ClientApp:
    """Return a ClientApp that sends back what it received."""
    app = ClientApp()

    @app.query()
    def who(message: Message, context: Context) -> Message:
        return Message(RecordDict({"hospital": identity(context)}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        content: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
            "arrays": next(r for r in message.content.values() if isinstance(r, ArrayRecord)),
            "metrics": MetricRecord({"num-examples": 100, "loss": 1.0}),
            "hospital": identity(context),
        }
        return Message(RecordDict(content), reply_to=message)

    return app


def identity(context: Context) -> ConfigRecord:
    """Return the record that says which hospital a node is."""
    return ConfigRecord({"partition-id": int(context.node_config["partition-id"])})


def rounds(grid: Grid, strategy: Strategy, count: int) -> list[float]:
    """Run some rounds and return the seconds of each."""
    values = np.random.default_rng(0).standard_normal(PARAMETERS, np.float32)
    arrays = pack(State(values, np.zeros(0, np.float32)))
    if isinstance(grid, ClientGrid):
        grid.set_expected_shapes(arrays)
    seconds = []
    for number in range(1, count + 1):
        began = time.perf_counter()
        messages = list(strategy.configure_train(number, arrays, ConfigRecord({"lr": 0.1}), grid))
        replies = list(grid.send_and_receive(messages))
        fresh, _ = strategy.aggregate_train(number, replies)
        del messages, replies
        assert fresh is not None
        arrays = fresh
        seconds.append(time.perf_counter() - began)
    return seconds


def ours(rule: str, count: int) -> float:
    """Return the seconds of a later round on the local engine."""
    warm_up(Settings(clients=HOSPITALS, workers=WORKERS).execution())
    from benchmarks import engine_big  # by name, as workers do not import the main module

    app = engine_big.only_returns
    pool = PoolGrid(app(), app, HOSPITALS, WORKERS, SharedFolder(4 * PARAMETERS * (HOSPITALS + 1)))
    try:
        client_grid = ClientGrid(pool, HOSPITALS)
        client_grid.discover()
        strategy = build_strategy(rule if rule != "krum" else "krum(f=2)", HOSPITALS)
        return statistics.median(rounds(client_grid, strategy, count)[1:])
    finally:
        pool.close()


def stock(rule: str, count: int) -> float:
    """Return the seconds of a later round on Flower's runtime with Flower's own rule."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    rules: dict[str, Callable[[], Strategy]] = {
        "fedavg": lambda: FedAvg(fraction_evaluate=0.0),
        "median": lambda: FedMedian(fraction_evaluate=0.0),
        "krum": lambda: Krum(num_malicious_nodes=2, fraction_evaluate=0.0),
    }
    found: list[float] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < HOSPITALS:
            time.sleep(0.1)
        found.extend(rounds(grid, rules[rule](), count))

    run_simulation(
        server_app=server,
        client_app=only_returns(),
        num_supernodes=HOSPITALS,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": WORKERS, "log_to_driver": False, "include_dashboard": False},
        },
    )
    return statistics.median(found[1:])


def memory(rule: str, count: int) -> float:
    """Return the peak memory of all processes of the local engine over the size of a round's updates."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, tree_bytes(os.getpid()))
            time.sleep(0.05)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        ours(rule, count)
    finally:
        done.set()
        sampler.join()
    return peak / (4 * PARAMETERS * HOSPITALS)


def tree_bytes(root: int, kinds: tuple[str, ...] = ("Pss",)) -> int:
    """Return the proportional set size of a process and its descendants; shared pages count once.

    ``Pss_Anon`` and ``Pss_Shmem`` leave out mapped files, which other programs may share.
    """
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.split(":")[0] in kinds)
    return total


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ours", "stock", "memory"))
    parser.add_argument("rule", choices=("fedavg", "median", "krum"))
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    print({"ours": ours, "stock": stock, "memory": memory}[arguments.what](arguments.rule, arguments.rounds))


if __name__ == "__main__":
    main()

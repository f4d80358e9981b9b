"""Every strategy of the catalogue against every fault of a hospital, on a small model and without training.

One hospital of seven is at fault in every round. What the others alone give is measured with the same
hospital silent: a reply that is refused must leave exactly that, to the bit. One that is taken, as it is just
below a bound, may move the model by a stated factor of what the others moved it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flowers
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from benchmarks.reliability.faulty_replies import BUFFERS, CLASSES, FAULTS, PARAMETERS, Content, Fault
from fedrobust.battery.inputs import LAYOUT, ToyServer
from fedrobust.engines.local import LocalGrid
from fedrobust.federation import ClientMetrics, Defence, Layout, PreAggregation, Update, Vector
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.compat import set_message_id
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.flower.round_checks import ABSURD
from fedrobust.plugins import available, find
from fedrobust.runtime.exchange import Exchange, Exchanged

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FEW", "few_replies", "problems", "strategies"]

HOSPITALS, FAULTY, ROUNDS = 7, 3, 2

#: Parameters of the toy model, a part of those that the hospitals train.
_OF_TOY = LAYOUT.parameters[-1].part.stop


#: The layers of the hospitals' model: the toy model, and a normalised one that it does not use.
_LAYOUT = Layout.of(
    {layer.name: layer.shape for layer in LAYOUT.parameters} | {"norm.weight": (PARAMETERS - _OF_TOY,)},
    {"norm.running_mean": (BUFFERS // 2,), "norm.running_var": (BUFFERS // 2,)},
)


class FewImages(ToyServer):
    """Images of the server's own whose loss grows with the distance from a model.

    What a rule asks besides losses and training is a toy model's, which the first parameters are.
    """

    def losses(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return the distance from the point that the honest move to, for each image."""
        places = np.arange(len(self.labels)) if images is None else images
        with np.errstate(over="ignore"):
            return np.full(len(places), float(((parameters.astype(np.float64) - 2.0) ** 2).mean()))

    def trained(self, parameters: Vector, buffers: Vector, round: int, epochs: int | None = None) -> Update:
        """Return a step towards that point."""
        fresh = (parameters + np.float32(0.1) * (2 - parameters)).astype(np.float32)
        report = ClientMetrics(len(self.labels), {})
        return Update(-1, fresh, report, parameters, buffers, round, buffers)

    def probabilities(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return the toy model's, shape (n, K)."""
        return super().probabilities(parameters[:_OF_TOY], buffers, images)

    def gradient(
        self, parameters: Vector, buffers: Vector, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> Vector:
        """Return the toy model's, and 0 for the other parameters."""
        found = super().gradient(parameters, buffers, images, labels)
        return np.concatenate([found, np.zeros(len(parameters) - _OF_TOY, np.float32)])

    def logits(self, parameters: Tensor, buffers: Vector, images: Tensor) -> Tensor:
        """Return the toy model's log-probabilities, shape (n, K)."""
        return super().logits(parameters[:_OF_TOY], buffers, images)


def start() -> ArrayRecord:
    """Return the initial model."""
    draw = np.random.default_rng(0)
    parameters = draw.standard_normal(PARAMETERS).astype(np.float32)
    return ArrayRecord({"parameters": Array(parameters), "buffers": Array(np.ones(BUFFERS, np.float32))})


def _honest(arrays: ArrayRecord, number: int, round: int) -> Content:
    """Return an honest reply: a step towards a common point, with some noise."""
    draw = np.random.default_rng([number, round])
    before, statistics = arrays["parameters"].numpy(), arrays["buffers"].numpy()
    step = 0.1 * (2 - before) + 0.02 * draw.standard_normal(PARAMETERS)
    moved = {
        "parameters": Array((before + step).astype(np.float32)),
        "buffers": Array((statistics + 0.01 * draw.standard_normal(BUFFERS)).astype(np.float32)),
    }
    values: dict[str, Any] = {
        name: 1 + 0.1 * draw.random() for name in ("loss", "last-loss", "received-loss")
    }
    values |= {
        name: (1 + 0.1 * draw.random(CLASSES)).tolist()
        for name in ("class-losses", "class-epoch-losses", "class-counts")
    }
    return RecordDict(
        {
            "arrays": ArrayRecord(moved),
            "metrics": MetricRecord({"num-examples": 20 + number, **values}),
            "hospital": ConfigRecord({"partition-id": number}),
        }
    )


class _Wire(LocalGrid):
    """Delivers what the hospital at fault makes of its reply."""

    def __init__(self, fault: Fault | None, heard: frozenset[int]) -> None:
        super().__init__(_app(fault), HOSPITALS)
        self._fault, self._heard, self._sent = fault, heard, 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Exchange messages; the silent ones send nothing."""
        asked = list(messages)
        for message in asked:
            self._sent += 1
            set_message_id(message, f"m{self._sent}")
        replies = []
        for reply in super().send_and_receive(asked, timeout=timeout):
            number = reply.metadata.src_node_id - 1
            if reply.metadata.message_type.startswith("query"):
                replies.append(reply)
            elif number in self._heard and (reply.has_error() or len(reply.content)):
                faulty = self._fault if number == FAULTY else None
                if faulty is not None and faulty.late:
                    reply.metadata.__dict__["_reply_to_message_id"] = "of an earlier round"
                replies += [reply, reply] if faulty is not None and faulty.twice else [reply]
        return replies


def _app(fault: Fault | None) -> ClientApp:
    app = ClientApp()

    @app.query()
    def identify(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        return Message(RecordDict({"hospital": ConfigRecord({"partition-id": number})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        arrays = next(record for record in message.content.values() if isinstance(record, ArrayRecord))
        config = next(record for record in message.content.values() if isinstance(record, ConfigRecord))
        content = _honest(arrays, number, int(str(config["server-round"])))
        if number == FAULTY and fault is not None:
            content = fault.change(content)
        return Message(RecordDict() if content is None else content, reply_to=message)

    return app


#: How many hospitals are heard, where it is few.
FEW = (1, 0)

_METRICS = frozenset(
    {("num-examples", None), ("loss", None), ("last-loss", None), ("received-loss", None)}
    | {(name, CLASSES) for name in ("class-losses", "class-epoch-losses", "class-counts")}
)

_FLOWERS = (
    "FedAvg", "FedAvgM(server_momentum=0.5)", "FedAdagrad", "FedAdam", "FedYogi", "FedMedian", "FedProx",
    "FedTrimmedAvg", "Krum(num_malicious_nodes=1)", "MultiKrum(num_malicious_nodes=1)",
    "Bulyan(num_malicious_nodes=1)", "QFedAvg(client_learning_rate=0.1)",
)  # fmt: skip


@cache
def strategies() -> dict[str, Callable[[], Strategy]]:
    """Return how to make each strategy of the catalogue, and Flower's own, by its specification."""
    made: dict[str, Callable[[], Strategy]] = {}
    for name in available("strategies", (Defence, PreAggregation)):
        kind = find(name, "strategies", (Defence, PreAggregation), "strategy")
        spec = f"{name} | median" if issubclass(kind, PreAggregation) else name
        made[spec] = _maker(spec if name != "oracle" else "oracle(malicious=[1])")
    for spec in ("nnm | trimmed-mean", "clipping | bucketing | krum", "arc | geometric-median"):
        made[spec] = _maker(spec)
    for spec in _FLOWERS:
        path = f"flwr.serverapp.strategy:{spec}"
        made[spec] = _maker(path if "(" in path else f"{path}()")
    for wrapper in (
        flowers.DifferentialPrivacyServerSideFixedClipping,
        flowers.DifferentialPrivacyClientSideFixedClipping,
    ):
        made[wrapper.__name__] = partial(_private, wrapper)
    return made


def _private(wrapper: Callable[..., Strategy]) -> Strategy:
    return wrapper(flowers.FedAvg(fraction_evaluate=0.0), 0.1, 10.0, HOSPITALS)


def _maker(spec: str) -> Callable[[], Strategy]:
    def make() -> Strategy:
        made = build_strategy(spec, HOSPITALS)
        if isinstance(made, HostedStrategy):
            made.defence.server = FewImages()
            made.layout = _LAYOUT
        return made

    return make


def _run(spec: str, fault: Fault | None, heard: Sequence[int]) -> list[Exchanged]:
    """Return the rounds of one strategy."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    strategy = strategies()[spec]()
    grid = ClientGrid(_Wire(fault, frozenset(heard)), HOSPITALS)
    grid.discover()
    grid.set_expected_metrics(
        _METRICS,
        finite=not isinstance(strategy, HostedStrategy),
        raised=getattr(strategy, "train_loss_key", None),
    )
    exchange = Exchange(strategy, spec, grid)
    arrays, rounds = start(), []
    with warnings.catch_warnings():
        # That no hospital here reads what a strategy sends is so by design.
        warnings.simplefilter("ignore", UserWarning)
        for number in range(1, ROUNDS + 1):
            rounds.append(exchange.run(number, arrays, 0.1))
            arrays = rounds[-1].arrays
    return rounds


@cache
def _without_faulty(spec: str) -> list[Exchanged]:
    return _run(spec, None, [number for number in range(HOSPITALS) if number != FAULTY])


def _vector(arrays: ArrayRecord) -> NDArray[np.float64]:
    return np.concatenate([array.numpy().astype(np.float64).ravel() for array in arrays.values()])


def problems(spec: str, name: str) -> Iterator[str]:
    """Yield what is wrong when a hospital of a strategy's federation is at fault in each round."""
    fault = FAULTS[name]
    rounds, alone = _run(spec, fault, range(HOSPITALS)), _without_faulty(spec)
    begin = _vector(start())
    for number, (one, other) in enumerate(zip(rounds, alone, strict=True), 1):
        named = [failure for failure in one.failures if failure.client == FAULTY]
        if len(one.failures) > len(named):
            yield f"round {number} names an honest hospital: {one.failures}"
        if not fault.taken and not named:
            yield f"round {number} does not name the hospital"
        if any(len(failure.reason) > 2000 for failure in named):
            yield f"round {number} has a reason of {len(named[0].reason)} characters"
        if one.not_kept and not other.not_kept:
            yield f"round {number} is lost for all: {one.not_kept}"
        found, expected = _vector(one.arrays), _vector(other.arrays)
        if not np.isfinite(found).all():
            yield f"round {number} gives a model that is not finite"
        elif not fault.taken and not np.array_equal(found, expected):
            yield f"round {number} gives other bits than the honest alone"
        most = ABSURD * number * max(float(np.linalg.norm(expected - begin)), 1.0)
        if float(np.linalg.norm(found - expected)) > most:
            yield f"round {number} is further from the honest alone than {most:.3g}"


def few_replies(spec: str, heard: int) -> Iterator[str]:
    """Yield what is wrong when only so many hospitals reply."""
    for number, one in enumerate(_run(spec, None, range(heard)), 1):
        if not np.isfinite(_vector(one.arrays)).all():
            yield f"round {number} gives a model that is not finite"
        if len(one.failures) != HOSPITALS - heard:
            yield f"round {number} names {len(one.failures)} hospitals"
        if not heard and one.not_kept is None:
            yield f"round {number} does not say that its model is not kept"
        if one.not_kept and not np.array_equal(_vector(one.arrays), _vector(start())) and number == 1:
            yield f"round {number} does not keep the last model"

"""What a hospital can send in place of an honest reply, by name, as changes of an honest one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ConfigRecord
from numpy.typing import NDArray

from fedrobust.flower.round_checks import ABSURD

__all__ = ["BUFFERS", "CLASSES", "FAULTS", "PARAMETERS", "Content", "Fault"]

#: Parameters, running statistics and classes of the model that a reply holds.
PARAMETERS, BUFFERS, CLASSES = 60, 6, 3

#: A reply's content; what is put into it need not fit.
Content = Any
Change = Callable[[Content], Content]


@dataclass(frozen=True)
class Fault:
    """What the hospital at fault does.

    Attributes
    ----------
    change : callable
        Gets the content of an honest reply and returns what is sent, None for silence; or raises.
    taken : bool
        The reply may be used.
    twice, late : bool
        It is sent twice, or as the answer to an earlier message.
    """

    change: Change
    taken: bool = False
    twice: bool = False
    late: bool = False


class OutOfReach(BaseException):
    """Raised by a hospital; no `Exception`."""


def _numbers(name: str, values: Callable[[NDArray[np.float32]], Any]) -> Change:
    """Return a change of one array's numbers."""

    def change(content: Content) -> Content:
        content["arrays"][name] = Array(np.asarray(values(content["arrays"][name].numpy())))
        return content

    return change


def _metrics(**values: Any) -> Change:
    def change(content: Content) -> Content:
        for name, value in values.items():
            content["metrics"][name.replace("_", "-")] = value
        return content

    return change


def _without(record: str, name: str | None = None) -> Change:
    def change(content: Content) -> Content:
        if name is None:
            del content[record]
        else:
            del content[record][name]
        return content

    return change


def _with(**records: Any) -> Change:
    def change(content: Content) -> Content:
        content.update(records)
        return content

    return change


def _raising(error: BaseException) -> Change:
    def change(content: Content) -> Content:
        raise error

    return change


def _raw(shape: tuple[int, ...], data: bytes) -> Change:
    def change(content: Content) -> Content:
        content["arrays"]["parameters"] = Array("float32", shape, "numpy.ndarray", data)
        return content

    return change


def _long(factor: float, name: str = "parameters") -> Change:
    """Return a change to an update of this many times the honest length, which is some 1.2 for parameters."""
    size, honest = (PARAMETERS, 1.2) if name == "parameters" else (BUFFERS, 0.02)

    def values(sent: NDArray[np.float32]) -> NDArray[np.float32]:
        draw = np.random.default_rng(9).standard_normal(size)
        return (sent + factor * honest * draw / np.linalg.norm(draw)).astype(np.float32)

    return _numbers(name, values)


def _typed(dtype: Any, value: Any) -> Change:
    return _numbers("parameters", lambda sent: np.full(sent.shape, value).astype(dtype))


def _widened(dtype: Any) -> Change:
    return _numbers("parameters", lambda sent: sent.astype(dtype))


def _same(content: Content) -> Content:
    return content


def _silent(content: Content) -> None:
    return None


#: By name.
FAULTS: dict[str, Fault] = {
    "crash": Fault(_raising(RuntimeError("no disk"))),
    "SystemExit": Fault(_raising(SystemExit(3))),
    "KeyboardInterrupt": Fault(_raising(KeyboardInterrupt())),
    "BaseException": Fault(_raising(OutOfReach())),
    "MemoryError": Fault(_raising(MemoryError())),
    "RecursionError": Fault(_raising(RecursionError("too deep"))),
    "markup in the error": Fault(_raising(ValueError("[/red] \x1b[31m \r\n<b>=1+1"))),
    "an error of 5 MB": Fault(_raising(ValueError("x" * 5_000_000))),
    "silence": Fault(_silent),
    "twice": Fault(_same, taken=True, twice=True),
    "late": Fault(_same, late=True),
    "NaN": Fault(_numbers("parameters", lambda sent: sent * np.float32(np.nan))),
    "one NaN": Fault(_numbers("parameters", lambda sent: np.where(np.arange(len(sent)) == 5, np.nan, sent))),
    "infinite": Fault(_numbers("parameters", lambda sent: sent + np.float32(np.inf))),
    "minus infinite": Fault(_numbers("parameters", lambda sent: sent - np.float32(np.inf))),
    "NaN statistics": Fault(_numbers("buffers", lambda sent: sent * np.float32(np.nan))),
    "beyond float32": Fault(_numbers("parameters", lambda sent: np.full(sent.shape, 1e300))),
    "largest float32": Fault(_typed(np.float32, np.finfo(np.float32).max)),
    "length overflows float32": Fault(_typed(np.float32, 1e25)),
    "0.9 million models": Fault(_long(5e6)),
    "just above the bound": Fault(_long(1.5 * ABSURD)),
    "just below the bound": Fault(_long(0.5 * ABSURD), taken=True),
    "statistics above the bound": Fault(_long(1e6, "buffers")),
    "statistics below the bound": Fault(_long(0.5 * ABSURD, "buffers"), taken=True),
    "stands still": Fault(_numbers("parameters", lambda sent: np.zeros_like(sent)), taken=True),
    **{
        f"type {name}": Fault(_widened(name), taken=True)
        for name in ("float16", "float64", "longdouble", ">f4", "<f8")
    },
    **{
        f"full of {name}": Fault(_typed(name, np.iinfo(name).max))
        for name in ("int32", "uint32", "int64", "uint64")
    },
    "int64 full of 2**62": Fault(_typed(np.int64, 2**62)),
    "small int8": Fault(_typed(np.int8, 1), taken=True),
    "float16 infinity": Fault(_typed(np.float16, np.inf)),
    "long double beyond": Fault(_typed(np.longdouble, np.longdouble("1e4000"))),
    "truth values": Fault(_typed(bool, True)),
    "complex": Fault(_typed(complex, 1j)),
    "text": Fault(_typed("U4", "one")),
    "bytes": Fault(_typed("S4", b"one")),
    "dates": Fault(_typed("M8[s]", 1)),
    "wrong shape": Fault(_numbers("parameters", lambda sent: sent[:-1])),
    "another rank": Fault(_numbers("parameters", lambda sent: sent[None])),
    "a single number": Fault(_numbers("parameters", lambda sent: np.float32(1))),
    "empty": Fault(_numbers("parameters", lambda sent: sent[:0])),
    "missing array": Fault(_without("arrays", "buffers")),
    "extra array": Fault(lambda c: _numbers("parameters", lambda s: s)(_extra(c))),
    "no arrays": Fault(_without("arrays")),
    "two records of arrays": Fault(lambda c: _with(more=c["arrays"])(c)),
    "no metrics": Fault(_without("metrics")),
    "two records of metrics": Fault(lambda c: _with(more=c["metrics"])(c)),
    "unreadable": Fault(_raw((PARAMETERS,), b"rubbish")),
    "pickled": Fault(_raw((PARAMETERS,), b"\x93NUMPY\x01\x00\x06\x00{'descr': '|O'}")),
    "lying head": Fault(_raw((PARAMETERS,), Array(np.zeros(2, np.float32)).data)),
    "bytes without end": Fault(_raw((PARAMETERS,), bytes(1 << 22))),
    "no size": Fault(_without("metrics", "num-examples")),
    **{
        f"size {value}": Fault(_metrics(num_examples=value))
        for value in (0, -1, -(10**18), 10**18, 1e300, float("nan"), float("inf"))
    },
    "size list": Fault(_metrics(num_examples=[1, 2])),
    "size 1e11": Fault(_metrics(num_examples=10**11), taken=True),
    "loss NaN": Fault(_metrics(loss=float("nan")), taken=True),
    "all losses NaN": Fault(
        _metrics(loss=float("nan"), last_loss=float("nan"), received_loss=float("nan")), taken=True
    ),
    "loss infinite": Fault(_metrics(loss=float("inf")), taken=True),
    "loss 1e308": Fault(_metrics(loss=1e308, last_loss=1e308, received_loss=1e308), taken=True),
    "loss negative": Fault(_metrics(loss=-1e308), taken=True),
    "class losses NaN": Fault(
        _metrics(class_losses=[float("nan")] * CLASSES, class_counts=[-1e300] * CLASSES), taken=True
    ),
    "missing metric": Fault(_without("metrics", "loss")),
    "extra metric": Fault(_metrics(more=1.0)),
    "metric of another length": Fault(_metrics(loss=[1.0, 2.0])),
    "metrics a million long": Fault(_metrics(loss=[0.5] * 1_000_000)),
    "metric of 1,329 bits": Fault(_metrics(loss=10**400)),
    "another's number": Fault(_with(hospital=ConfigRecord({"partition-id": 0}))),
    "number as text": Fault(_with(hospital=ConfigRecord({"partition-id": "three"})), taken=True),
    "no number": Fault(_without("hospital"), taken=True),
}


def _extra(content: Content) -> Content:
    content["arrays"]["more"] = Array(np.zeros(3, np.float32))
    return content

"""Checkpoints: what an unfinished run needs to resume after its last completed round."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Repair
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.flower.kept_values import Writer
from fedrobust.flower.strategy_state import flower_state, load_flower_state
from fedrobust.pipeline.server_optimiser import ServerOptimiser
from fedrobust.plugins import reraise_as_user_error
from fedrobust.results.files import read_lines, read_tensors
from fedrobust.results.folder import CHECKPOINT, RunFolder
from fedrobust.results.records import ClientMetricsLine, Record, RoundLine, VerdictLine, WrittenLines
from fedrobust.results.state import state_from_json, state_to_json

__all__ = ["Checkpoint", "UnusableCheckpoint", "load_checkpoint", "save_checkpoint"]

Part = Defence | PreAggregation | ServerOptimiser | Repair
Line = TypeVar("Line", RoundLine, VerdictLine, ClientMetricsLine)

_MODEL, _STRATEGY, _STATE, _UNSTATED = "model/", "strategy", "state/", "unstated/"

#: Of a part that does not say what must survive a restart.
_NO_STATE = (Defence.state, PreAggregation.state, Repair.state)


class UnusableCheckpoint(UserError):
    """A checkpoint that is damaged, or that a strategy cannot go on from; the run has to begin again."""


class _Head(Record):
    """What a checkpoint states beside its arrays.

    Attributes
    ----------
    round : int
    lines : mapping
        A ``.jsonl`` file's name to what it held when the checkpoint was written.
    sha256 : str
        The arrays' checksum.
    """

    round: int
    lines: Mapping[str, WrittenLines]
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """The last completed round of an unfinished run.

    Attributes
    ----------
    arrays : ArrayRecord
        The global model after it.
    rounds, verdicts, client_metrics : list of records
        The lines of ``rounds.jsonl``, ``verdicts.jsonl`` and ``client_metrics.jsonl`` up to it.
    """

    arrays: ArrayRecord
    rounds: list[RoundLine]
    verdicts: list[VerdictLine]
    client_metrics: list[ClientMetricsLine]


def save_checkpoint(folder: RunFolder, number: int, arrays: ArrayRecord, strategy: Strategy) -> None:
    """Write the state after a round in one file, so that it never mixes two rounds."""
    tensors = {_MODEL + name: array.numpy() for name, array in arrays.items()}
    if isinstance(strategy, HostedStrategy):
        # Not beside the round's number: the file's head is bounded, and a rule may keep a vector as long as
        # the model.
        for place, part in enumerate(strategy.pipeline.parts):
            with reraise_as_user_error(f"{type(part).__name__}: state() fails"):
                text = state_to_json(part.state(), type(part).__name__)
            tensors[f"{_STATE}{place}"] = np.frombuffer(text.encode(), np.uint8)
            tensors[f"{_UNSTATED}{place}"] = np.frombuffer(json.dumps(_unstated(part)).encode(), np.uint8)
    else:
        state, unsaved = flower_state(strategy)
        # One that has something left out is not resumed.
        kept = {"state": {} if unsaved else state, "unsaved": unsaved}
        text = state_to_json(kept, type(strategy).__name__)
        tensors[_STRATEGY] = np.frombuffer(text.encode(), np.uint8)
    head = _Head(round=number, lines=folder.written_lines(), sha256=_digest(tensors))
    folder.write_tensors(CHECKPOINT, tensors, head)
    folder.completed = number


def load_checkpoint(folder: RunFolder, strategy: Strategy) -> Checkpoint | None:
    """Read the state, give the strategy its own, and cut what belongs to a round that was not completed.

    Returns
    -------
    Checkpoint or None
        None if no round was completed.

    Raises
    ------
    UnusableCheckpoint
        If the folder's files are damaged, or do not fit together.
    """
    path = folder.partial / CHECKPOINT
    if not path.is_file():
        folder.cut_lines({})
        return None
    try:
        tensors, described = read_tensors(path)
        head = _Head.model_validate_json(described)
        if head.sha256 != _digest(tensors):
            raise ValueError("it is damaged: its content does not match its checksum")
        folder.cut_lines(head.lines)
        numbers = list(range(1, head.round + 1))
        rounds = _read_rounds(folder, "rounds.jsonl", RoundLine, numbers)
        verdicts = _read_rounds(folder, "verdicts.jsonl", VerdictLine, numbers)
        client_metrics = _read_rounds(folder, "client_metrics.jsonl", ClientMetricsLine, numbers)
    except (UserError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        what = f"{path}: the checkpoint cannot be read ({reason}); run without --resume"
        raise UnusableCheckpoint(what) from None
    folder.completed = head.round
    try:
        if isinstance(strategy, HostedStrategy):
            _load_states(path, strategy.pipeline.parts, tensors)
        else:
            _load_flower(path, strategy, tensors)
    except UserError as error:
        raise UnusableCheckpoint(str(error)) from error.__cause__
    model = {n.removeprefix(_MODEL): Array(np.array(v)) for n, v in tensors.items() if n.startswith(_MODEL)}
    return Checkpoint(ArrayRecord(model), rounds, verdicts, client_metrics)


def _read_rounds(folder: RunFolder, name: str, model: type[Line], numbers: list[int]) -> list[Line]:
    """Return a file's lines, one for each of these rounds."""
    lines = list(read_lines(folder.partial / name, model))
    if [line.round for line in lines] != numbers:
        raise ValueError(f"{name} has {len(lines)} lines for {len(numbers)} rounds")
    return lines


def _digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the checksum of named arrays."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        found.update(f"{name} {array.dtype.str} {tensors[name].shape} ".encode())
        found.update(array.data.cast("B") if array.size else b"")
    return found.hexdigest()


def _unstated(part: Part) -> dict[str, str]:
    """Return a checksum of each attribute of a part that leaves `state` to its base class."""
    if type(part).state not in _NO_STATE:
        return {}
    attributes = Writer().attributes(part)
    texts = {name: state_to_json(value, type(part).__name__) for name, value in attributes.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def _load_states(path: Path, parts: Sequence[Part], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Give a pipeline's parts what they kept."""
    for place, part in enumerate(parts):
        kept, unstated = (tensors.get(f"{begins}{place}") for begins in (_STATE, _UNSTATED))
        if unstated is None:
            raise UserError(f"{path}: an earlier version wrote the checkpoint; run without --resume")
        with reraise_as_user_error(
            f"{path}: {type(part).__name__} cannot resume, run without --resume; load_state fails"
        ):
            if kept is not None:
                part.load_state(state_from_json(kept.tobytes().decode()))
            before = json.loads(unstated.tobytes())
        for name, digest in _unstated(part).items():
            if before.get(name, digest) != digest:
                raise UserError(
                    f"{path}: {type(part).__name__} keeps '{name}' from round to round, which is lost, as it "
                    f"has no state() that returns it; run without --resume"
                )


def _load_flower(path: Path, strategy: Strategy, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Give a plain Flower strategy its attributes; refuse one that keeps what no file can hold."""
    name = type(strategy).__name__
    with reraise_as_user_error(f"{path}: strategy {name} cannot resume, run without --resume"):
        kept = state_from_json(tensors[_STRATEGY].tobytes().decode())
        lost = kept["unsaved"] or load_flower_state(strategy, kept["state"])
        if lost:
            raise UserError(
                f"{path}: strategy {name} keeps {lost[0]}, which a checkpoint cannot hold, so the "
                f"run would resume with other numbers; run without --resume"
            )

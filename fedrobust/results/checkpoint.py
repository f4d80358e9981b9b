"""Checkpoints: what an unfinished run needs to resume after its last completed round."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation
from fedrobust.flower.hosted_strategy import HostedStrategy
from fedrobust.plugins import reraise_as_user_error
from fedrobust.results.folder import RunFolder
from fedrobust.results.records import ClientMetricsLine, RoundLine, VerdictLine
from fedrobust.results.state import state_from_json, state_to_json

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint", "settings_of"]

FILE = "checkpoint.safetensors"

Part = Defence | PreAggregation

_MODEL, _STRATEGY, _STATE = "model/", "strategy/", "state/"


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
        parts: tuple[Part, ...] = (*strategy.steps, strategy.defence)
        for place, part in enumerate(parts):
            with reraise_as_user_error(f"{type(part).__name__}: state() fails"):
                text = state_to_json(part.state(), type(part).__name__)
            tensors[f"{_STATE}{place}"] = np.frombuffer(text.encode(), np.uint8)
    else:
        tensors |= {
            f"{_STRATEGY}{attribute}/{name}": value
            for attribute, table in _tables(strategy).items()
            for name, value in table.items()
        }
    folder.write_tensors(FILE, tensors, {"round": number})


def load_checkpoint(folder: RunFolder, strategy: Strategy) -> Checkpoint | None:
    """Read the state, give the strategy its own, and drop lines of a round that was not completed.

    Returns
    -------
    Checkpoint or None
        None if no round was completed.

    Raises
    ------
    UserError
        If the folder's files do not fit together.
    """
    from safetensors import SafetensorError, safe_open

    path = folder.partial / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            file_head = file.metadata()["fedrobust"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        number = json.loads(file_head)["round"]
        rounds = folder.keep_lines("rounds.jsonl", number, RoundLine)
        verdicts = folder.keep_lines("verdicts.jsonl", number, VerdictLine)
        client_metrics = folder.keep_lines("client_metrics.jsonl", number, ClientMetricsLine)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error}); run without --resume") from None
    if isinstance(strategy, HostedStrategy):
        _load_states(path, (*strategy.steps, strategy.defence), tensors)
    else:
        _load_tables(strategy, tensors)
    model = {n.removeprefix(_MODEL): Array(np.array(v)) for n, v in tensors.items() if n.startswith(_MODEL)}
    return Checkpoint(ArrayRecord(model), rounds, verdicts, client_metrics)


def _tables(strategy: Strategy) -> dict[str, Mapping[str, NDArray[Any]]]:
    """Return a plain Flower strategy's moments: its attributes that are tables of arrays."""
    return {
        attribute: value
        for attribute, value in vars(strategy).items()
        if isinstance(value, dict)
        and value
        and all(isinstance(array, np.ndarray) for array in value.values())
    }


def _load_states(path: Path, parts: Sequence[Part], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Give a pipeline's parts what they kept."""
    for place, part in enumerate(parts):
        kept = tensors.get(f"{_STATE}{place}")
        with reraise_as_user_error(
            f"{path}: {type(part).__name__} cannot resume, run without --resume; load_state fails"
        ):
            if kept is not None:
                part.load_state(state_from_json(kept.tobytes().decode()))


def _load_tables(strategy: Strategy, tensors: Mapping[str, NDArray[Any]]) -> None:
    tables: dict[str, dict[str, NDArray[Any]]] = {}
    for name, value in tensors.items():
        if name.startswith(_STRATEGY):
            attribute, _, key = name.removeprefix(_STRATEGY).partition("/")
            tables.setdefault(attribute, {})[key] = np.array(value)
    for attribute, table in tables.items():
        setattr(strategy, attribute, table)


def settings_of(run: Path) -> Path:
    """Return the settings file of an unfinished run, given its folder with or without ``.partial``.

    Raises
    ------
    UserError
        If there is no such run, or it is finished.
    """
    partial = run if run.name.endswith(".partial") else run.with_name(run.name + ".partial")
    if (partial / "settings.toml").is_file():
        return partial / "settings.toml"
    if (run / "summary.json").is_file():
        raise UserError(f"{run} is finished; there is nothing to resume")
    raise UserError(f"{run}: there is no unfinished run; --resume takes a folder that ends in .partial")

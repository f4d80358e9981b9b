"""Checkpoints: what an unfinished run needs to go on from its last whole round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedrobust.errors import UserError
from fedrobust.hosting import HostedStrategy
from fedrobust.results.folder import RunFolder

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint", "settings_of"]

FILE = "checkpoint.safetensors"

_MODEL, _STRATEGY, _DEFENCE = "model/", "strategy/", "defence"


@dataclass(frozen=True)
class Checkpoint:
    """The last whole round of an unfinished run.

    Attributes
    ----------
    arrays : ArrayRecord
        The global model after it.
    rounds, verdicts : list of dict
        The lines of ``rounds.jsonl`` and ``verdicts.jsonl`` up to it.
    """

    arrays: ArrayRecord
    rounds: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]


def save_checkpoint(folder: RunFolder, number: int, arrays: ArrayRecord, strategy: Strategy) -> None:
    """Write the state after a whole round, in one file, so that it is never half of one round and half of another."""
    tensors = {_MODEL + name: array.numpy() for name, array in arrays.items()}
    if isinstance(strategy, HostedStrategy):
        # Not beside the round's number: the file's head is bounded, and a rule may keep a vector as long as the model.
        text = json.dumps(strategy.defence.state()).encode()
        tensors[_DEFENCE] = np.frombuffer(text, np.uint8)
    else:
        tensors |= {
            f"{_STRATEGY}{attribute}/{name}": value
            for attribute, table in _tables(strategy).items()
            for name, value in table.items()
        }
    folder.write_tensors(FILE, tensors, {"round": number})


def load_checkpoint(folder: RunFolder, strategy: Strategy) -> Checkpoint | None:
    """Read the state, give the strategy its own, and drop lines of a round that was not whole.

    Returns
    -------
    Checkpoint or None
        None if no round was whole.

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
            said = json.loads(file.metadata()["fedrobust"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        rounds, verdicts = (folder.keep_lines(n, said["round"]) for n in ("rounds.jsonl", "verdicts.jsonl"))
        # Runs begun before there was such a file go on without its first lines.
        folder.keep_rounds("reports.jsonl", said["round"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error}); run without --resume") from None
    if isinstance(strategy, HostedStrategy):
        # Runs begun before it had a place of its own have it beside the round's number.
        kept = json.loads(tensors[_DEFENCE].tobytes()) if _DEFENCE in tensors else said.get("defence", {})
        strategy.defence.load_state(kept)
    else:
        _load_tables(strategy, tensors)
    model = {n.removeprefix(_MODEL): Array(np.array(v)) for n, v in tensors.items() if n.startswith(_MODEL)}
    return Checkpoint(ArrayRecord(model), rounds, verdicts)


def _tables(strategy: Strategy) -> dict[str, Mapping[str, NDArray[Any]]]:
    """Return a plain Flower strategy's moments: its attributes that are tables of arrays."""
    return {
        attribute: value
        for attribute, value in vars(strategy).items()
        if isinstance(value, dict)
        and value
        and all(isinstance(array, np.ndarray) for array in value.values())
    }


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

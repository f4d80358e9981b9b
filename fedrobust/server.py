"""The server of a federation: rounds, evaluation, learning-rate schedule, and the record of all of it."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedrobust.config import Settings
from fedrobust.data.corruption import gaussian_noise
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.detection import detection_summary
from fedrobust.evaluation.drop import combined_drop
from fedrobust.federation import Trigger
from fedrobust.hosting import HostedStrategy, build_strategy
from fedrobust.learners.base import State
from fedrobust.parts import attackers, build_attacks, build_learner, pack, unpack
from fedrobust.results.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedrobust.results.folder import RunFolder, plain
from fedrobust.results.manifest import manifest
from fedrobust.roster import Roster
from fedrobust.seeding import derive, generator

__all__ = ["Observer", "Server"]


class Observer(Protocol):
    """Whoever wants to see a run while it goes on."""

    def started(self, settings: Settings, malicious: Sequence[int], source: str) -> None:
        """Be told that all is ready for round 1."""
        ...

    def replied(self) -> None:
        """Be told that a hospital has trained (engines that can tell)."""
        ...

    def round_done(self, line: dict[str, Any]) -> None:
        """Be told a round's line of ``rounds.jsonl``."""
        ...


class Server:
    """Runs one federation over a grid and writes its run folder.

    Parameters
    ----------
    settings : Settings
    observer : Observer
    resume : bool
        Go on from the last whole round of an unfinished run of these settings.

    Raises
    ------
    UserError
        If the strategy, the attack or the data of the settings do not work; nothing has been run then.
    """

    def __init__(self, settings: Settings, observer: Observer, *, resume: bool = False) -> None:
        """Make everything that does not need the hospitals."""
        self.settings = settings
        self._resume = resume
        self._observer = observer
        self._strategy = build_strategy(settings.strategy, settings.clients, settings.seed)
        attacks = build_attacks(settings)
        self.data = prepare(settings)
        self._learner = build_learner(settings)
        self._val, self._test = self.data.part("val"), self.data.part("test")
        self._noisy = gaussian_noise(self._test.images, settings.noise_std, settings.seed)
        self._malicious = attackers(settings)
        self._trigger: Trigger | None = None
        for attack in attacks if settings.malicious else ():
            attack.rng = generator(settings.seed, "trigger")
            attack.check(self._test)
            self._trigger = attack.trigger(self._test) or self._trigger
        self._lines: list[dict[str, Any]] = []
        self._verdicts: list[dict[str, Any]] = []

    def run(self, grid: Grid) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Run all rounds; return the summary and the lines of ``rounds.jsonl``."""
        began = time.monotonic()
        folder = RunFolder(self.settings, resume=self._resume)
        try:
            checkpoint = self._checkpoint(folder)
            defence = self._strategy.defence if isinstance(self._strategy, HostedStrategy) else None
            folder.write_json("manifest.json", manifest(self.settings, self.data, self._malicious, defence))
            roster = Roster(grid, self.settings.clients)
            roster.enrol()
            self._observer.started(self.settings, self._malicious, self.data.records.source)
            state = self._rounds(roster, folder, checkpoint)
            folder.write_model(self._learner.named_tensors(state), self._about())
            summary = self._summary(time.monotonic() - began, str(folder.final))
            folder.write_json("summary.json", summary)
            folder.finish()
        finally:
            folder.release()
        return summary, self._lines

    def _checkpoint(self, folder: RunFolder) -> Checkpoint | None:
        """Return the state of the run to resume, after a look whether the data are still the same."""
        if not self._resume:
            return None
        before = folder.read_json("manifest.json").get("data", {}).get("sha256", self.data.digest)
        if before != self.data.digest:
            raise UserError(
                f"{folder.partial}: the data have changed since this run began; run without --resume"
            )
        return load_checkpoint(folder, self._strategy)

    def _rounds(self, roster: Roster, folder: RunFolder, checkpoint: Checkpoint | None) -> State:
        """Train until the rounds or the patience run out; return the last global state."""
        plateau = _Plateau(self.settings.lr, self.settings.patience)
        arrays = pack(self._learner.initial())
        roster.expect(arrays)
        if checkpoint is not None:
            arrays, self._lines, self._verdicts = checkpoint.arrays, checkpoint.rounds, checkpoint.verdicts
        # The schedule is a function of the validation losses: replaying them restores it.
        ended = False
        for line in self._lines:
            ended = plateau.exhausted(line["val"]["loss"])
        if ended:
            return unpack(arrays)
        for number in range(len(self._lines) + 1, self.settings.rounds + 1):
            start = time.monotonic()
            lr = plateau.lr
            arrays = self._exchange(roster, arrays, number, lr)
            trained = time.monotonic()
            state = unpack(arrays)
            line = self._line(number, lr, state, roster)
            self._lines.append(line)
            folder.append("rounds.jsonl", line)
            folder.append("verdicts.jsonl", self._verdicts[-1])
            # Apart from the results, which are the same bits on every engine; times never are.
            seconds = {"round": number, "train": trained - start, "evaluate": time.monotonic() - trained}
            folder.append("timings.jsonl", seconds)
            save_checkpoint(folder, number, arrays, self._strategy)
            self._observer.round_done(line)
            if plateau.exhausted(line["val"]["loss"]):
                break
        return unpack(arrays)

    def _exchange(self, roster: Roster, arrays: ArrayRecord, number: int, lr: float) -> ArrayRecord:
        """Let the strategy train one round; return the new global arrays."""
        strategy = self._strategy
        with _strategy_at_work(self.settings, number):
            config = ConfigRecord({"lr": lr})
            messages = list(strategy.configure_train(number, arrays, config, roster))
            replies = list(roster.send_and_receive(messages, timeout=self._patience_s()))
            faults = roster.faults
            fresh, metrics = strategy.aggregate_train(number, replies)
            if fresh is None:
                fresh = arrays
            questions = list(strategy.configure_evaluate(number, fresh, ConfigRecord(), roster))
            if questions:
                strategy.aggregate_evaluate(number, roster.send_and_receive(questions))
            roster.check_model(fresh)
        roster.faults = faults
        self._loss = None if metrics is None else metrics.get("loss")
        self._verdicts.append(_verdict(strategy, number))
        return fresh

    def _patience_s(self) -> float:
        """Return how long a round may take: each node may have to train several hospitals one after another."""
        return self.settings.client_timeout * self.settings.clients

    def _line(self, number: int, lr: float, state: State, roster: Roster) -> dict[str, Any]:
        val = self._learner.predict(state, self._val.images, self._val.labels)
        clean = self._measured(state, self._test.images)
        line = {
            "round": number,
            "lr": lr,
            "train_loss": self._loss,
            "val": {"loss": val.loss, **classification_metrics(val.probabilities, self._val.labels)},
            "clean": clean,
            "noisy": self._measured(state, self._noisy),
            "attack_success_rate": self._success(state),
            "flagged": self._verdicts[-1]["flagged"],
            "faults": [{"hospital": fault.hospital, "reason": fault.reason} for fault in roster.faults],
        }
        return dict(plain(line))

    def _measured(self, state: State, images: Any) -> dict[str, float | None]:
        prediction = self._learner.predict(state, images, self._test.labels)
        return {
            "loss": prediction.loss,
            **classification_metrics(prediction.probabilities, self._test.labels),
        }

    def _success(self, state: State) -> float | None:
        """Return the share of stamped test images, the target class left out, that are taken for the target."""
        if self._trigger is None or not len(self._trigger.records):
            return None
        stamped = self._trigger.records
        predicted = self._learner.predict(state, stamped.images, stamped.labels).probabilities.argmax(1)
        return float((predicted == self._trigger.target).mean())

    def _summary(self, seconds: float, folder: str) -> dict[str, Any]:
        last = self._lines[-1]
        clean, noisy = ({k: v for k, v in last[part].items() if k != "loss"} for part in ("clean", "noisy"))
        return {
            "clean": clean,
            "noisy": noisy,
            "drop": combined_drop(clean, noisy),
            "detection": detection_summary(self._verdicts, self._malicious),
            "attack_success_rate": last["attack_success_rate"],
            "faults": sum(len(line["faults"]) for line in self._lines),
            "clients": self.settings.clients,
            "malicious": self.settings.malicious,
            "rounds": len(self._lines),
            "seed": self.settings.seed,
            "synthetic": self.data.records.synthetic,
            "seconds": round(seconds, 3),
            "run": folder,
        }

    def _about(self) -> dict[str, Any]:
        keys = ("backbone", "head", "networks", "temperature", "seed")
        records = self.data.records
        settings = self.settings.model_dump()
        return {
            "classes": records.classes,
            "shape": records.images.shape[1:],
            **{key: settings[key] for key in keys},
        }


class _Plateau:
    """Learning rate and patience after the validation loss, both in rounds.

    The learning rate falls to a tenth after 10 rounds without a better loss, the defaults of torch's
    ReduceLROnPlateau; `patience` rounds without one end the training.
    """

    def __init__(self, lr: float, patience: int) -> None:
        import torch

        self._optimiser = torch.optim.SGD([torch.zeros(1)], lr=lr)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self._optimiser)
        self._patience = patience
        self._best = float("inf")
        self._waited = 0

    @property
    def lr(self) -> float:
        return float(self._optimiser.param_groups[0]["lr"])

    def exhausted(self, loss: float) -> bool:
        self._schedule.step(loss)
        self._waited = 0 if loss < self._best else self._waited + 1
        self._best = min(self._best, loss)
        return self._waited >= self._patience


@contextmanager
def _strategy_at_work(settings: Settings, number: int) -> Iterator[None]:
    """Seed the global generators that Flower's own strategies sample with, and say who failed if one fails."""
    states = random.getstate(), np.random.get_state()
    random.seed(derive(settings.seed, "sampling", number))
    np.random.seed(derive(settings.seed, "numpy-sampling", number) % 2**32)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"strategy '{settings.strategy}' fails in round {number}: {type(error).__name__}: {error} "
            f"({frame.filename}, line {frame.lineno})"
        ) from error
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _verdict(strategy: Strategy, number: int) -> dict[str, Any]:
    """Return a round's line of ``verdicts.jsonl``; a plain Flower strategy gives no verdict."""
    verdict = getattr(strategy, "verdict", None)
    if not isinstance(strategy, HostedStrategy) or verdict is None:
        return {"round": number, "hospitals": [], "weights": [], "scores": [], "flagged": [], "why": {}}
    weight = np.asarray(verdict.weight)
    return dict(
        plain(
            {
                "round": number,
                "hospitals": strategy.nodes,
                "weights": weight / (weight.sum() or 1.0),
                "scores": verdict.score,
                "flagged": [node for node, flag in zip(strategy.nodes, verdict.flagged, strict=True) if flag],
                "why": {
                    node: words for node, words in zip(strategy.nodes, verdict.why, strict=True) if words
                },
            }
        )
    )

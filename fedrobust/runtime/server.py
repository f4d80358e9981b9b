"""The server of a federation: rounds, evaluation, learning-rate schedule, and the record of all of it."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.evaluation.detection import detection_summary
from fedrobust.evaluation.drop import combined_drop
from fedrobust.evaluation.examples import poisoned_examples
from fedrobust.evaluation.final import final_evaluation
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.evaluation.server_evaluation import Examination
from fedrobust.flower.client_grid import ClientGrid
from fedrobust.flower.codec import pack, unpack
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.learners.base import State
from fedrobust.learners.factory import build_learner
from fedrobust.plugins import reraise_as_user_error
from fedrobust.results.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fedrobust.results.folder import RunFolder, plain
from fedrobust.results.manifest import manifest
from fedrobust.results.round_lines import reports_line, verdict_line
from fedrobust.runtime.lr_schedule import Plateau
from fedrobust.runtime.peak_memory import extra_memory
from fedrobust.runtime.profiling import Profile
from fedrobust.scenario import attackers, build_attacks, odd_hospitals, threats
from fedrobust.seeding import globally_seeded
from fedrobust.settings import Settings

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
    profile : Profile, optional
        Told where the time goes.

    Raises
    ------
    UserError
        If the strategy, the attack or the data of the settings do not work; nothing has been run then.
    """

    def __init__(
        self, settings: Settings, observer: Observer, *, resume: bool = False, profile: Profile | None = None
    ) -> None:
        """Make everything that does not need the hospitals."""
        self._profile = profile or Profile()
        self.settings = settings
        self._resume = resume
        self._observer = observer
        self._strategy = build_strategy(
            settings.strategy, settings.clients, settings.seed, settings.false_flag_rate
        )
        self._watch = self._strategy.watch if isinstance(self._strategy, HostedStrategy) else None
        attacks = build_attacks(settings)
        with self._profile.phase("data"):
            self.data = prepare(settings)
        with self._profile.phase("imports"):
            # torch, which `build_learner` would import anyway
            import fedrobust.learners.mutual  # noqa: F401
        self._learner = build_learner(settings)
        at_work = attacks if settings.malicious else []
        self._examination = Examination(settings, self.data, self._learner, at_work)
        self._share = self._lend_images()
        self._malicious = attackers(settings)
        self._attacks = {
            number: frozenset(attack.role.name for attack in build_attacks(settings, number))
            for _, hospitals in threats(settings)
            for number in hospitals
        }
        self._lines: list[dict[str, Any]] = []
        self._verdicts: list[dict[str, Any]] = []
        self._reports: dict[str, Any] = {}
        self._defence_mib: float | None = None
        self._preloaded = False

    def _lend_images(self) -> ServerShare | None:
        """Give a defence that asks for it its share of the validation images."""
        if not isinstance(self._strategy, HostedStrategy) or not self._strategy.defence.server_share:
            return None
        defence = self._strategy.defence
        seed, lr = self.settings.seed, self.settings.lr
        share = ServerShare(self._learner, self.data.part("val"), defence.server_share, seed, lr)
        defence.server = share
        return share

    def warm_up(self) -> None:
        """Import what the end of round 1 needs, while the hospitals train it elsewhere."""
        # Whatever fails here fails again, and is reported, where it is needed.
        with contextlib.suppress(Exception):
            import sklearn.metrics  # noqa: F401

        self._preload()

    def _preload(self) -> None:
        """Let the defence import what it needs, so that no round counts that as its memory."""
        if self._preloaded or not isinstance(self._strategy, HostedStrategy):
            return
        with contextlib.suppress(Exception):
            self._strategy.defence.preload()
        self._preloaded = True

    def run(self, grid: Grid) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Run all rounds; return the summary and the lines of ``rounds.jsonl``."""
        began = time.monotonic()
        folder = RunFolder(self.settings, resume=self._resume)
        try:
            checkpoint = self._checkpoint(folder)
            defence = self._strategy.defence if isinstance(self._strategy, HostedStrategy) else None
            with self._profile.phase("set-up"):
                folder.write_json(
                    "manifest.json", manifest(self.settings, self.data, self._malicious, defence)
                )
                client_grid = ClientGrid(grid, self.settings.clients)
                client_grid.discover()
                self._examination.hospitals.unknown = client_grid.own_data
                self._observer.started(self.settings, self._malicious, self.data.records.source)
            self._note_lap(folder, 0)
            state = self._rounds(client_grid, folder, checkpoint)
            folder.write_model(self._learner.named_tensors(state), self._about())
            self._write_evaluation(folder, state)
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

    def _rounds(self, client_grid: ClientGrid, folder: RunFolder, checkpoint: Checkpoint | None) -> State:
        """Train until the rounds or the patience run out; return the last global state."""
        plateau = Plateau(self.settings.lr, self.settings.patience)
        arrays = pack(self._learner.initial())
        client_grid.set_expected_shapes(arrays)
        if checkpoint is not None:
            arrays, self._lines, self._verdicts = checkpoint.arrays, checkpoint.rounds, checkpoint.verdicts
            if self._watch and self._lines:
                self._watch.go_on(self._lines[-1].get("no_effect_steps", ()))
        # The schedule is a function of the validation losses: replaying them restores it.
        ended = False
        for line in self._lines:
            ended = plateau.exhausted(line["val"]["loss"])
        if ended:
            return unpack(arrays)
        for number in range(len(self._lines) + 1, self.settings.rounds + 1):
            lr = plateau.lr
            with self._profile.phase("aggregation"):
                arrays = self._exchange(client_grid, arrays, number, lr)
            with self._profile.phase("evaluation"):
                state = unpack(arrays)
                line = self._line(number, lr, state, client_grid)
            with self._profile.phase("records"):
                self._lines.append(line)
                folder.append("rounds.jsonl", line)
                folder.append("verdicts.jsonl", self._verdicts[-1])
                folder.append("client_metrics.jsonl", self._reports)
                save_checkpoint(folder, number, arrays, self._strategy)
            self._note_lap(folder, number, {"defence_mib": self._defence_mib})
            self._observer.round_done(line)
            if plateau.exhausted(line["val"]["loss"]):
                break
        return unpack(arrays)

    def _exchange(self, client_grid: ClientGrid, arrays: ArrayRecord, number: int, lr: float) -> ArrayRecord:
        """Let the strategy train one round; return the new global arrays."""
        strategy = self._strategy
        if self._share is not None:
            self._share.lr = lr
        with _strategy_at_work(self.settings, number):
            config = ConfigRecord({"lr": lr})
            messages = list(strategy.configure_train(number, arrays, config, client_grid))
            with self._profile.phase("transport"):
                replies = list(client_grid.send_and_receive(messages, timeout=self._patience_s()))
            self._profile.move("transport", "training", client_grid.busy_s)
            faults = client_grid.faults
            self._idle = self._idle_attacks(client_grid.no_effect)
            self._reports = reports_line(number, replies)
            with self._profile.phase("imports"):
                self._preload()
            with extra_memory() as taken:
                fresh, metrics = strategy.aggregate_train(number, replies)
            self._defence_mib = taken.mib
            if fresh is None:
                fresh = arrays
            questions = list(strategy.configure_evaluate(number, fresh, ConfigRecord(), client_grid))
            if questions:
                strategy.aggregate_evaluate(number, client_grid.send_and_receive(questions))
            client_grid.check_model(fresh)
        client_grid.faults = faults
        self._loss = None if metrics is None else metrics.get("loss")
        self._verdicts.append(verdict_line(strategy, number))
        return fresh

    def _idle_attacks(self, said: Mapping[int, frozenset[str]]) -> list[str]:
        """Return the attacks that changed nothing at any hospital in this round; a hospital that is silent says nothing."""
        every = frozenset().union(*self._attacks.values())
        at_work = (names - said.get(number, frozenset()) for number, names in self._attacks.items())
        return sorted(every.difference(*at_work))

    def _note_lap(
        self, folder: RunFolder, number: int, more: Mapping[str, float | None] | None = None
    ) -> None:
        """Write where a round's time went, apart from the results: they are the same bits on every engine, times never."""
        seconds = {phase: round(value, 4) for phase, value in self._profile.lap().items()}
        folder.append("timings.jsonl", {"round": number, **seconds, **(more or {})})

    def _write_evaluation(self, folder: RunFolder, state: State) -> None:
        """Write what a report needs of the last model and of the images, and some of those that were poisoned."""
        examination, hospitals = self._examination, self._examination.hospitals
        if not examination.probabilities:
            # The run had been cut off after its last round.
            examination.of(state)
        probabilities = examination.probabilities
        settings, data = self.settings, self.data
        folder.write_json(
            "evaluation.json",
            final_evaluation(
                settings, data, examination.labels, probabilities, hospitals.last, hospitals.unknown
            ),
        )
        # One that never answered may have killed its worker while it was made.
        lost = [{fault["hospital"] for fault in line["faults"]} for line in self._lines]
        examples = poisoned_examples(settings, data, hospitals.unknown.union(set.intersection(*lost)))
        if examples:
            pictures = {f"original/{place}": example.original for place, example in enumerate(examples)}
            pictures |= {f"poisoned/{place}": example.poisoned for place, example in enumerate(examples)}
            folder.write_tensors("examples.safetensors", pictures, [example.about for example in examples])

    def _patience_s(self) -> float:
        """Return how long a round may take: each node may have to train several hospitals one after another."""
        return self.settings.client_timeout * self.settings.clients

    def _line(self, number: int, lr: float, state: State, client_grid: ClientGrid) -> dict[str, Any]:
        line = {
            "round": number,
            "lr": lr,
            "train_loss": self._loss,
            **self._examination.of(state),
            "flagged": self._verdicts[-1]["flagged"],
            "no_effect_attacks": self._idle,
            "no_effect_steps": self._watch.idle if self._watch else [],
            "faults": [{"hospital": fault.client, "reason": fault.reason} for fault in client_grid.faults],
        }
        return dict(plain(line))

    def _summary(self, seconds: float, folder: str) -> dict[str, Any]:
        last = self._lines[-1]
        idle = sorted(
            set(last.get("no_effect_attacks", ())).intersection(
                *(line.get("no_effect_attacks", ()) for line in self._lines)
            )
        )
        for name in idle:
            warnings.warn(f"attack '{name}' changed nothing in this run", UserWarning, stacklevel=2)
        no_effect_steps = list(last.get("no_effect_steps", ()))
        for sentence in self._watch.sentences(self.settings.malicious) if self._watch else ():
            warnings.warn(sentence, UserWarning, stacklevel=2)
        clean, noisy = ({k: v for k, v in last[part].items() if k != "loss"} for part in ("clean", "noisy"))
        return {
            "clean": clean,
            "noisy": noisy,
            "drop": combined_drop(clean, noisy),
            "detection": detection_summary(self._verdicts, self._malicious),
            "attack_success_rate": last["attack_success_rate"],
            "no_effect_attacks": idle,
            "no_effect_steps": no_effect_steps,
            "server_images": 0 if self._share is None else len(self._share.labels),
            "server_share": 0.0 if self._share is None else self._share.share,
            "faults": sum(len(line["faults"]) for line in self._lines),
            "clients": self.settings.clients,
            "malicious": len(self._malicious),
            "atypical": list(odd_hospitals(self.settings)),
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


@contextmanager
def _strategy_at_work(settings: Settings, number: int) -> Iterator[None]:
    """Seed the global generators that Flower's own strategies sample with, and say who failed if one fails."""
    seeded = globally_seeded(settings.seed, number, kinds=("sampling", "numpy-sampling"))
    with reraise_as_user_error(f"strategy '{settings.strategy}' fails in round {number}"), seeded:
        yield

"""Synthesis: a conditional GAN, measured by what classifiers of real images make of its images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.evaluation.examples import poisoned_examples
from fedrobust.evaluation.final import held_by
from fedrobust.evaluation.synthesis import class_score, frechet_distance, kernel_distance, precision_recall
from fedrobust.evaluation.triggers import checked_triggers
from fedrobust.federation import Attack, Behaviour
from fedrobust.learners.base import State
from fedrobust.learners.factory import learner_of
from fedrobust.results.folder import RunFolder
from fedrobust.results.records import RoundLine
from fedrobust.scenario import Scenario
from fedrobust.seeding import generator, trigger_rng
from fedrobust.tasks.base import Tell

if TYPE_CHECKING:
    from fedrobust.evaluation.judges import Judge, TriggerDetector
    from fedrobust.evaluation.utility import Use
    from fedrobust.learners.gan import GanLearner

__all__ = ["Synthesis"]

#: Real images that are compared with as many synthetic ones, at most.
_COMPARED = 1000

#: Synthetic images of each class in the report.
_SHOWN = 8

#: Synthetic images of each class that are added to few real ones.
_ADDED = 100

#: With less of the real images near any synthetic one, the generator has collapsed or learnt nothing.
_COLLAPSED = 0.02


@dataclass(frozen=True)
class _Real:
    """Real images and their features."""

    records: Records
    features: NDArray[np.float64]


class Synthesis:
    """Generators that make images of each class, compared with the server's real images.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    attacks : sequence of Behaviour
        Those that are carried out; each may refuse the data.

    Attributes
    ----------
    learner : GanLearner

    Raises
    ------
    UserError
        If an attack does not fit the data, or they hold no images.
    """

    name: ClassVar[str] = "synthesis"
    report_sections: ClassVar[tuple[str, ...]] = ("examples", "synthetic")

    def __init__(self, scenario: Scenario, data: FederationData, attacks: Sequence[Behaviour]) -> None:
        """Build the learner; the classifiers are trained when they are first needed."""
        self._scenario, self._data = scenario, data
        self.learner: GanLearner = cast("GanLearner", learner_of(scenario.learner, scenario.data))
        test, seed = data.part("test"), scenario.seed
        checked = checked_triggers(attacks, test, seed, classifies=False)
        self._attacks = [attack for attack, trigger in checked if trigger is not None]
        self._unknown: frozenset[int] = frozenset()
        self._utility: tuple[Use, ...] = ()

    def evaluate(self, state: State) -> Mapping[str, object]:
        """Return the loss, which is the Fréchet distance from the validation images, and the metrics."""
        val = self._images(state, "val")
        loss = None if val is None else frechet_distance(self._val.features, self._judge.features(val))
        return {"val": {"loss": loss}, "synthesis": self._metrics(state)}

    def validation_loss(self, line: RoundLine) -> float | None:
        """Return the Fréchet distance from the validation images."""
        return line.val.loss

    def server_data(self, share: float) -> None:
        """Return None: a generator has no loss on labelled images."""
        return

    def set_unknown(self, hospitals: frozenset[int]) -> None:
        """Leave out what these hospitals hold."""
        self._unknown = hospitals

    def write_round(self, folder: RunFolder, state: State, round: int) -> None:
        """Write a few images of each class, from the same noise in every round that is shown."""
        if not _is_shown(round):
            return
        classes = self._data.records.classes
        made = self.learner.sample(state, np.repeat(np.arange(len(classes)), _SHOWN), "shown")
        if made is not None:
            about = {"classes": classes, "of_each": _SHOWN}
            folder.write_tensors(f"synthetic-{round:05}.safetensors", {"synthetic": made}, about)

    def summary(self, line: RoundLine) -> Mapping[str, object]:
        """Return the last generator's metrics beside those of real images, and the errors of the judges."""
        found = {} if line.synthesis is None else line.synthesis.as_json()
        recall = found.get("recall")
        detectors = self._detectors
        real = self._test.records
        return {
            "synthesis": {
                **found,
                "images": len(real),
                "real_fid": frechet_distance(self._val.features, self._test.features),
                "real_kid": kernel_distance(self._val.features, self._test.features),
                "real_class_score": class_score(self._judge.probabilities(real.images)),
                "real_accuracy": self._held_out.recognises(real.images, real.labels),
                "judge_sha256": self._judge.sha256,
                "collapsed": recall is not None and cast(float, recall) < _COLLAPSED,
                "trigger_false_alarms": max((one.false_alarms for one in detectors), default=None),
                "trigger_misses": max((one.misses for one in detectors), default=None),
                "added": _ADDED,
                "utility": [asdict(use) for use in self._utility],
            },
            "diverged": line.val.loss is None,
        }

    @staticmethod
    def shown(line: RoundLine) -> Mapping[str, float | None]:
        """Return what a run shows of a round while it runs."""
        return {"FID": line.value("fid"), "conditional accuracy": line.value("conditional_accuracy")}

    def write_final(self, folder: RunFolder, state: State, silent: Collection[int], tell: Tell) -> None:
        """Write the generator, the judge, images of each class with their nearest real ones, and facts."""
        scenario, records = self._scenario, self._data.records
        written = {key: scenario.run.written[key] for key in ("task", "seed")}
        about = {"classes": records.classes, "shape": records.images.shape[1:], **written}
        folder.write_model(self.learner.named_tensors(state), about)
        folder.write_tensors("judge.safetensors", self._judge.tensors, {"sha256": self._judge.sha256})
        self._write_images(folder, state)
        self._utility = self._used(state)
        known = held_by(scenario, self._data, [None] * scenario.hospitals, self._unknown)
        folder.write_json("evaluation.json", {"classes": records.classes, **known})
        examples = poisoned_examples(scenario, self._data, self._unknown.union(silent))
        if examples:
            images = {f"original/{place}": example.original for place, example in enumerate(examples)}
            images |= {f"poisoned/{place}": example.poisoned for place, example in enumerate(examples)}
            folder.write_tensors("examples.safetensors", images, [example.about for example in examples])

    def _write_images(self, folder: RunFolder, state: State) -> None:
        """Write synthetic images by class, and for each the training image with the nearest features."""
        classes = self._data.records.classes
        labels = np.repeat(np.arange(len(classes)), _SHOWN)
        made = self.learner.sample(state, labels, "shown")
        if made is None:
            return
        train = self._sample("train").records
        own, real = self._judge.features(made), self._judge.features(train.images)
        nearest = ((own[:, None] - real[None]) ** 2).sum(axis=2).argmin(axis=1)
        tensors = {"synthetic": made, "nearest": np.ascontiguousarray(train.images[nearest])}
        folder.write_tensors("synthetic.safetensors", tensors, {"classes": classes, "of_each": _SHOWN})

    def _used(self, state: State) -> tuple[Use, ...]:
        """Return what the last generator's images add to few real ones."""
        from fedrobust.evaluation.utility import utility_of

        seed, device = self._scenario.seed, self._scenario.learner.device
        train, test = self._data.part("train"), self._test.records
        return utility_of(
            lambda labels: self.learner.sample(state, labels, "utility"), train, test, _ADDED, seed, device
        )

    def _metrics(self, state: State) -> Mapping[str, object]:
        made, real = self._images(state, "test"), self._test
        if made is None:
            return {"finite": False}
        features = self._judge.features(made)
        precision, recall = precision_recall(real.features, features)
        rates = [detector.rate(made) for detector in self._detectors]
        return {
            "fid": frechet_distance(real.features, features),
            "kid": kernel_distance(real.features, features),
            "precision": precision,
            "recall": recall,
            "class_score": class_score(self._judge.probabilities(made)),
            "conditional_accuracy": self._held_out.recognises(made, real.records.labels),
            "trigger_rate": max(rates, default=None),
        }

    def _images(self, state: State, part: str) -> NDArray[np.uint8] | None:
        """Return synthetic images of the classes of a part's real ones, from the same noise in each round."""
        labels = (self._val if part == "val" else self._test).records.labels
        return self.learner.sample(state, labels, part)

    def _sample(self, part: str) -> _Real:
        """Return at most so many of a part's images as are compared."""
        records = self._data.part(part)
        some = generator(self._scenario.seed, "compared", part).permutation(len(records))[:_COMPARED]
        records = records.take(np.sort(some))
        return _Real(records, self._judge.features(records.images))

    @cached_property
    def _test(self) -> _Real:
        return self._sample("test")

    @cached_property
    def _val(self) -> _Real:
        return self._sample("val")

    @cached_property
    def _judge(self) -> Judge:
        """Return the classifier that gives features: of the training images, as if they were pooled."""
        return self._trained(self._data.part("train"), "features")

    @cached_property
    def _held_out(self) -> Judge:
        """Return the classifier that recognises classes: of the validation images, which nobody trains on."""
        return self._trained(self._data.part("val"), "classes")

    def _trained(self, records: Records, purpose: str) -> Judge:
        from fedrobust.evaluation.judges import Judge

        return Judge(records, self._scenario.seed, purpose, self._scenario.learner.device)

    @cached_property
    def _detectors(self) -> list[TriggerDetector]:
        """Return a detector of each backdoor's mark; none of a backdoor without one, such as edge-case."""
        from fedrobust.evaluation.judges import TriggerDetector

        val, test = self._data.part("val"), self._data.part("test")
        device, seed = self._scenario.learner.device, self._scenario.seed
        found = []
        for place, attack in enumerate(self._attacks):
            marked, marked_test = _stamped(attack, val, seed), _stamped(attack, test, seed)
            if marked is not None and marked_test is not None:
                parts = val, marked, test, marked_test
                found.append(TriggerDetector(*parts, seed, f"trigger-{place}", device))
        return found


def _is_shown(round: int) -> bool:
    """Return whether a round's images are kept: 1, 2, 5, 10, 20, 50 and so on."""
    return round in {base * 10**power for base in (1, 2, 5) for power in range(6)}


def _stamped(attack: Attack, records: Records, seed: int) -> Records | None:
    """Return all records with a backdoor's mark; None for one that stamps not every image.

    A backdoor leaves its target's images out, so all are given as if they were of another class.
    """
    attack.bind(rng=trigger_rng(seed))
    trigger = attack.trigger(records)
    if trigger is None or len(records.classes) < 2:
        return None
    other = (trigger.target + 1) % len(records.classes)
    attack.bind(rng=trigger_rng(seed))
    every = attack.trigger(replace(records, labels=np.full(len(records), other, np.int64)))
    return every.records if every is not None and len(every.records) == len(records) else None

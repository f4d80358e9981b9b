"""Classification of images: the task of all runs so far."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.sources import FederationData
from fedrobust.errors import UserError
from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.drop import combined_drop
from fedrobust.evaluation.examples import poisoned_examples
from fedrobust.evaluation.final import final_evaluation
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.evaluation.server_evaluation import ServerEvaluation
from fedrobust.evaluation.site_tests import site_tests
from fedrobust.federation import Behaviour
from fedrobust.learners.base import State
from fedrobust.learners.factory import build_learner
from fedrobust.results.folder import RunFolder, partial_of
from fedrobust.results.memory_folder import MemoryFolder
from fedrobust.results.records import RoundLine
from fedrobust.robustness.plan import named_evaluations
from fedrobust.scenario import Scenario
from fedrobust.tasks.base import Tell
from fedrobust.tasks.model_study import study_of

__all__ = ["Classification"]


class Classification:
    """Networks that classify images, evaluated on clean, noisy and stamped test images.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    attacks : sequence of Behaviour
        Those that are carried out; each may refuse the data.

    Attributes
    ----------
    learner : Learner

    Raises
    ------
    UserError
        If an attack does not fit the data.
    """

    name: ClassVar[str] = "classification"
    report_sections: ClassVar[tuple[str, ...]] = (
        *("examples", "confusion", "classes", "drop", "evaluations", "accuracies"),
    )

    def __init__(self, scenario: Scenario, data: FederationData, attacks: Sequence[Behaviour]) -> None:
        """Build the learner and the server's test images."""
        self._scenario = scenario
        self._data = data
        self.learner = build_learner(scenario.learner, scenario.data)
        memories = MemoryFolder(partial_of(scenario.run.folder))
        self._evaluation = ServerEvaluation(scenario, data, self.learner, attacks, memories)
        #: The places of the validation images that the strategy sees.
        self._seen = np.zeros(0, np.int64)
        #: The last model's scale and its calibrated probabilities on the test images.
        self._scale = 1.0
        self._calibrated: Mapping[str, NDArray[np.float64]] = {}
        self._evaluations = named_evaluations(scenario.evaluations)
        if not data.records.pixels and (self._evaluations or scenario.views > 1):
            setting = "evaluate" if self._evaluations else "tte"
            raise UserError(
                f"{data.records.source} holds features, but {setting} changes images; leave it out"
            )
        self._robustness: Mapping[str, object] | None = None
        self._robustness_s: float | None = None
        self._hospital_models: Mapping[int, State] = {}
        self._site_tests: Mapping[str, object] | None = None

    def evaluate(self, state: State) -> Mapping[str, object]:
        """Return metrics on validation, clean, noisy and stamped images, and by hospital."""
        return self._evaluation.of(state)

    def validation_loss(self, line: RoundLine) -> float | None:
        """Return the loss on the validation images."""
        return line.val.loss

    def server_data(self, share: float) -> ServerShare:
        """Return a share of the validation images."""
        validation = self._data.part("val")
        found = ServerShare(self.learner, validation, share, self._scenario.seed, self._scenario.lr)
        self._seen = found.places
        return found

    def set_unknown(self, hospitals: frozenset[int]) -> None:
        """Leave these hospitals' accuracies undefined."""
        self._evaluation.hospitals.unknown = hospitals

    def set_hospital_models(self, models: Mapping[int, State]) -> None:
        """Keep the models of the last round for the cross-site matrix."""
        self._hospital_models = models

    def write_round(self, folder: RunFolder, state: State, round: int) -> None:
        """Write nothing: the round's line says all."""

    def summary(self, line: RoundLine) -> Mapping[str, object]:
        """Return the last model's metrics, the combined drop, and whether the model learnt anything.

        Its confidence is calibrated; that changes no prediction.
        """
        labels = self._evaluation.labels
        clean, noisy = (
            {**of_round.model_dump(), **classification_metrics(self._calibrated[part], labels)}
            for part, of_round in (("clean", line.clean), ("noisy", line.noisy))
        )
        counts = self._data.part("test").counts()
        share = float(counts.max() / counts.sum())
        return {
            "clean": clean,
            "noisy": noisy,
            "calibration": {
                "scale": self._scale,
                "raw_ece": line.clean.ece,
                "raw_noisy_ece": line.noisy.ece,
            },
            "drop": combined_drop(clean, noisy),
            "attack_success_rate": line.attack_success_rate,
            "commonest_class_share": share,
            "no_better_than_commonest_class": clean["accuracy"] <= share,
            "diverged": None in (line.val.loss, line.clean.loss),
            "robustness": self._robustness,
            "robustness_seconds": self._robustness_s,
            "site_tests": self._site_tests,
        }

    @staticmethod
    def shown(line: RoundLine) -> Mapping[str, float | None]:
        """Return what a run shows of a round while it runs."""
        return {"accuracy": line.clean.accuracy, "validation loss": line.val.loss}

    def write_final(self, folder: RunFolder, state: State, silent: Collection[int], tell: Tell) -> None:
        """Write the model, ``evaluation.json`` and examples of poisoned images."""
        evaluation, hospitals = self._evaluation, self._evaluation.hospitals
        if not evaluation.probabilities:
            # The run was interrupted after its last round.
            evaluation.of(state)
        self._scale, self._calibrated = evaluation.calibrated(self._seen)
        folder.write_model(self.learner.named_tensors(state), self._description())
        last = self._calibrated, hospitals.last, hospitals.unknown
        content = final_evaluation(self._scenario, self._data, evaluation.labels, *last)
        if self._data.site_tests:
            models = self._hospital_models
            tests = site_tests(self.learner, self._data, state, models, hospitals.unknown)
            content["site_tests"] = self._site_tests = tests
        if self._evaluations:
            began = time.perf_counter()
            content["robustness"] = self._robustness = self._study(folder, state, tell)
            self._robustness_s = round(time.perf_counter() - began, 3)
        folder.write_json("evaluation.json", content)
        # A hospital that never replied may have ended its worker process while it was built.
        examples = poisoned_examples(self._scenario, self._data, hospitals.unknown.union(silent))
        if examples:
            images = {f"original/{place}": example.original for place, example in enumerate(examples)}
            images |= {f"poisoned/{place}": example.poisoned for place, example in enumerate(examples)}
            folder.write_tensors("examples.safetensors", images, [example.about for example in examples])

    def _study(self, folder: RunFolder, state: State, tell: Tell) -> Mapping[str, object]:
        """Return the results of the settings' evaluations; write pictures of what they do."""
        scenario, learner = self._scenario, self.learner
        found = study_of(
            self._evaluations, scenario.evaluate_images, scenario, self._data, learner, state, tell
        )
        if found.pictures:
            images = {
                f"{part}/{place}": getattr(picture, part)
                for place, picture in enumerate(found.pictures)
                for part in ("original", "changed", "difference")
            }
            folder.write_tensors("robustness.safetensors", images, [one.about for one in found.pictures])
        return found.results

    def _description(self) -> Mapping[str, object]:
        """Return the description in the model file's metadata."""
        records, written = self._data.records, self._scenario.run.written
        chosen = {key: written[key] for key in ("backbone", "head", "networks", "seed")}
        chosen |= {"temperature": self._scenario.learner.softmax_temperature, "scale": self._scale}
        return {"classes": records.classes, "shape": records.images.shape[1:], **chosen}

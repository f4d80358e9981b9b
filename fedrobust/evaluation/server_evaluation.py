"""What the server measures after each round: the model on validation, clean, noisy and stamped images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrobust.data.corruption import gaussian_noise
from fedrobust.data.records import Records
from fedrobust.data.sources import FederationData
from fedrobust.evaluation.classification import classification_metrics
from fedrobust.evaluation.hospitals import HospitalAccuracy
from fedrobust.evaluation.temperature import fit_scale, scaled
from fedrobust.evaluation.triggers import checked_triggers, latest
from fedrobust.federation import Behaviour, Trigger
from fedrobust.learners.base import ClassifyingLearner, State
from fedrobust.scenario import Scenario

if TYPE_CHECKING:
    # A page imports the tasks without Flower.
    from fedrobust.flower.memory import MemoryStore

__all__ = ["ServerEvaluation"]


class ServerEvaluation:
    """The server's images, and a model's metrics on them.

    Parameters
    ----------
    scenario : Scenario
    data : FederationData
    learner : ClassifyingLearner
    attacks : iterable of Behaviour
        Those of the federation's threats; each may refuse the data, and a backdoor brings stamped images.
    memories : MemoryStore, optional
        Where a simulation's hospitals keep what they remember, for triggers that change. Without it they are
        tested as in their first round.

    Attributes
    ----------
    hospitals : HospitalAccuracy
        The model's accuracy at each of them.
    probabilities : dict of str to ndarray, shape (n, K)
        The last evaluated model's on the validation images, ``"val"``, and on the test images, ``"clean"``
        and ``"noisy"``.

    Raises
    ------
    UserError
        If an attack does not fit the data.
    """

    def __init__(
        self,
        scenario: Scenario,
        data: FederationData,
        learner: ClassifyingLearner,
        attacks: Iterable[Behaviour],
        memories: MemoryStore | None = None,
    ) -> None:
        """Make all the images once, but those of a trigger that changes from round to round."""
        self._learner, self._views = learner, scenario.views
        self._val, self._test = data.part("val"), data.part("test")
        self._noisy = gaussian_noise(self._test.images, scenario.noise_std, scenario.seed)
        self._triggers: list[tuple[int, Callable[[], Trigger]]] = []
        self._threats = [frozenset(threat.hospitals) for threat in scenario.threats]
        chain = list(attacks)
        for attack, trigger in checked_triggers(chain, self._test, scenario.seed):
            if trigger is not None:
                threat = next((n for n, who in enumerate(self._threats) if attack.role.hospital in who), 0)
                now = latest(attack, trigger, chain, self._test, scenario.seed, memories)
                self._triggers.append((threat, now))
        self.hospitals = HospitalAccuracy(scenario, data, self._test)
        self.probabilities: dict[str, NDArray[np.float64]] = {}

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the classes of the test images."""
        return self._test.labels

    def of(self, state: State) -> dict[str, object]:
        """Return a model's losses and metrics, its accuracy at each hospital, and the backdoors' success."""
        parts = {
            "val": self._measured("val", state, self._val, self._val.images),
            "clean": self._measured("clean", state, self._test, self._test.images),
            "noisy": self._measured("noisy", state, self._test, self._noisy),
        }
        accuracies = self.hospitals.of(
            self.probabilities["clean"], lambda images: self._on_other_images(state, images)
        )
        rates: list[float | None] = [None] * len(self._threats)
        for threat, trigger in self._triggers:
            rates[threat] = max(rates[threat] or 0.0, self._success(state, trigger()))
        return {
            **parts,
            "attack_success_rate": max((rate for rate in rates if rate is not None), default=None),
            "attack_success_rates": rates if self._triggers else [],
            "hospital_accuracy": accuracies,
            "worst_hospital": self.hospitals.worst(accuracies),
        }

    def calibrated(self, seen: NDArray[np.int64]) -> tuple[float, dict[str, NDArray[np.float64]]]:
        """Return the scale that fits the last evaluated model to the validation images, and what it gives.

        That is, the probabilities on the test images, ``"clean"`` and ``"noisy"``. No test image enters the
        fit, and no validation image that the strategy has seen, as it may have trained on it: then the model
        is surer of these than of others. Where it has seen all, all count.

        Parameters
        ----------
        seen : ndarray of int64
            The places of these among the validation images.
        """
        labels = self._val.labels
        unseen = np.delete(np.arange(len(labels)), seen)
        fit = unseen if len(unseen) else seen
        scale = fit_scale(self.probabilities["val"][fit], labels[fit])
        return scale, {part: scaled(self.probabilities[part], scale) for part in ("clean", "noisy")}

    def _measured(
        self, part: str, state: State, records: Records, images: NDArray[np.uint8] | NDArray[np.float32]
    ) -> dict[str, object]:
        prediction = self._learner.predict(state, images, records.labels, self._views)
        self.probabilities[part] = prediction.probabilities
        return {
            "loss": prediction.loss,
            **classification_metrics(prediction.probabilities, records.labels),
        }

    def _on_other_images(self, state: State, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._learner.predict(state, images, self._test.labels, self._views).probabilities

    def _success(self, state: State, trigger: Trigger) -> float:
        """Return the share of stamped test images that are predicted as the class that they shall mean."""
        stamped = trigger.records
        found = self._learner.predict(state, stamped.images, stamped.labels, self._views)
        return float((found.probabilities.argmax(1) == trigger.target).mean())

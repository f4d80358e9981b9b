"""What an attack overrides: `Attack`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from fedrobust.data.records import Records
from fedrobust.federation.behaviour import Behaviour
from fedrobust.federation.local_model import LocalModel, Trigger
from fedrobust.federation.updates import ClientMetrics, Update, Vector

__all__ = ["Attack", "GradientHook", "LocalTraining", "Trigger"]

#: Changes the gradient of a training: takes the parameters at an optimiser step and the gradient of the
#: task's loss there, both of shape (d,), and returns the gradient that the optimiser gets. The arrays are
#: valid only during the call, and must not be changed.
GradientHook = Callable[[Vector, Vector], Vector]


@dataclass(frozen=True)
class LocalTraining:
    """How a hospital trains, as far as that is not as the server asks.

    Attributes
    ----------
    epochs : int or None
    lr : float or None
    radius : float or None
        After each step the parameters are projected onto the ball of this radius around the received ones.
    """

    epochs: int | None = None
    lr: float | None = None
    radius: float | None = None


class Attack(Behaviour):
    """What a malicious hospital does. Every hook is optional; the default has no effect.

    All but `collude` run inside the malicious hospital, so such an attack works the same in a simulation and
    in a real federation. An attack is one public class in one file of ``clients/``. In its hooks `rng`,
    `role` and, where the class says `needs_honest` or `needs_model`, `honest` or `model` can be read.
    """

    malicious: ClassVar[bool] = True

    #: Which updates of a round the attack sees: its own hospital's, those of all its colluders, or all.
    #: An attack in which that is an option sets it in its constructor.
    knowledge: Literal["own", "colluders", "all"] = "own"

    #: True if the attack reads `honest`. Where an attack of the chain changes records or the gradient, that
    #: costs a second training.
    needs_honest: ClassVar[bool] = False

    #: True if the attack reads `model`.
    needs_model: ClassVar[bool] = False

    #: True if `trigger` reads `memory`, so that the trigger changes from round to round.
    adapts_trigger: ClassVar[bool] = False

    #: How the hospital trains under the attack; None as the server asks. The first of a chain counts.
    local_training: LocalTraining | None = None

    @property
    def honest(self) -> Update:
        """Return what the hospital would have sent, had it trained on its own clean records in this round."""
        if self._context.honest is None:
            raise AttributeError(
                f"{type(self).__name__}.honest is there in the hooks of a round, "
                "and only with needs_honest = True"
            )
        return self._context.honest

    @property
    def model(self) -> LocalModel:
        """Return the received model in the hospital's hands, with what it makes of images."""
        if self._context.model is None:
            raise AttributeError(
                f"{type(self).__name__}.model is there in the hooks of a round, "
                "and only with needs_model = True"
            )
        return self._context.model

    def poison_records(self, records: Records) -> Records:
        """Return the records that the hospital trains on; called once, before the first round."""
        return records

    def round_records(self, records: Records) -> Records:
        """Return the records of this round's training, given those that all rounds have."""
        return records

    def gradient_hook(self, received: Vector) -> GradientHook | None:
        """Return what changes the gradients of this round's training; None for a training as usual.

        Parameters
        ----------
        received : ndarray of float32, shape (d,)
            The parameters that the training starts from, valid only during the round.
        """
        return None

    def poison_update(self, update: Update) -> Update:
        """Return the update that the hospital sends, given the one that it trained."""
        return update

    def forge_report(self, report: ClientMetrics) -> ClientMetrics:
        """Return the metrics that the hospital reports, given the true ones."""
        return report

    def collude(self, colluders: Sequence[Update], honest: Sequence[Update]) -> Sequence[Update]:
        """Return the updates that the colluders send in a round; override it for an attack that sees several.

        It runs where the messages meet, in simulations only, after the hospitals' own part (`poison_update`,
        `forge_report`) of all attacks of the chain. `rng` is then bound to the seed, the attack's place and
        the round.

        Parameters
        ----------
        colluders : sequence of Update
            What the hospitals of this threat that reply would send by themselves, in the order of their
            numbers.
        honest : sequence of Update
            What the honest hospitals send, in the same order; empty unless `knowledge` is ``"all"``.

        Returns
        -------
        sequence of Update
            One for each colluder, in the given order; parameters, buffers and report count. The arrays given
            are read-only views.
        """
        return colluders

    def trigger(self, records: Records) -> Trigger | None:
        """Return test records of the other classes with the attack's trigger; None without one."""
        return None

    @final
    def transform_records(self, records: Records) -> Records:
        """Return the poisoned records."""
        return self.poison_records(records)

    @property
    def transforms_records(self) -> bool:
        """Return whether the attack overrides `poison_records`."""
        return type(self).poison_records is not Attack.poison_records

    @property
    def renews_records(self) -> bool:
        """Return whether each round has records of its own: whether it overrides `round_records`."""
        return type(self).round_records is not Attack.round_records

    @property
    def colludes(self) -> bool:
        """Return whether the attack needs to see several updates: whether it overrides `collude`."""
        return type(self).collude is not Attack.collude

    @property
    def hooks_gradient(self) -> bool:
        """Return whether the attack changes gradients: whether it overrides `gradient_hook`."""
        return type(self).gradient_hook is not Attack.gradient_hook

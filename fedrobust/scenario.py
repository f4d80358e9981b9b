"""The scenario: what settings stand for, worked out once and frozen, so that nothing below reads settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fedrobust.attacks.hooks import is_active
from fedrobust.audit.sanitize import methods_of
from fedrobust.data.spec import DataSpec
from fedrobust.federation import Behaviour, Role
from fedrobust.federation.participation import Participation
from fedrobust.learners.choices import (
    adversary_of,
    optimizer_of,
    pruning_of,
    synthesis_of,
    training_rule_of,
)
from fedrobust.learners.spec import LearnerSpec
from fedrobust.pipeline.server_optimiser import ServerStep
from fedrobust.pipeline.specs import with_false_flag_rate
from fedrobust.plugins import AttackChain, EvaluationSpecs, PipelineSpec, PluginSpec, find, instantiate
from fedrobust.seeding import generator
from fedrobust.settings import Execution, Settings

__all__ = ["RunIdentity", "Scenario", "Threat"]

#: FedAdam's server learning rate and first moment unless given (Reddi et al., ICLR 2021, appendix D).
_ADAM_LR, _ADAM_MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Threat:
    """Attacks and the hospitals that carry them out.

    Attributes
    ----------
    attacks : AttackChain
    hospitals : tuple of int
        Their numbers, ascending.
    malicious : bool
        False where all attacks of the chain are benign, such as another scanner: the hospitals are then
        atypical.
    """

    attacks: AttackChain
    hospitals: tuple[int, ...]
    malicious: bool = True


@dataclass(frozen=True)
class RunIdentity:
    """What names a run and its folder.

    Attributes
    ----------
    name : str
        Data, strategy, attacks and seed, as a folder may be named.
    digest : str
        10 hex digits of the settings that decide the result.
    out : str
        The folder for run folders.
    settings : Settings
        To be written down.
    """

    name: str
    digest: str
    out: str
    settings: Settings = field(compare=False)

    @classmethod
    def of(cls, settings: Settings) -> RunIdentity:
        """Return the identity of the run of these settings."""
        words = [
            PluginSpec.parse(settings.data).without_folders,
            settings.strategy,
            *(threat.attacks.text for threat in settings.threats()),
        ]
        name = re.sub(r"[^a-z0-9_]+", "-", "-".join(words).lower()).strip("-")[:80]
        return cls(f"{name}-seed{settings.seed}", settings.digest(), settings.out, settings)

    @property
    def written(self) -> Mapping[str, object]:
        """Return all settings by name, as they are written down."""
        return self.settings.model_dump()

    @property
    def folder(self) -> Path:
        """Return where the run stands once it is finished."""
        return (Path(self.out) / f"{self.name}-{self.digest}").absolute()


@dataclass(frozen=True)
class Scenario:
    """One federation: who takes part in it and how, what is trained on what, and how the server aggregates.

    Attributes
    ----------
    seed : int
    hospitals : int
    threats : tuple of Threat
        In the order of the settings.
    spare_attacks : AttackChain
        The attacks of the settings where nobody carries them out.
    strategy : PipelineSpec
        As the settings write it.
    false_flag_rate : float or None
        For the last step of the strategy.
    server_step : ServerStep
        How far the model moves towards what the strategy's defence returns.
    proximal_mu : float
        Weight of FedProx's term in the hospitals.
    participation : Participation
        Who takes part in each round.
    rounds : int
        Rounds at most.
    lr : float
        The learning rate of the first round.
    patience : int
        Rounds without a better validation loss after which the run stops.
    noise_std : float
        Of the noise on the noisy test set.
    evaluations : EvaluationSpecs
        Of the last model.
    evaluate_images : int
        Test images for these, at most.
    views : int
        Views of each image that the server's evaluations average.
    data : DataSpec
    learner : LearnerSpec
    sanitize : str
        The methods by which each hospital leaves records out before training; empty for none.
    execution : Execution
    run : RunIdentity
    """

    seed: int
    hospitals: int
    threats: tuple[Threat, ...]
    spare_attacks: AttackChain
    strategy: PipelineSpec
    false_flag_rate: float | None
    server_step: ServerStep
    proximal_mu: float
    participation: Participation = field(compare=False)
    rounds: int
    lr: float
    patience: int
    noise_std: float
    evaluations: EvaluationSpecs
    evaluate_images: int
    views: int
    data: DataSpec
    learner: LearnerSpec
    sanitize: str
    execution: Execution
    run: RunIdentity

    @classmethod
    def of(cls, settings: Settings) -> Scenario:
        """Return the scenario of settings.

        Raises
        ------
        UserError
            If a specification is not understood, or an attack that is carried out is unknown.
        """
        return cls(
            seed=settings.seed,
            hospitals=settings.clients,
            threats=_drawn(settings),
            spare_attacks=AttackChain.parse(settings.attack),
            strategy=PipelineSpec.parse(settings.strategy),
            false_flag_rate=settings.false_flag_rate,
            server_step=_server_step(settings),
            proximal_mu=settings.proximal,
            participation=Participation(
                settings.clients,
                settings.seed,
                settings.participation,
                settings.per_round,
                settings.sampling,
                settings.availability,
            ),
            rounds=settings.rounds,
            lr=settings.lr,
            patience=settings.patience,
            noise_std=settings.noise_std,
            evaluations=EvaluationSpecs.parse(settings.evaluate),
            evaluate_images=settings.evaluate_images,
            views=settings.tte,
            data=_data(settings),
            learner=_learner(settings),
            sanitize=methods_of(settings.sanitize),
            execution=settings.execution(),
            run=RunIdentity.of(settings),
        )

    @property
    def task(self) -> str:
        """Return the task's name."""
        return "classification" if self.learner.synthesis is None else "synthesis"

    @cached_property
    def malicious(self) -> tuple[int, ...]:
        """Return the numbers of the malicious hospitals, ascending; they follow from the seed."""
        return _sorted(threat for threat in self.threats if threat.malicious)

    @cached_property
    def atypical(self) -> tuple[int, ...]:
        """Return the numbers of the hospitals that are atypical and benign, ascending."""
        return _sorted(threat for threat in self.threats if not threat.malicious)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know before the run."""
        if self.threats:
            idle = [threat for threat in self.threats if not self._is_ever_active(threat)]
            return tuple(
                f"attack '{threat.attacks.text}' is active in none of the {self.rounds} rounds"
                for threat in idle
            )
        if self.run.settings.attack == Settings.model_fields["attack"].default:
            return ()
        return (f"attack '{self.spare_attacks.text}' is carried out by nobody: no hospital is malicious",)

    def _is_ever_active(self, threat: Threat) -> bool:
        chain = self._chain(threat, 0)
        return any(
            all(is_active(behaviour, round) for behaviour in chain) for round in range(1, self.rounds + 1)
        )

    def threat_of(self, number: int) -> Threat | None:
        """Return the threat that a hospital belongs to; None for one like all others."""
        return next((threat for threat in self.threats if number in threat.hospitals), None)

    def attacks_of(self, number: int) -> list[Behaviour]:
        """Return fresh attacks of a hospital, in the order that ``+`` joins them; none for an honest one."""
        threat = self.threat_of(number)
        return [] if threat is None else self._chain(threat, threat.hospitals.index(number))

    def all_attacks(self) -> list[Behaviour]:
        """Return fresh attacks of all threats, as their first hospitals have them.

        Where nobody is malicious, those that the settings name all the same.
        """
        threats = self.threats or (Threat(self.spare_attacks, ()),)
        return [attack for threat in threats for attack in self._chain(threat, 0)]

    def _chain(self, threat: Threat, member: int) -> list[Behaviour]:
        attacks: list[Behaviour] = []
        for part in threat.attacks.parts:
            attack: Behaviour = instantiate(_kind(part), part.options, part.name)
            role = Role(
                part.name,
                threat.hospitals[member] if threat.hospitals else 0,
                self.hospitals,
                member,
                max(1, len(threat.hospitals)),
                self._defence.text,
                self.malicious,
                self.seed,
            )
            attack.bind(role=role)
            attacks.append(attack)
        return attacks

    @cached_property
    def _defence(self) -> PipelineSpec:
        """Return the strategy as the server builds it."""
        if self.false_flag_rate is None:
            return self.strategy
        return with_false_flag_rate(self.strategy, self.false_flag_rate)


def _kind(part: PluginSpec) -> type[Behaviour]:
    return find(part.name, "clients", (Behaviour,), "attack")


def _drawn(settings: Settings) -> tuple[Threat, ...]:
    """Return the threats, each with hospitals of its own."""
    drawn = generator(settings.seed, "malicious").permutation(settings.clients)
    found, start = [], 0
    for threat in settings.threats():
        hospitals = tuple(sorted(int(number) for number in drawn[start : start + threat.count]))
        malicious = any(_kind(part).malicious for part in threat.attacks.parts)
        found.append(Threat(threat.attacks, hospitals, malicious=malicious))
        start += threat.count
    return tuple(found)


def _sorted(threats: Iterable[Threat]) -> tuple[int, ...]:
    return tuple(sorted(number for threat in threats for number in threat.hospitals))


def _server_step(settings: Settings) -> ServerStep:
    """Return how the server moves the model; the defaults are those of the optimiser."""
    adam = settings.server_optimizer == "adam"
    lr, momentum = (_ADAM_LR, _ADAM_MOMENTUM) if adam else (1.0, 0.0)
    return ServerStep(
        settings.server_optimizer,
        lr if settings.server_lr is None else settings.server_lr,
        momentum if settings.server_momentum is None else settings.server_momentum,
    )


def _data(settings: Settings) -> DataSpec:
    return DataSpec(
        PluginSpec.parse(settings.data),
        settings.data_root,
        settings.download,
        settings.image_size,
        settings.split,
        settings.imbalance,
        PluginSpec.parse(settings.partition),
        settings.clients,
        settings.seed,
        settings.skip_bad,
        settings.site_tests,
    )


def _learner(settings: Settings) -> LearnerSpec:
    return LearnerSpec(
        seed=settings.seed,
        head=settings.head,
        loss=settings.loss,
        networks=settings.networks,
        backbone=PluginSpec.parse(settings.backbone),
        device=settings.device,
        batch_size=settings.batch_size,
        local_epochs=settings.local_epochs,
        weight_decay=settings.weight_decay,
        dr_weight=settings.dr_weight,
        mutual_weight=settings.mutual_weight,
        temperature=settings.temperature,
        init=settings.init,
        optimizer=optimizer_of(settings.optimizer),
        rule=training_rule_of(settings.training_rule, optimizer_of(settings.optimizer)),
        precision=settings.precision,
        augment=settings.augment == "light",
        attention=settings.attention,
        pruning=pruning_of(settings.prune, settings.rounds),
        adversary=adversary_of(settings.adversarial_training),
        synthesis=synthesis_of(settings.task),
    )

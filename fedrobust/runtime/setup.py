"""What a run needs before any hospital is asked: the data, the strategy and the task."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence

from fedrobust.data.sources import FederationData, prepare
from fedrobust.evaluation.server_data import ServerShare
from fedrobust.federation import Behaviour, Client, Defence
from fedrobust.flower.codec import NUM_EXAMPLES
from fedrobust.flower.hosted_strategy import HostedStrategy, build_strategy
from fedrobust.flower.reply_checks import Schema
from fedrobust.learners.base import Learner
from fedrobust.pipeline.no_effect import NoEffectMonitor
from fedrobust.plugins import find, origin_of
from fedrobust.results.manifest import plugin_classes
from fedrobust.runtime.profiling import Profile
from fedrobust.scenario import Scenario
from fedrobust.tasks import Task, task_class

__all__ = ["MakeTask", "Setup"]

#: Makes a task of the scenario, its data and the attacks that are carried out.
MakeTask = Callable[[Scenario, FederationData, Sequence[Behaviour]], Task]


class Setup:
    """The server's side of one federation, made from its scenario.

    Parameters
    ----------
    scenario : Scenario
    profile : Profile
        Counts the time that it takes.
    make_task : callable, optional
        The task of the scenario unless given.

    Attributes
    ----------
    strategy : Strategy
    data : FederationData
    task : Task
    server_data : ServerShare or None
        The labelled images of the server that the defence may use.
    malicious : tuple of int
        The numbers of the malicious hospitals, ascending.
    reported : frozenset or None
        The names and lengths of the metrics that the built-in hospital reports; None for another one.
    attacks : mapping of int to frozenset of str
        The names of the attacks of each hospital that has any.

    Raises
    ------
    UserError
        If the strategy, the attack or the data of the settings do not work.
    """

    def __init__(self, scenario: Scenario, profile: Profile, make_task: MakeTask | None = None) -> None:
        """Make everything that does not need the hospitals."""
        self.scenario = scenario
        self.strategy = build_strategy(
            scenario.strategy,
            scenario.hospitals,
            scenario.seed,
            scenario.false_flag_rate,
            scenario.server_step,
            scenario.participation.per_round,
        )
        attacks = scenario.all_attacks()
        for sentence in scenario.notes:
            warnings.warn(sentence, UserWarning, stacklevel=2)
        with profile.phase("data"):
            self.data = prepare(scenario.data)
        _note_duplicates(self.data)
        with profile.phase("imports"):
            # torch, which a task's learner would import anyway
            import fedrobust.learners.mutual  # noqa: F401
        make: MakeTask = make_task or task_class(scenario.task)
        self.task: Task = make(scenario, self.data, attacks if scenario.threats else [])
        # A file of initial weights that does not fit is refused before anything begins.
        self.task.learner.initial()
        if isinstance(self.strategy, HostedStrategy):
            self.strategy.layout = getattr(self.task.learner, "layout", None)
        self.server_data = self._attach_server_data()
        self.reported = _reported(self.task.learner, len(self.data.records.classes))
        self.malicious = scenario.malicious
        self.attacks = {
            number: frozenset(attack.role.name for attack in scenario.attacks_of(number))
            for threat in scenario.threats
            for number in threat.hospitals
        }
        self._preloaded = False
        _note_replaced_plugins(scenario)

    @property
    def defence(self) -> Defence | None:
        """Return the defence; None for a plain Flower strategy."""
        return self.strategy.defence if isinstance(self.strategy, HostedStrategy) else None

    @property
    def monitor(self) -> NoEffectMonitor | None:
        """Return what knows which parts of the pipeline had no effect; None for a plain Flower strategy."""
        return self.strategy.monitor if isinstance(self.strategy, HostedStrategy) else None

    def preload(self) -> None:
        """Let the defence import what it needs, so that no round counts that as its memory."""
        if self._preloaded or self.defence is None:
            return
        # Whatever fails here fails again, and is reported, where it is needed.
        with contextlib.suppress(Exception):
            self.defence.preload()
        self._preloaded = True

    def _attach_server_data(self) -> ServerShare | None:
        """Give the parts of the pipeline that ask for it a share of the validation images."""
        parts = self.strategy.pipeline.with_images if isinstance(self.strategy, HostedStrategy) else ()
        if not parts:
            return None
        # Parts of one pipeline see the same images: as many as the one that asks for most.
        share = self.task.server_data(max(part.server_share for part in parts))
        for part in parts if share is not None else ():
            part.server = share
        return share


def _note_duplicates(data: FederationData) -> None:
    """Warn of images that are trained on and tested on."""
    found = data.duplicates.parts
    if found:
        warnings.warn(
            f"{data.records.source}: {found} validation and test images have the same pixels as one of "
            f"another part, so results look better than they are; leave one of each out, or give both the "
            f"same patient",
            UserWarning,
            stacklevel=2,
        )


def _reported(learner: Learner, classes: int) -> Schema | None:
    """Return the metrics that hospitals report, if the learner says so and the hospital is the built-in."""
    names = getattr(learner, "reports", None)
    hospital = origin_of(find("hospital", "clients", (Client,), "client"))
    if names is None or hospital.kind != "built-in":
        return None
    by_class = {(name, classes if name.startswith("class-") else None) for name in names}
    return frozenset({*by_class, (NUM_EXAMPLES, None)})


def _note_replaced_plugins(scenario: Scenario) -> None:
    """Warn of each plug-in of the user's that stands in for a built-in one of the same name."""
    for origin in map(origin_of, dict.fromkeys(plugin_classes(scenario))):
        if origin.replaces_built_in:
            warnings.warn(
                f"{origin.file} replaces the built-in plug-in of this name; rename it to use that",
                UserWarning,
                stacklevel=2,
            )

"""The cells of a suite: each combination of its axes with each seed, and their clean baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedrobust.errors import UserError, nearest
from fedrobust.plugins import AttackChain, PipelineSpec, PluginSpec
from fedrobust.settings import Settings, load_settings
from fedrobust.suites.suite import DEFENCE, THREAT, Suite, Table

__all__ = ["Planned", "atypical_first", "chosen", "clean_baseline", "distinct", "plan"]

_NO_THREAT = ("", "none")


@dataclass(frozen=True)
class Planned:
    """One cell of a suite.

    Attributes
    ----------
    labels : mapping of str to str
        Its label on each axis.
    seed : int
    settings : Settings
    baseline : Settings or None
        The same federation without its attackers; None without attackers.
    """

    labels: Mapping[str, str]
    seed: int
    settings: Settings = field(compare=False)
    baseline: Settings | None = field(compare=False)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the labels, in the order of the axes."""
        return tuple(self.labels.values())

    def __str__(self) -> str:
        """Return the labels and the seed, for a sentence."""
        return ", ".join([*(f"{axis} {label}" for axis, label in self.labels.items()), f"seed {self.seed}"])


def plan(suite: Suite, execution_settings: Table) -> list[Planned]:
    """Return all cells of a suite, seed by seed, as a process keeps the last data that it prepared.

    Parameters
    ----------
    suite : Suite
    execution_settings : mapping
        Where and how to run, such as `data_root` and `out`.

    Raises
    ------
    UserError
        If settings do not fit together, a plug-in is unknown or two configurations are the same.
    """
    cells = [
        _planned(suite, labels, {**settings, **execution_settings}, seed)
        for seed in suite.seeds
        for labels, settings in suite.choices()
    ]
    _refuse_duplicates(suite, cells)
    _try_parts(suite, cells)
    return cells


def distinct(cells: Sequence[Planned]) -> dict[str, Settings]:
    """Return the runs that cells and their baselines need, each once, by the hash of its settings."""
    runs: dict[str, Settings] = {}
    for cell in cells:
        for settings in (cell.baseline, cell.settings):
            if settings is not None:
                runs.setdefault(settings.digest(), settings)
    return runs


def chosen(cells: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """Return the cells that ``AXIS=LABEL`` texts choose.

    Parameters
    ----------
    cells : sequence of Planned
    only : sequence of str
        The left side is an axis or a setting, or ``seed``. The right side is a label; else, where no cell
        has that label, a value; else the name of a plug-in whatever its options. Texts with the same left
        side add up, others narrow down.

    Raises
    ------
    UserError
        If a text has another form, or nothing is left.
    """
    wanted: dict[str, list[str]] = {}
    for text in only:
        axis, equals, label = text.partition("=")
        if not equals or not label.strip():
            raise UserError(f"--only '{text}' must be of the form AXIS=LABEL, such as strategy=fedavg")
        wanted.setdefault(axis.strip(), []).append(label.strip())
    left = list(cells)
    for axis, labels in wanted.items():
        answers = [_answers(cell, axis) for cell in left]
        kept: set[int] = set()
        for label in labels:
            matches = _matches(answers, label)
            if not matches:
                words = {word for tiers in answers for tier in tiers for word in tier}
                raise UserError(f"--only {axis}={label}: {_hint(cells[0], axis, label, words)}")
            kept |= matches
        left = [cell for place, cell in enumerate(left) if place in kept]
    return left


#: What a cell may be called on an axis: its label, values, names of plug-ins.
_Answers = tuple[frozenset[str], frozenset[str], frozenset[str]]


def _matches(answers: Sequence[_Answers], label: str) -> set[int]:
    """Return the places of the cells that a label means: a label precedes a value, then a plug-in's name."""
    for tier in range(3):
        found = {place for place, tiers in enumerate(answers) if label in tiers[tier]}
        if found:
            return found
    return set()


def _hint(cell: Planned, axis: str, label: str, words: set[str]) -> str:
    if words:
        return f"there is no such label here; {nearest(label, words)}"
    known = [*cell.labels, *(name.replace("_", "-") for name in Settings.model_fields)]
    return f"there is no such axis here; {nearest(axis, known)}"


def _answers(cell: Planned, axis: str) -> _Answers:
    """Return what a cell may be called on an axis."""
    if axis == "seed":
        return frozenset({str(cell.seed)}), frozenset(), frozenset()
    alias = DEFENCE if axis == "strategy" else axis
    labels = frozenset(cell.labels[name] for name in (axis, alias) if name in cell.labels)
    key = {DEFENCE: "strategy"}.get(axis, axis).replace("-", "_")
    if key not in Settings.model_fields:
        return labels, frozenset(), frozenset()
    if key == THREAT:
        threats = cell.settings.threats()
        chains = {threat.attacks.text for threat in threats} or {"none"}
        names = frozenset(part.name for threat in threats for part in threat.attacks.parts)
        return labels, frozenset({*cell.settings.threat, *chains}), names
    text = str(getattr(cell.settings, key))
    plugins = key in ("strategy", "attack", "partition", "data", "backbone")
    names = frozenset(part.name for part in _parts(key, text)) if plugins else frozenset()
    return labels, frozenset({text}), names


def _parts(key: str, text: str) -> tuple[PluginSpec, ...]:
    """Return the plug-ins that a setting names."""
    if key == "attack":
        return AttackChain.parse(text).parts
    return PipelineSpec.parse(text).parts if key == "strategy" else (PluginSpec.parse(text),)


def _planned(suite: Suite, labels: dict[str, str], values: Table, seed: int) -> Planned:
    given = {**values, "seed": seed}
    if given.get("threat") in _NO_THREAT:
        given["threat"] = ()
    try:
        settings = atypical_first(load_settings(given, where="settings"))
        return Planned(labels, seed, _with_oracle_informed(settings), clean_baseline(settings))
    except UserError as error:
        where = ", ".join(f"{axis} '{label}'" for axis, label in labels.items())
        raise UserError(f"suite {suite.name}{', ' + where if where else ''}: {error}") from None


def atypical_first(settings: Settings) -> Settings:
    """Name atypical hospitals first: they are drawn in that order, so a clean baseline has the same ones."""
    from fedrobust.scenario import Scenario

    if len(settings.threat) < 2:
        return settings
    threats = Scenario.of(settings).threats
    order = sorted(range(len(threats)), key=lambda place: threats[place].malicious)
    return settings.model_copy(update={"threat": tuple(settings.threat[place] for place in order)})


def _with_oracle_informed(settings: Settings) -> Settings:
    """Give an oracle the malicious hospitals, which no other strategy may know."""
    from fedrobust.scenario import Scenario

    *steps, rule = PipelineSpec.parse(settings.strategy).names
    if rule != "oracle":
        return settings
    informed = " | ".join([*steps, f"oracle(malicious={list(Scenario.of(settings).malicious)})"])
    return settings.model_copy(update={"strategy": informed})


def clean_baseline(settings: Settings) -> Settings | None:
    """Return the settings without malicious hospitals; atypical ones stay. None without an attack."""
    from fedrobust.scenario import Scenario

    threats = Scenario.of(settings).threats
    if not any(threat.malicious for threat in threats):
        return None
    kept = tuple(f"{t.attacks.text}:{len(t.hospitals)}" for t in threats if not t.malicious)
    values = settings.model_dump(exclude={"threat", "malicious", "attack"})
    return _with_oracle_informed(Settings(**values, threat=kept))


def _refuse_duplicates(suite: Suite, cells: Sequence[Planned]) -> None:
    seen: dict[str, Planned] = {}
    for cell in cells:
        other = seen.setdefault(cell.settings.digest(), cell)
        if other is not cell:
            raise UserError(
                f"suite {suite.name}: '{_differing_labels(other, cell)}' and "
                f"'{_differing_labels(cell, other)}' are the same runs; take one of them out"
            )


def _differing_labels(cell: Planned, other: Planned) -> str:
    differing = [label for axis, label in cell.labels.items() if label != other.labels[axis]]
    return ", ".join(differing) or str(cell)


#: The settings that name something to be built.
_TRIED = (
    *("strategy", "attack", "threat", "clients", "rounds", "optimizer", "adversarial_training", "prune"),
    "training_rule",
    *("server_optimizer", "server_lr", "server_momentum", "participation", "per_round", "availability"),
)


def _try_parts(suite: Suite, cells: Sequence[Planned]) -> None:
    """Build every strategy and attack once, so that a misspelt name is found before any run."""
    from fedrobust.flower.hosted_strategy import build_strategy
    from fedrobust.scenario import Scenario

    tried: set[tuple[object, ...]] = set()
    for cell in cells:
        settings = cell.settings
        key = tuple(getattr(settings, name) for name in _TRIED)
        if key in tried:
            continue
        tried.add(key)
        try:
            scenario = Scenario.of(settings)
            given = settings.seed, settings.false_flag_rate, scenario.server_step
            build_strategy(settings.strategy, settings.clients, *given, scenario.participation.per_round)
            scenario.all_attacks()
        except UserError as error:
            where = ", ".join(f"{axis} '{label}'" for axis, label in cell.labels.items())
            raise UserError(f"suite {suite.name}, {where}: {error}") from None

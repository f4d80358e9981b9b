"""Settings of a kind: those with options, those that name a run only where given, those of one task."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CALLS", "NAMED_IF_GIVEN", "check_task"]

#: Settings that enter a run's name only where they are not the default: runs without them keep theirs.
NAMED_IF_GIVEN = (
    *("skip_bad", "site_tests", "sanitize", "evaluate", "tte"),
    *("false_flag_rate", "optimizer", "proximal", "server_optimizer", "server_lr", "server_momentum"),
    *("participation", "per_round", "sampling", "availability", "training_rule"),
    *("init", "augment", "attention", "adversarial_training", "prune", "precision", "task"),
)

#: Settings that name something with options, which TOML may also give as a table.
CALLS = (
    *("attack", "strategy", "partition", "data", "backbone"),
    *("optimizer", "training_rule", "adversarial_training", "prune", "task"),
)

#: Settings of classification alone, which another task would not read.
_CLASSIFICATION = frozenset(
    {
        *("backbone", "head", "loss", "networks", "attention", "init", "augment", "adversarial_training"),
        *("prune", "dr_weight", "mutual_weight", "temperature", "optimizer", "weight_decay", "noise_std"),
        *("evaluate", "tte", "precision", "site_tests", "training_rule"),
    }
)


def check_task(task: str, changed: Iterable[str]) -> None:
    """Refuse settings, given the names of those that are not the default, which the task would not read."""
    given = sorted(_CLASSIFICATION.intersection(changed))
    if given and task.partition("(")[0].strip() != "classification":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        verb = "is" if len(given) == 1 else "are"
        raise ValueError(f"{flags} {verb} for classification; leave it out with --task {task}")

"""A pipeline from its specification."""

from __future__ import annotations

import inspect

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import PipelineSpec, PluginSpec, find, instantiate

__all__ = ["build_pipeline", "find_part", "with_false_flag_rate"]


def find_part(part: PluginSpec, *others: type) -> type:
    """Return the class of a step or a defence, or one that derives from one of the other bases.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    return find(part.name, "strategies", (Defence, PreAggregation, *others), "strategy")


def build_pipeline(spec: str | PipelineSpec) -> Pipeline:
    """Return a fresh pipeline.

    Raises
    ------
    UserError
        If a step is unknown, takes no such option, or stands in the wrong place.
    """
    spec = PipelineSpec.parse(spec)
    *steps, last = [instantiate(find_part(part), part.options, part.name) for part in spec.parts]
    if not isinstance(last, Defence) or not all(isinstance(step, PreAggregation) for step in steps):
        raise UserError(
            f"strategy '{spec.text}': a pipeline is pre-aggregation steps followed by one defence"
        )
    return Pipeline(last, tuple(steps), spec.names)


def with_false_flag_rate(spec: PipelineSpec, rate: float) -> PipelineSpec:
    """Return the specification with a false flag rate for its last step, unless it gives one itself.

    Raises
    ------
    UserError
        If the last step takes none.
    """
    *steps, last = spec.parts
    if "false_flag_rate" in last.options:
        return spec
    # A class by its path may be a plain Flower strategy, too.
    thing = find_part(last, *((object,) if ":" in last.name else ()))
    if "false_flag_rate" not in inspect.signature(thing).parameters:
        raise UserError(
            f"--false-flag-rate {rate:g}: strategy '{last.name}' has no option false_flag_rate; leave "
            f"the flag out or name a strategy that has it, such as isolation-forest"
        )
    return PipelineSpec.of([*steps, last.with_option("false_flag_rate", rate)])

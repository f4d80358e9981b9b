"""A pipeline from its specification."""

from __future__ import annotations

import inspect
import itertools

from fedrobust.errors import UserError
from fedrobust.federation import Defence, PreAggregation, Repair
from fedrobust.pipeline.pipeline import Pipeline
from fedrobust.plugins import PipelineSpec, PluginSpec, find, instantiate

__all__ = ["build_pipeline", "find_part", "with_false_flag_rate"]


def find_part(part: PluginSpec, *others: type) -> type:
    """Return the class of a step, a defence or a repair, or one that derives from one of the other bases.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    return find(part.name, "strategies", (Defence, PreAggregation, Repair, *others), "strategy")


def build_pipeline(spec: str | PipelineSpec) -> Pipeline:
    """Return a fresh pipeline.

    Raises
    ------
    UserError
        If a step is unknown, takes no such option, or stands in the wrong place.
    """
    spec = PipelineSpec.parse(spec)
    parts = [instantiate(find_part(part), part.options, part.name) for part in spec.parts]
    steps = tuple(itertools.takewhile(lambda part: isinstance(part, PreAggregation), parts))
    defence, *repairs = parts[len(steps) :] or [None]
    if not isinstance(defence, Defence) or not all(isinstance(part, Repair) for part in repairs):
        raise UserError(
            f"strategy '{spec.text}': a pipeline is pre-aggregation steps followed by one defence, "
            f"and by repairs if wanted"
        )
    return Pipeline(defence, steps, spec.names, repairs=tuple(repairs))


def with_false_flag_rate(spec: PipelineSpec, rate: float) -> PipelineSpec:
    """Return the specification with a false flag rate for its last step, unless it gives one itself.

    Raises
    ------
    UserError
        If the last step takes none.
    """
    # A class by its path may be a plain Flower strategy, too.
    kinds = [find_part(part, *((object,) if ":" in part.name else ())) for part in spec.parts]
    place = max((n for n, kind in enumerate(kinds) if not issubclass(kind, Repair)), default=0)
    last, thing = spec.parts[place], kinds[place]
    if "false_flag_rate" in last.options:
        return spec
    if "false_flag_rate" not in inspect.signature(thing).parameters:
        raise UserError(
            f"--false-flag-rate {rate:g}: strategy '{last.name}' has no option false_flag_rate; leave "
            f"the flag out or name a strategy that has it, such as isolation-forest"
        )
    given = last.with_option("false_flag_rate", rate)
    return PipelineSpec.of([*spec.parts[:place], given, *spec.parts[place + 1 :]])

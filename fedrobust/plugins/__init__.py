"""Plug-ins: names to classes (`discovery`), text to specifications (`specs`), and options (`options`)."""

from fedrobust.plugins.discovery import available, describe, find
from fedrobust.plugins.failures import place_of, reraise_as_user_error
from fedrobust.plugins.folders import PluginFolders, add_working_folder
from fedrobust.plugins.objects import RemembersOptions, spec_of
from fedrobust.plugins.options import (
    Fraction,
    Limits,
    OptionInfo,
    PositiveFraction,
    instantiate,
    limits,
    options_of,
)
from fedrobust.plugins.origin import Origin, origin_of, source_hash
from fedrobust.plugins.specs import AttackChain, EvaluationSpecs, PipelineSpec, PluginSpec, ThreatSpec

__all__ = [
    "AttackChain",
    "EvaluationSpecs",
    "Fraction",
    "Limits",
    "OptionInfo",
    "Origin",
    "PipelineSpec",
    "PluginFolders",
    "PluginSpec",
    "PositiveFraction",
    "RemembersOptions",
    "ThreatSpec",
    "add_working_folder",
    "available",
    "describe",
    "find",
    "instantiate",
    "limits",
    "options_of",
    "origin_of",
    "place_of",
    "reraise_as_user_error",
    "source_hash",
    "spec_of",
]

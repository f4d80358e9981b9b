"""Plug-ins: names to classes (`discovery`), text to specifications (`specs`), and options (`options`)."""

from fedrobust.plugins.discovery import add_working_folder, available, describe, find
from fedrobust.plugins.failures import reraise_as_user_error
from fedrobust.plugins.options import instantiate
from fedrobust.plugins.specs import parse_call, split_chain

__all__ = [
    "add_working_folder",
    "available",
    "describe",
    "find",
    "instantiate",
    "parse_call",
    "reraise_as_user_error",
    "split_chain",
]

"""Settings of one run: one validated model, filled from flags, a TOML file, or Flower's run config.

Only commands, suites and `fedrobust.scenario` read settings; all else gets the scenario that is made of them.
"""

from fedrobust.settings.execution import EXECUTION_SETTINGS, Execution
from fedrobust.settings.loading import load_settings, read_toml, read_toml_text
from fedrobust.settings.model import Settings
from fedrobust.settings.synonyms import SYNONYMS

__all__ = [
    "EXECUTION_SETTINGS",
    "SYNONYMS",
    "Execution",
    "Settings",
    "load_settings",
    "read_toml",
    "read_toml_text",
]

"""Settings and scenario in the run config of `flwr run`."""

from __future__ import annotations

import functools

from flwr.app import Context
from pydantic.fields import FieldInfo

from fedrobust.scenario import Scenario
from fedrobust.settings import Settings, load_settings

__all__ = ["scenario_from", "settings_from"]


def settings_from(context: Context) -> Settings:
    """Return the settings in Flower's run config."""
    return load_settings(_without_blanks(context), where="the run config")


def scenario_from(context: Context) -> Scenario:
    """Return the scenario of the settings in Flower's run config; a process keeps the last few."""
    return _scenario(settings_from(context))


@functools.lru_cache(maxsize=4)
def _scenario(settings: Settings) -> Scenario:
    return Scenario.of(settings)


def _without_blanks(context: Context) -> dict[str, object]:
    """Return the run config without what stands for 'not given', since Flower's has no null.

    That is, where the default is none, an empty string, and a 0 that the setting could not be.
    """
    optional = {
        key.replace("_", "-"): field for key, field in Settings.model_fields.items() if field.default is None
    }
    return {
        key: value
        for key, value in context.run_config.items()
        if key not in optional or not (value == "" or (value == 0 and not _may_be_zero(optional[key])))
    }


def _may_be_zero(setting: FieldInfo) -> bool:
    return any(getattr(bound, "ge", None) == 0 for bound in setting.metadata)

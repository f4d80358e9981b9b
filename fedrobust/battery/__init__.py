"""One battery of checks for every plug-in: what holds of a defence, a step, a behaviour or an attack."""

from fedrobust.battery.attacks import check_behaviour
from fedrobust.battery.defences import check_strategy
from fedrobust.battery.outcome import Outcome

__all__ = ["Outcome", "check_behaviour", "check_strategy"]

"""Defences and attacks for any Flower app: `strategy` for its ServerApp, `attack` for its ClientApp."""

from __future__ import annotations

from fedrobust.flower.apps.attack_mod import attack
from fedrobust.flower.apps.strategy import strategy

__all__ = ["attack", "strategy"]

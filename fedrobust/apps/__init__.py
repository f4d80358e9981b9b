"""Defences and attacks in anybody's Flower app: `strategy` for its ServerApp, `attack` for its ClientApp."""

from __future__ import annotations

from fedrobust.apps.attacking import attack
from fedrobust.apps.defending import strategy

__all__ = ["attack", "strategy"]

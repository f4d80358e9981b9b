"""The vocabulary of defences and behaviours: Update, Updates, Verdict, Defence, Behaviour, Attack.

Nothing here knows Flower, a network or a data set, so a rule can be read, tested and reused by itself. What a
round's replies offer to a rule stands in `fedrobust.federation.updates`.
"""

from fedrobust.data.records import Records
from fedrobust.federation.attack import Attack, GradientHook, LocalTraining, Trigger
from fedrobust.federation.behaviour import Behaviour, HookContext, Role
from fedrobust.federation.client import Client
from fedrobust.federation.defence import (
    Defence,
    DifferentiableServerData,
    Model,
    PreAggregation,
    Repair,
    ServerData,
    ServerModel,
    State,
    server_model,
)
from fedrobust.federation.layout import Layer, Layout
from fedrobust.federation.local_model import LocalModel
from fedrobust.federation.memory import Memory
from fedrobust.federation.updates import ClientMetrics, Update, Updates, Vector, Verdict

__all__ = [
    "Attack",
    "Behaviour",
    "Client",
    "ClientMetrics",
    "Defence",
    "DifferentiableServerData",
    "GradientHook",
    "HookContext",
    "Layer",
    "Layout",
    "LocalModel",
    "LocalTraining",
    "Memory",
    "Model",
    "PreAggregation",
    "Records",
    "Repair",
    "Report",
    "Role",
    "ServerData",
    "ServerModel",
    "State",
    "Trigger",
    "Update",
    "Updates",
    "Vector",
    "Verdict",
    "server_model",
]

#: The short name that plug-ins may use for `ClientMetrics`.
Report = ClientMetrics

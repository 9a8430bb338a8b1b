"""SDK of xApps: subscribe to twins, infer, decide.  Needs requests, urllib3 and numpy only.

from holon_xapp import CellEvent, ReservationPlan, Xapp

xapp = Xapp.from_environment()
xapp.ready()
for event in xapp.subscribe("cell"):
    ...
"""

from holon_xapp.decisions import (
    Decision,
    Order,
    Plan,
    PlannedReservation,
    ReservationPlan,
    adapt_link,
    handover,
    migrate,
    migrate_twin,
    offload,
    schedule,
)
from holon_xapp.errors import (
    ApiError,
    EventError,
    ModelError,
    SettingsError,
    Unreachable,
    XappError,
)
from holon_xapp.events import (
    CellEvent,
    DecisionEvent,
    Event,
    PolicyEvent,
    PredictedPlace,
    Reservation,
    SliceEvent,
    SliceState,
    SNssai,
    UserEvent,
    parse_event,
)
from holon_xapp.model import Model, find_model_folder, load_model
from holon_xapp.sdl import Sdl
from holon_xapp.settings import Settings
from holon_xapp.tunables import Tunables
from holon_xapp.xapp import Xapp

__all__ = [
    "ApiError",
    "CellEvent",
    "Decision",
    "DecisionEvent",
    "Event",
    "EventError",
    "Model",
    "ModelError",
    "Order",
    "Plan",
    "PlannedReservation",
    "PolicyEvent",
    "PredictedPlace",
    "Reservation",
    "ReservationPlan",
    "SNssai",
    "Sdl",
    "Settings",
    "SettingsError",
    "SliceEvent",
    "SliceState",
    "Tunables",
    "Unreachable",
    "UserEvent",
    "Xapp",
    "XappError",
    "adapt_link",
    "find_model_folder",
    "handover",
    "load_model",
    "migrate",
    "migrate_twin",
    "offload",
    "parse_event",
    "schedule",
]

"""Events of the stream as typed values.  Unknown keys are ignored, missing ones are errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from holon_xapp.errors import EventError

LINE_BYTES_SHOWN = 120


@dataclass(frozen=True, slots=True)
class SNssai:
    """`sst` 1 eMBB, 2 URLLC, 3 mIoT, 4 V2X; `sd` six hex digits."""

    sst: int
    sd: str

    def __str__(self) -> str:
        return f"{self.sst}-{self.sd}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """L2 kbit/s on the cell's downlink: guaranteed, and the ceiling."""

    min_kbps: float
    max_kbps: float


@dataclass(frozen=True, slots=True)
class SliceState:
    """One slice in one cell over the last window.  Demand is offered L2 rate, loss included."""

    slice_id: int
    s_nssai: SNssai
    traffic_class: str
    """`elastic` or `real_time`: the class whose reservation is shown."""
    users: int
    demand_kbps: float
    goodput_kbps: float
    loss_ratio: float
    owd_p95_ms: float | None
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class CellEvent:
    """A cell's window is complete: every slice of the network, as the cell's users saw it.

    `window` counts periods of `period_ms`; a gap means that nobody reported.  Times
    are CLOCK_REALTIME nanoseconds.
    """

    cell_id: str
    trace_id: str
    window: int
    period_ms: int
    completed_at_ns: int
    sent_at_ns: int
    received_at_ns: int
    capacity_kbps: float
    reservable_kbps: float
    slices: tuple[SliceState, ...]

    @property
    def measurement_id(self) -> str:
        """What a decision states in `based_on`."""
        return f"cell/{self.cell_id}/{self.window}"


@dataclass(frozen=True, slots=True)
class SliceEvent:
    """A slice's twin after an update: network-wide values, and `<name>.<cell_id>` per cell."""

    slice_key: str
    """sst-sd"""
    trace_id: str
    window: int
    version: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """A decision was made, or its effect became known; `record` is the whole document."""

    decision_id: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PredictedPlace:
    """Where the twin says that the user will be: within `radius_m` with probability 0.9."""

    horizon_s: float
    position_m: tuple[float, float]
    radius_m: float


@dataclass(frozen=True, slots=True)
class UserEvent:
    """A user's twin changed: a report came, or its forecasts were made.

    What the twin does not have (its model says so, or nothing was reported yet) is None or
    empty.  `twin` is the whole document.
    """

    ue_id: str
    version: int
    changed_at_ns: int
    """When its newest report was measured or its newest forecast made."""
    forecast_at_ns: int
    """When `places` were made; 0 without. Older than `changed_at_ns`: a report came since."""
    cell_id: str | None
    rsrp_dbm: Mapping[str, float]
    position_m: tuple[float, float] | None
    speed_mps: float | None
    places: tuple[PredictedPlace, ...]
    twin: Mapping[str, Any]

    @property
    def measurement_id(self) -> str:
        """What a decision states in `based_on`."""
        return f"user/{self.ue_id}/{self.version}"


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """An A1 policy of a type that the descriptor names, as it is wanted from now on.

    `operation`: CREATE (also of those that stood before the xApp listened), UPDATE or
    DELETE.  `payload` fits the type's schema.  Each is answered once: `Xapp.answer`.
    """

    operation: str
    policy_type_id: int
    policy_instance_id: str
    revision: int
    payload: Mapping[str, Any]


Event = CellEvent | SliceEvent | UserEvent | DecisionEvent | PolicyEvent


def parse_event(line: bytes | str) -> Event:
    """One line of the stream; raises `EventError`."""
    try:
        document = json.loads(line)
        return _PARSERS[document["kind"]](document)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        shown = line[:LINE_BYTES_SHOWN]
        reason = f"{type(error).__name__}: {error}"
        raise EventError(f"not an event of this API ({reason}): {shown!r}") from None


def _cell(document: Mapping[str, Any]) -> CellEvent:
    return CellEvent(
        cell_id=str(document["id"]),
        trace_id=str(document["trace_id"]),
        window=int(document["window"]),
        period_ms=int(document["period_ms"]),
        completed_at_ns=int(document["completed_at_ns"]),
        sent_at_ns=int(document["sent_at_ns"]),
        received_at_ns=int(document["received_at_ns"]),
        capacity_kbps=float(document["capacity_kbps"]),
        reservable_kbps=float(document["reservable_kbps"]),
        slices=tuple(_slice_state(item) for item in document["slices"]),
    )


def _slice_state(item: Mapping[str, Any]) -> SliceState:
    delay_ms = item["owd_p95_ms"]
    held = item["reservation"]
    return SliceState(
        slice_id=int(item["slice_id"]),
        s_nssai=SNssai(int(item["s_nssai"]["sst"]), str(item["s_nssai"]["sd"])),
        traffic_class=str(item["traffic_class"]),
        users=int(item["users"]),
        demand_kbps=float(item["demand_kbps"]),
        goodput_kbps=float(item["goodput_kbps"]),
        loss_ratio=float(item["loss_ratio"]),
        owd_p95_ms=None if delay_ms is None else float(delay_ms),
        reservation=Reservation(float(held["min_kbps"]), float(held["max_kbps"])),
    )


def _slice(document: Mapping[str, Any]) -> SliceEvent:
    return SliceEvent(
        slice_key=str(document["id"]),
        trace_id=str(document["trace_id"]),
        window=int(document["window"]),
        version=int(document["version"]),
        values=dict(document["values"]),
    )


def _user(document: Mapping[str, Any]) -> UserEvent:
    radio, user = document["connectivity"], document["user"]
    location = user.get("location_m", {})
    predicted = location.get("predicted", {})
    place = _value(location)
    measured_at_ns = [int(a["measured_at"]) for a in (*radio.values(), *user.values())]
    return UserEvent(
        ue_id=str(document["id"]),
        version=int(document["version"]),
        changed_at_ns=max([int(predicted.get("made_at", 0)), *measured_at_ns]),
        forecast_at_ns=int(predicted.get("made_at", 0)),
        cell_id=_value(radio.get("serving_cell", {})),
        rsrp_dbm=dict(_value(radio.get("rsrp_dbm", {})) or {}),
        position_m=None if place is None else (float(place[0]), float(place[1])),
        speed_mps=_value(user.get("speed_mps", {})),
        places=tuple(_place(h) for h in predicted.get("horizons", ())),
        twin=dict(document),
    )


def _value(attribute: Mapping[str, Any]) -> Any:
    return attribute.get("value")


def _place(horizon: Mapping[str, Any]) -> PredictedPlace:
    x_m, y_m = horizon["value"]
    radius_m = float(horizon["radius_m"]["0.9"])
    return PredictedPlace(horizon["horizon_ms"] / 1000, (float(x_m), float(y_m)), radius_m)


def _decision(document: Mapping[str, Any]) -> DecisionEvent:
    return DecisionEvent(decision_id=str(document["id"]), record=dict(document))


def _policy(document: Mapping[str, Any]) -> PolicyEvent:
    return PolicyEvent(
        operation=str(document["operation"]),
        policy_type_id=int(document["policy_type_id"]),
        policy_instance_id=str(document["policy_instance_id"]),
        revision=int(document["revision"]),
        payload=dict(document["payload"]),
    )


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Event]] = {
    "cell": _cell,
    "slice": _slice,
    "user": _user,
    "decision": _decision,
    "policy": _policy,
}

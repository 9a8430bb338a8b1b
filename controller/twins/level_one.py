"""Level-one abstraction (VL2): one twin per user, kept at the edge that serves it.

Formed from the user's reports and from what the network knows of the user (its
attachment).  Pure functions on plain data: who receives reports and keeps the
twins is `controller/local`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from controller.contracts.twin_messages import FlowReport, UserReport
from controller.twins import qoe
from controller.twins.predictions import Prediction
from controller.twins.report_log import (
    ReportLog,
    Row,
    Shape,
    document_of,
    report_of,
    row_of,
    row_of_zeros,
)

EXPIRY_PERIODS = 5
"""A twin without a report for that many of its periods is forgotten."""

UNITS: Mapping[str, str | None] = MappingProxyType(
    {
        "serving_cell": None,
        "rsrp_dbm": "dBm",
        "rsrq_db": "dB",
        "snr_db": "dB",
        "cqi": None,
        "down_kbps": "kbit/s",
        "up_kbps": "kbit/s",
        "location_m": "m",
        "speed_mps": "m/s",
        "kind": None,
        "slice_id": None,
        "demand_kbps": "kbit/s",
        "goodput_kbps": "kbit/s",
        "loss_ratio": "ratio",
        "owd_p95_ms": "ms",
        "mos": None,
        "qoe_mos": None,
        "heading_deg": "degree",
        "odometer_m": "m",
        "operations": "count",
        "slices": None,
        "handover_kind": None,
        "compute_cores": "cores",
        "cache_bytes": "bytes",
        "queue_min_kbps": "kbit/s",
        "queue_max_kbps": "kbit/s",
        "queue_share_kbps": "kbit/s",
        "users_sharing": "count",
        "user_meter_kbps": "kbit/s",
    }
)
"""The one table of level-one attribute names; None: a name, not a quantity."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One value with its provenance.  `period_ms` None: set on change, not sampled."""

    value: Any
    measured_at_ns: int
    period_ms: int | None
    source: str


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class UserTwin(NamedTuple):
    """`version` is the sequence number of the newest report merged.

    Attribute names: `connectivity.<name>`, `user.<name>`, `use_case.<name>` and
    `services.<service>.<down|up>.<name>`, <name> being a key of `UNITS`.
    """

    ue_id: str
    version: int
    measured_at_ns: int
    arrived_at_ns: int
    period_ms: int
    """Between two datagrams of the user, so a batch counts as one."""
    newest: Row | None
    """The newest report; None until one came to the edge that the twin moved to."""
    kept: Mapping[str, Attribute]
    """What the newest report does not say, or says less newly."""
    history: ReportLog
    predicted: Mapping[str, Prediction] = _NOTHING
    """By attribute name; a forecast stays until a newer one replaces it."""

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """Computed when asked: reports come far more often than readers."""
        if self.newest is None:
            return self.kept
        report = report_of(self.ue_id, self.newest)
        reported = {
            name: Attribute(value, report.measured_at_ns, report.period_ms, "user report")
            for name, value in _reported_values(report).items()
        }
        return {**reported, **self.kept}

    def names(self, name: str) -> bool:
        """Has it that attribute?"""
        return name in self.kept or (self.newest is not None and name in _names(self.newest.shape))


def merge_report(
    twin: UserTwin | None, report: UserReport, arrived_at_ns: int, history_length: int
) -> UserTwin:
    """The user's next twin.

    Only what the report measured is replaced: a value of another source stays if
    it is newer.  Services that the report no longer names are gone.  A version
    never goes back: ValueError for a report that is not newer than the twin.
    """
    if twin is not None and report.sequence <= twin.version:
        raise ValueError(
            f"report {report.sequence} of {report.ue_id} is not newer than version {twin.version}"
        )
    row = row_of(report)
    log = ReportLog(report.ue_id, history_length) if twin is None else twin.history
    return UserTwin(
        report.ue_id,
        report.sequence,
        report.measured_at_ns,
        arrived_at_ns,
        report.period_ms * report.batch_reports,
        row,
        _NOTHING if twin is None else _still_kept(twin, row.shape, report.measured_at_ns),
        log.appended(row, history_length),
        _NOTHING if twin is None else twin.predicted,
    )


def _still_kept(twin: UserTwin, shape: Shape, measured_at_ns: int) -> Mapping[str, Attribute]:
    """Of the twin's attributes those that a report of that shape and time does not replace."""
    before = twin.newest.shape if twin.newest is not None else None
    if not twin.kept and (before is shape or before is None):
        return _NOTHING
    says = _names(shape)
    missing = _lasting_names(before) - says if before is not None else frozenset()
    candidates = dict(twin.kept)
    if missing:
        attributes = twin.attributes
        candidates |= {name: attributes[name] for name in missing}
    return {
        name: attribute
        for name, attribute in candidates.items()
        if not name.startswith("services.")
        and (name not in says or attribute.measured_at_ns > measured_at_ns)
    } or _NOTHING


@lru_cache(maxsize=4096)
def _names(shape: Shape) -> frozenset[str]:
    """Of the attributes that a report of that shape has."""
    return frozenset(_reported_values(report_of("", row_of_zeros(shape))))


@lru_cache(maxsize=4096)
def _lasting_names(shape: Shape) -> frozenset[str]:
    """Those that stay when a later report does not have them."""
    return frozenset(name for name in _names(shape) if not name.startswith("services."))


def merge_attachment(twin: UserTwin, cell_id: str, at_ns: int) -> UserTwin:
    """The twin after the network moved the user to `cell_id`: known before the user says so."""
    known = twin.attributes.get("connectivity.serving_cell")
    if known is not None and known.measured_at_ns > at_ns:
        return twin
    serving = Attribute(cell_id, at_ns, None, "attachment")
    return twin._replace(kept={**twin.kept, "connectivity.serving_cell": serving})


def merge_predictions(
    twin: UserTwin,
    predicted: Mapping[str, Prediction],
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> UserTwin:
    """The twin with those forecasts, new and held, that are wanted and of attributes it has."""
    kept = {
        name: p
        for name, p in {**twin.predicted, **predicted}.items()
        if is_wanted(name) and twin.names(name)
    }
    return twin._replace(predicted=kept)


def is_expired(twin: UserTwin, now_ns: int) -> bool:
    return now_ns - twin.arrived_at_ns > EXPIRY_PERIODS * twin.period_ms * 1_000_000


def changed_at_ns(twin: UserTwin) -> int:
    """When its newest report arrived or its newest forecast was made."""
    return max([twin.arrived_at_ns, *(p.made_at_ns for p in twin.predicted.values())])


def age_ms(twin: UserTwin, now_ns: int) -> float:
    """Since the newest report was measured, not since it arrived."""
    return (now_ns - twin.measured_at_ns) / 1e6


def twin_summary(twin: UserTwin, now_ns: int) -> dict[str, Any]:
    return {
        "kind": "user",
        "id": twin.ue_id,
        "version": twin.version,
        "age_ms": age_ms(twin, now_ns),
    }


def twin_document(twin: UserTwin, now_ns: int) -> dict[str, Any]:
    """The twin as the API shows it: nested by the dots of its attribute names."""
    document: dict[str, Any] = {
        **twin_summary(twin, now_ns),
        "period_ms": twin.period_ms,
        "history_length": len(twin.history),
        "connectivity": {},
        "services": {},
        "user": {},
        "use_case": {},
    }
    shown = {**twin.attributes, **experience(twin)}
    for name, attribute in sorted(shown.items(), key=lambda item: item[0]):
        group, *rest, leaf = name.split(".")
        place = document[group]
        for step in rest:
            place = place.setdefault(step, {})
        place[leaf] = _attribute_document(leaf, attribute, now_ns)
        if (prediction := twin.predicted.get(name)) is not None:
            place[leaf]["predicted"] = {
                "made_at": prediction.made_at_ns,
                "source": prediction.source,
                "horizons": prediction.horizons,
            }
    return document


def experience(twin: UserTwin) -> dict[str, Attribute]:
    """QoE of each service and of the user, from what the twin knows of them (`qoe`)."""
    by_place: dict[str, dict[str, Any]] = {}
    measured: dict[str, Attribute] = {}
    for name, attribute in twin.attributes.items():
        place, _, leaf = name.rpartition(".")
        if name.startswith("services."):
            by_place.setdefault(place, {})[leaf] = attribute.value
            measured[place] = attribute

    def judged(value: float | None, like: Attribute) -> Attribute:
        return replace(like, value=value, source=qoe.SOURCE)

    found = {
        f"{place}.mos": judged(qoe.service_mos(leaves), measured[place])
        for place, leaves in by_place.items()
    }
    if measured:
        newest = max(measured.values(), key=lambda a: a.measured_at_ns)
        found["user.qoe_mos"] = judged(qoe.user_mos(by_place.values()), newest)
    return found


def history_documents(twin: UserTwin, last: int) -> list[dict[str, Any]]:
    """The newest `last` reports, oldest first; ValueError below 1."""
    if last < 1:
        raise ValueError(f"last={last}: ask for at least 1 entry of history")
    return [document_of(report) for report in twin.history.reports(last)]


def _reported_values(report: UserReport) -> dict[str, Any]:
    values: dict[str, Any] = {
        "connectivity.serving_cell": report.cell_id,
        "connectivity.rsrp_dbm": report.rsrp_dbm,
        "user.location_m": report.position_m,
        "user.speed_mps": report.speed_mps,
        "user.kind": report.kind,
    }
    for name in ("rsrq_db", "snr_db", "cqi", "down_kbps", "up_kbps"):
        if getattr(report, name) is not None:
            values[f"connectivity.{name}"] = getattr(report, name)
    for name in ("heading_deg", "odometer_m", "operations"):
        if getattr(report, name) is not None:
            values[f"use_case.{name}"] = getattr(report, name)
    values = {name: value for name, value in values.items() if value not in (None, {})}
    by_service: dict[str, list[FlowReport]] = {}
    for flow in report.flows:
        direction = "up" if flow.up else "down"
        by_service.setdefault(f"services.{flow.service}.{direction}", []).append(flow)
    for place, flows in by_service.items():
        values |= {f"{place}.{name}": value for name, value in service_values(flows).items()}
    return values


def service_values(flows: Iterable[FlowReport]) -> dict[str, Any]:
    """Volume and QoS of one service in one direction over its flows (at least one).

    Rates are summed, loss is weighted with demand, delay is the worst flow's.
    """
    present = list(flows)
    demand_kbps = sum(f.demand_kbps for f in present)
    lost_kbps = sum(f.demand_kbps * f.loss_ratio for f in present)
    return {
        "slice_id": present[0].slice_id,
        "demand_kbps": demand_kbps,
        "goodput_kbps": sum(f.goodput_kbps for f in present),
        "loss_ratio": lost_kbps / demand_kbps if demand_kbps > 0 else 0.0,
        "owd_p95_ms": max(
            (f.owd_p95_ms for f in present if f.owd_p95_ms is not None), default=None
        ),
    }


def _attribute_document(name: str, attribute: Attribute, now_ns: int) -> dict[str, Any]:
    return {
        "value": attribute.value,
        "unit": UNITS[name],
        "measured_at": attribute.measured_at_ns,
        "age_ms": (now_ns - attribute.measured_at_ns) / 1e6,
        "period_ms": attribute.period_ms,
        "source": attribute.source,
    }

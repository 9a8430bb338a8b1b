"""What a report in a user twin's history says of an attribute, and as rows of a table. Pure.

Reports are looked at as the JSON they came as: parsing each into a model would cost more
than the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.contracts.slices import Slice
from controller.contracts.twin_messages import FlowReport
from controller.twins import qoe
from controller.twins.level_one import service_values
from controller.twins.series import Sample

Report = Mapping[str, Any]

_FIELDS = {
    "connectivity.serving_cell": "cell_id",
    "user.location_m": "position_m",
    "user.location_m.x": "position_m",
    "user.location_m.y": "position_m",
}


def samples_of(reports: Iterable[Report], attribute: str) -> list[Sample]:
    """The reports that have it, oldest first; attributes are named as in the twin.

    `user.location_m.x` and `.y` and `connectivity.rsrp_dbm.<cell>` are numbers.
    """
    return [
        Sample(report["window"], report["measured_at_ns"], value)
        for report in reports
        if (value := value_in(report, attribute)) is not None
    ]


def value_in(report: Report, attribute: str) -> Any:
    """None where the report does not say."""
    group, _, rest = attribute.partition(".")
    if attribute in _FIELDS:
        value = report.get(_FIELDS[attribute])
        axis = {"x": 0, "y": 1}.get(rest.rpartition(".")[2])
        return value if axis is None or value is None else value[axis]
    if group == "services":
        place, _, leaf = rest.rpartition(".")
        return _services(report).get(place, {}).get(leaf)
    if attribute == "user.qoe_mos":
        return qoe.user_mos(_services(report).values())
    if attribute.startswith("connectivity.rsrp_dbm."):
        return report["rsrp_dbm"].get(rest.partition(".")[2])
    if group in ("connectivity", "user", "use_case"):
        value = report.get(rest)
        return None if value == {} else value
    return None


def attributes_in(report: Report) -> list[str]:
    """Those that a history can be asked for, as far as this report has them."""
    own = [
        *_FIELDS,
        *(f"connectivity.{name}" for name in ("rsrq_db", "snr_db", "cqi", "down_kbps", "up_kbps")),
        *(f"connectivity.rsrp_dbm.{cell_id}" for cell_id in report["rsrp_dbm"]),
        "user.speed_mps",
        "user.qoe_mos",
        *(f"use_case.{name}" for name in ("heading_deg", "odometer_m", "operations")),
        *(f"services.{p}.{leaf}" for p, leaves in _services(report).items() for leaf in leaves),
    ]
    return sorted(name for name in own if value_in(report, name) is not None)


def _services(report: Report) -> dict[str, dict[str, Any]]:
    """`<service>.<down|up>` -> its values, the judged quality included."""
    flows: dict[str, list[FlowReport]] = {}
    for flow in report["flows"]:
        place = f"{flow['service']}.{'up' if flow['up'] else 'down'}"
        flows.setdefault(place, []).append(FlowReport.model_construct(**flow))
    found = {place: service_values(own) for place, own in flows.items()}
    return {place: {**leaves, "mos": qoe.service_mos(leaves)} for place, leaves in found.items()}


@dataclass(frozen=True)
class UserRow:
    """What a user's twin had of one of its slices in one report; rates in L2 kbit/s.

    None: that report did not say (the twin model asks for it less often).
    """

    measured_at_ns: int
    window: int
    period_ms: int
    ue_id: str
    kind: str
    version: int
    cell_id: str
    sst: int
    sd: str
    slice_name: str
    slice_id: int
    demand_kbps: float
    goodput_kbps: float
    loss_ratio: float
    owd_p95_ms: float | None
    up_demand_kbps: float
    up_goodput_kbps: float
    mos: float | None
    rsrp_dbm: float | None
    x_m: float | None
    y_m: float | None
    speed_mps: float | None
    heading_deg: float | None


def rows_of(report: Report, slices: Iterable[Slice]) -> Iterator[UserRow]:
    """One for each slice the user has a session in."""
    x_m, y_m = report.get("position_m") or (None, None)
    for slice_ in slices:
        own = [
            FlowReport.model_construct(**f)
            for f in report["flows"]
            if f["slice_id"] == slice_.slice_id
        ]
        down = _sum([f for f in own if not f.up])
        up = _sum([f for f in own if f.up])
        yield UserRow(
            measured_at_ns=report["measured_at_ns"],
            window=report["window"],
            period_ms=report["period_ms"],
            ue_id=report["ue_id"],
            kind=report["kind"],
            version=report["sequence"],
            cell_id=report["cell_id"],
            sst=slice_.s_nssai.sst,
            sd=slice_.s_nssai.sd,
            slice_name=slice_.name,
            slice_id=slice_.slice_id,
            demand_kbps=round(down["demand_kbps"], 3),
            goodput_kbps=round(down["goodput_kbps"], 3),
            loss_ratio=round(down["loss_ratio"], 6),
            owd_p95_ms=down["owd_p95_ms"],
            up_demand_kbps=round(up["demand_kbps"], 3),
            up_goodput_kbps=round(up["goodput_kbps"], 3),
            mos=qoe.service_mos(down),
            rsrp_dbm=report["rsrp_dbm"].get(report["cell_id"]),
            x_m=x_m,
            y_m=y_m,
            speed_mps=report.get("speed_mps"),
            heading_deg=report.get("heading_deg"),
        )


def _sum(flows: list[FlowReport]) -> dict[str, Any]:
    if flows:
        return service_values(flows)
    return {"demand_kbps": 0.0, "goodput_kbps": 0.0, "loss_ratio": 0.0, "owd_p95_ms": None}

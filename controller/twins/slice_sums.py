"""What a slice's twin says of the slice as a whole: sums over its cells and servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.twins.twin import Attribute, Twin

COUNTERS = "switch counters"
POWER_SOURCE = "linear power model on switch counters"
SLA_SOURCE = "sla_satisfied by window"
SERVICES_SOURCE = "processes of task services"
SLA_WINDOW_S = 60.0
"""`sla_satisfied_ratio` is over the windows that ended within it."""
OF_SERVICES = ("requests_per_s", "compute_cores", "cache_bytes")


@dataclass(frozen=True)
class ServiceLoad:
    """What a task service did at a server since it was last asked."""

    slice_id: int
    host: str
    requests_per_s: float
    compute_cores: float
    """Processor time per second of its process."""
    cache_bytes: int
    """State it holds there."""


@dataclass
class SatisfiedWindows:
    """Was the SLA satisfied, by window; each counts once, as its last cell left it."""

    period_ms: int
    _windows: dict[int, bool] = field(default_factory=dict)

    def note(self, window: int, satisfied: bool) -> None:
        self._windows[window] = satisfied

    def attribute(self, now_ns: int) -> Attribute:
        """The share over the last `SLA_WINDOW_S` up to the newest window."""
        oldest = max(self._windows) - SLA_WINDOW_S * 1000 / self.period_ms
        self._windows = {w: s for w, s in self._windows.items() if w > oldest}
        ratio = sum(self._windows.values()) / len(self._windows)
        return Attribute(ratio, now_ns, self.period_ms, SLA_SOURCE)


def demand_shares(twin: Twin, patience_ms: int, now_ns: int) -> dict[str, Attribute]:
    """How the slice's demand lies over its cells that still speak; shares of nothing are None."""
    cells = {
        name.partition(".")[2]: attribute
        for name, attribute in twin.attributes.items()
        if name.startswith("demand_kbps.")
        and attribute.measured_at_ns >= now_ns - patience_ms * 1_000_000
    }
    total_kbps = sum(a.value or 0.0 for a in cells.values())
    return {
        f"demand_share_ratio.{cell_id}": Attribute(
            (a.value or 0.0) / total_kbps if total_kbps else None,
            a.measured_at_ns,
            a.period_ms,
            a.source,
        )
        for cell_id, a in cells.items()
    }


def rate_totals(
    twin: Twin, capacity_kbps: Mapping[str, float], period_ms: int, now_ns: int
) -> dict[str, Attribute]:
    """Rates, utilisation and power over the slice's cells; energy grows by what was drawn
    since the last poll."""

    def of_cells(name: str) -> dict[str, float]:
        return {
            key.partition(".")[2]: attribute.value
            for key, attribute in twin.attributes.items()
            if key.startswith(f"{name}.") and attribute.value is not None
        }

    def counted(value: float, source: str = COUNTERS) -> Attribute:
        return Attribute(value, now_ns, period_ms, source)

    delivered, power = of_cells("delivered_kbps"), of_cells("power_w")
    found = {"arrived_kbps": counted(sum(of_cells("arrived_kbps").values()))}
    if delivered:
        total_kbps = sum(delivered.values())
        found["delivered_kbps"] = counted(total_kbps)
        found["utilisation_ratio"] = counted(total_kbps / sum(capacity_kbps[c] for c in delivered))
    if power:
        before = twin.attributes.get("energy_j")
        power_w = sum(power.values())
        energy_j = ((before.value or 0.0) if before else 0.0) + power_w * period_ms / 1000
        found["power_w"] = counted(power_w, POWER_SOURCE)
        found["energy_j"] = counted(energy_j, POWER_SOURCE)
    return found


def service_attributes(
    twin: Twin, loads: Sequence[ServiceLoad], period_ms: int, now_ns: int
) -> dict[str, Attribute]:
    """By server and in total; a server that its services have left falls to 0."""
    values = {k: 0.0 for k in twin.attributes if k.partition(".")[0] in OF_SERVICES}
    for load in loads:
        for key in OF_SERVICES:
            for place in (key, f"{key}.{load.host}"):
                values[place] = values.get(place, 0.0) + getattr(load, key)
    return {k: Attribute(v, now_ns, period_ms, SERVICES_SOURCE) for k, v in values.items()}

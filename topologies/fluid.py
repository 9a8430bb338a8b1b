"""A scenario as a fluid: what each slice asks of each cell's downlink, without packets.

Pure: demand, mobility and A3 handovers put together.  Feeds the training of
forecasts and the grid search of the static split; the emulation does not use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.contracts.inventory import HandoverConfig
from topologies.demand import rates_mbps
from topologies.radio import rsrp_table_dbm
from topologies.scenario.schema import Scenario

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

L2_OVERHEAD_BYTES = 42
"""Ethernet, IPv4 and UDP headers around a payload."""
HANDOVER_RESOLUTION_S = 0.1


@dataclass(frozen=True)
class Handover:
    t_s: float
    ue_id: str
    source: str
    target: str


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """The same scenario under another seed."""
    return scenario.model_copy(update={"seed": seed})


def step_times_s(duration_s: float, step_s: float, start_s: float = 0.0) -> FloatArray:
    """Middle of each step of a duration."""
    return np.asarray(start_s + (np.arange(round(duration_s / step_s)) + 0.5) * step_s)


def cell_slice_demand(
    scenario: Scenario, seed: int, duration_s: float, step_s: float
) -> FloatArray:
    """Downlink demand in L2 kbit/s, shape [cell, slice, step], at the middle of each step.

    Cells and slices in the scenario's order.  Traffic and probes, not the filler.
    `tcp` flows count with their cap.
    """
    scenario = with_seed(scenario, seed)
    t_s = step_times_s(duration_s, step_s)
    slice_index = {s.name: i for i, s in enumerate(scenario.slices)}
    demand_kbps = np.zeros((len(scenario.access_points), len(scenario.slices), t_s.size))
    serving = {u.name: serving_index(scenario, u.name, t_s) for u in scenario.users}
    steps = np.arange(t_s.size)
    for user, slice_name, flow_kbps in downlink_flows_kbps(scenario, t_s):
        demand_kbps[serving[user], slice_index[slice_name], steps] += flow_kbps
    return demand_kbps


def downlink_flows_kbps(scenario: Scenario, t_s: FloatArray) -> list[tuple[str, str, FloatArray]]:
    """(user, slice, L2 kbit/s at each time) of every downlink flow and probe."""
    slice_of = {s.name: s.slice for s in scenario.services}
    flows = [
        (
            user,
            slice_of[spec.service],
            1000 * rates_mbps(spec.demand, scenario.seed, f"{spec.name}-{user}", t_s),
        )
        for spec in scenario.traffic
        if spec.direction == "down"
        for user in spec.users
    ]
    for probe in scenario.probes:
        kbps = probe.rate_pps * (probe.packet_bytes + L2_OVERHEAD_BYTES) * 8 / 1000
        for user in probe.users:
            flows.append((user, slice_of[probe.service], np.full(t_s.shape, kbps)))
    return flows


def serving_index(scenario: Scenario, user: str, t_s: FloatArray) -> IntArray:
    """Index of the cell that serves `user` at each time (increasing), by A3 from t = 0 on.

    Radio is looked at once per report period, as local controllers do.
    """
    period_s = scenario.twins.report_period_ms / 1000
    last_s = float(t_s[-1]) if t_s.size else 0.0
    radio_s = np.arange(0.0, last_s + 2 * period_s, period_s)
    own = next(u.handover for u in scenario.users if u.name == user)
    config = own or scenario.handover
    offsets_db = [config.cell_offsets_db.get(ap.name, 0.0) for ap in scenario.access_points]
    weighed_dbm = rsrp_table_dbm(scenario, user, radio_s) + np.array(offsets_db)
    attached = a3_attachments(weighed_dbm, config, period_s)
    return attached[np.searchsorted(radio_s, t_s, side="right") - 1]


def a3_attachments(rsrp_dbm: FloatArray, handover: HandoverConfig, step_s: float) -> IntArray:
    """Serving cell after each step of RSRP [time, cell]: strongest first, then A3 events.

    TS 38.331 5.5.4.4: a neighbour better than the serving cell by hysteresis and
    offset for the time to trigger. Cells' own offsets are in `rsrp_dbm` already.
    """
    serving = int(np.argmax(rsrp_dbm[0]))
    better_s = np.full(rsrp_dbm.shape[1], -step_s)
    attached = np.empty(rsrp_dbm.shape[0], dtype=np.int64)
    for step, row in enumerate(rsrp_dbm):
        entered = row > row[serving] + handover.hysteresis_db + handover.a3_offset_db
        better_s = np.where(entered, better_s + step_s, -step_s)
        ready = entered & (better_s >= handover.time_to_trigger_ms / 1000)
        if ready.any():
            serving = int(np.argmax(np.where(ready, row, -np.inf)))
            better_s[:] = -step_s
        attached[step] = serving
    return attached


def handovers(scenario: Scenario, seed: int, duration_s: float) -> list[Handover]:
    """Every A3 handover of all users within a duration, in the order of time."""
    scenario = with_seed(scenario, seed)
    names = [ap.name for ap in scenario.access_points]
    t_s = np.arange(0.0, duration_s, HANDOVER_RESOLUTION_S)
    events = []
    for user in scenario.users:
        serving = serving_index(scenario, user.name, t_s)
        for step in np.flatnonzero(np.diff(serving)):
            source, target = names[serving[step]], names[serving[step + 1]]
            events.append(Handover(float(t_s[step + 1]), user.name, source, target))
    return sorted(events, key=lambda event: event.t_s)

"""Moves users: positions and radio into the shared table, rates into the shapers.

The serving cell changes only when the RIC says that a handover is confirmed
(standing for RRC signalling); the radio itself never waits for it.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from controller.contracts.inventory import Inventory
from controller.contracts.radio_port import RadioPort
from models.traces import FOLDER_VARIABLE, Trace, TraceError, load_trace
from topologies.air_interface import quality
from topologies.errors import EmulationError
from topologies.link_budget import LinkQuality, capped
from topologies.mobility import position_m, speed_mps
from topologies.radio import powers_dbm
from topologies.radio_shaper import RadioShaper
from topologies.radio_state import RadioState
from topologies.scenario.radio import RadioTrace, Tr38901Radio
from topologies.scenario.schema import Scenario, UserSpec


class RadioUpdates:
    """Writes one row per user into `RadioState`; the table's only writer.

    `shaper` None: nobody's packets are limited by the radio. Raises `EmulationError`
    when a user's trace cannot be read.
    """

    def __init__(
        self,
        scenario: Scenario,
        inventory: Inventory,
        state: RadioState,
        shaper: RadioShaper | None = None,
    ) -> None:
        self._scenario = scenario
        self._state = state
        self._shaper = shaper
        self._cells = [c.cell_id for c in inventory.cells]
        self._serving = {u.ue_id: self._cells.index(u.cell_id) for u in inventory.users}
        self._t_s = 0.0
        """Of the newest update."""
        self._max_cqi: dict[str, int] = {}
        """Users whose scheme is limited, by the decision `adapt_link`."""
        self._traces = {
            u.name: _trace(u.radio_trace) for u in scenario.users if u.radio_trace is not None
        }

    def attach(self, ue_id: str, cell_id: str) -> None:
        self._serving[ue_id] = self._cells.index(cell_id)

    def adapt(self, ue_id: str, max_cqi: int | None) -> dict[str, dict[str, float]]:
        """At once; None: the best scheme that the channel allows. Answers with the rates before
        and now, once the kernel has these. Raises `EmulationError` where no radio limits the
        user's packets, or the kernel has another rate."""
        before = self.port(ue_id)
        index, user = next((i, u) for i, u in enumerate(self._scenario.users) if u.name == ue_id)
        self._max_cqi = {u: c for u, c in self._max_cqi.items() if u != ue_id}
        if max_cqi is not None:
            self._max_cqi[ue_id] = max_cqi
        self._update(index, user, self._t_s, exactly=True)
        now = self.port(ue_id)
        if self._shaper is not None:
            self._shaper.confirm(ue_id)
        return {
            "before_kbps": {"down": before.down.rate_kbps, "up": before.up.rate_kbps},
            "now_kbps": {"down": now.down.rate_kbps, "up": now.up.rate_kbps},
        }

    def port(self, ue_id: str) -> RadioPort:
        """Counts of a user's radio port. Raises `EmulationError` where nothing limits it."""
        if ue_id not in self._serving:
            raise EmulationError(f"unknown user {ue_id!r}")
        if self._shaper is None or (ue_id, "down") not in self._shaper.applied_kbps:
            raise EmulationError(f"the radio of this scenario does not limit packets of {ue_id}")
        return self._shaper.port(ue_id)

    def update(self, t_s: float) -> None:
        """Write every user's row for scenario time `t_s`, and let its shaper follow."""
        self._t_s = t_s
        for index, user in enumerate(self._scenario.users):
            self._update(index, user, t_s)

    def _update(self, index: int, user: UserSpec, t_s: float, exactly: bool = False) -> None:
        """`exactly`: the shaper follows without hysteresis, as it does wherever the scheme and
        not the channel says the rate."""
        serving = self._serving[user.name]
        here_m = position_m(user.mobility, self._scenario.seed, user.name, t_s)
        powers, link = self._radio(user, serving, here_m, t_s)
        if link is not None and user.name in self._max_cqi:
            free, link = link, capped(link, self._max_cqi[user.name])
            exactly = exactly or link != free
        if self._shaper is not None and link is not None:
            self._shaper.set(user.name, link.down_kbps, link.up_kbps, exactly=exactly)
        self._state.write(
            index,
            position_m=here_m,
            speed_mps=speed_mps(user.mobility),
            serving_index=serving,
            rsrp_dbm=powers,
            updated_at_ns=time.time_ns(),
            quality=link,
        )

    def _radio(
        self, user: UserSpec, serving: int, here_m: tuple[float, float], t_s: float
    ) -> tuple[list[float], LinkQuality | None]:
        if user.radio_trace is not None:
            rsrp_dbm, link = replayed(self._traces[user.name], user.radio_trace, t_s)
            return [rsrp_dbm if i == serving else math.nan for i in range(len(self._cells))], link
        powers = powers_dbm(self._scenario, here_m, t_s)
        radio = self._scenario.radio
        if not isinstance(radio, Tr38901Radio):
            return powers, None
        by_cell = dict(zip(self._cells, powers, strict=True))
        return powers, quality(self._scenario, radio, by_cell, self._cells[serving])


def replayed(trace: Trace, spec: RadioTrace, t_s: float) -> tuple[float, LinkQuality]:
    """RSRP and link at scenario time `t_s`; the trace starts over at its end.

    Each quantity holds its last row that has one.
    """
    length_s = max(1.0, float(trace.t_s[-1]))
    at_s = (spec.start_s + t_s) % length_s

    def now(quantity: str) -> float:
        return trace.held(quantity, at_s)

    cqi = now("cqi")
    link = LinkQuality(
        rsrq_db=now("rsrq_db"),
        snr_db=now("snr_db"),
        cqi=0 if math.isnan(cqi) else round(cqi),
        down_kbps=_known(now("downlink_kbps")) * spec.rate_ratio,
        up_kbps=_known(now("uplink_kbps")) * spec.rate_ratio,
    )
    return now("rsrp_dbm"), link


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _trace(spec: RadioTrace) -> Trace:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise EmulationError(
            f"radio_trace {spec.file}: set {FOLDER_VARIABLE} to the folder of the 5G traces"
        )
    try:
        return load_trace(Path(folder) / spec.file)
    except TraceError as error:
        raise EmulationError(f"radio_trace: {error}") from error

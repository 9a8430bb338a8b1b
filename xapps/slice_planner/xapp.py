"""slice-planner: reserves for each slice in each cell what its forecast says it will ask for.

A thin shell: stream -> planner (pure) -> decision.  Settings and forecasters: README.md.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from forecasters import Forecaster, forecaster
from guidance import Guidance
from holon_xapp import CellEvent, ReservationPlan, Unreachable, Xapp, XappError
from planner import CellState, Policy, histories, observed, planned

MODEL = "demand_forecast"
STALE_AFTER_MS = 500
"""An event that waited longer goes into the history, but a newer one will decide."""

log = logging.getLogger("slice-planner")


class SlicePlanner:
    """State of all cells, and the loop's one step."""

    def __init__(self, xapp: Xapp, policy: Policy, forecast: Forecaster) -> None:
        self._xapp = xapp
        self._policy = policy
        self._forecast = forecast
        self._cells: defaultdict[str, CellState] = defaultdict(CellState)
        self._is_period_checked = False

    def adopt(self, policy: Policy) -> None:
        """From the next event on. Called by the thread that follows A1 policies."""
        self._policy = policy
        log.info("planning by %s", policy)

    def on_cell(self, event: CellEvent) -> None:
        self._check_period(event)
        before = self._cells[event.cell_id]
        state = observed(self._policy, before, event)
        self._cells[event.cell_id] = state
        if state is before or time.time_ns() - event.received_at_ns > STALE_AFTER_MS * 1_000_000:
            return
        history = histories(state, event, self._forecast.steps)
        quantiles_kbps = self._forecast(history, event.capacity_kbps)
        after, reservations = planned(self._policy, state, event, quantiles_kbps)
        self._cells[event.cell_id] = after
        if reservations is not None:
            self._decide(ReservationPlan.answering(event, reservations, time.time_ns()))

    def _check_period(self, event: CellEvent) -> None:
        """Says once that forecasts will be poor: samples come faster or slower than trained for."""
        if not self._is_period_checked and event.period_ms != self._forecast.sample_period_ms:
            log.warning(
                "twins report every %d ms, the forecast is made for every %d ms",
                event.period_ms,
                self._forecast.sample_period_ms,
            )
        self._is_period_checked = True

    def _decide(self, plan: ReservationPlan) -> None:
        shown = ", ".join(f"{r.s_nssai}: {r.min_kbps}" for r in plan.reservations)
        try:
            decision = self._xapp.decide(plan)
        except Unreachable as error:
            log.error("%s {%s} not decided: %s", plan.cell_id, shown, error)
            return
        if decision.is_applied:
            latency = "" if decision.loop_latency_ms is None else f" {decision.loop_latency_ms:.1f}"
            log.info("%s {%s} kbit/s applied, loop%s ms", plan.cell_id, shown, latency)
        else:
            log.warning("%s {%s} %s: %s", plan.cell_id, shown, decision.verdict, decision.reason)


def configured(xapp: Xapp) -> tuple[SlicePlanner, Guidance]:
    """Raises `XappError` or `ValueError` for what keeps it from working."""
    config = dict(xapp.settings.config)
    name = str(config.pop("forecaster", "onnx"))
    policy = Policy.from_config(config)
    made = SlicePlanner(xapp, policy, forecaster(name, lambda: xapp.model(MODEL)))
    return made, Guidance(config, made.adopt)


def follow(xapp: Xapp, guidance: Guidance) -> None:
    """A1 policies, in a thread with an `Xapp` of its own."""
    for event in xapp.policies():
        try:
            guidance.on_policy(xapp, event)
        except XappError as error:
            log.error("policy %s: not answered: %s", event.policy_instance_id, error)


def main() -> int:
    try:
        xapp = Xapp.from_environment(Path(__file__).resolve().parent)
        slice_planner, guidance = configured(xapp)
        gc.freeze()  # what stands now lives as long as the process: never walk it again
        xapp.ready()
        own = Xapp(xapp.settings)
        threading.Thread(target=follow, args=(own, guidance), name="policies", daemon=True).start()
        for event in xapp.cells():
            slice_planner.on_cell(event)
    except (XappError, ValueError) as error:
        print(f"slice-planner: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What-if in a running RIC: what forks are fed with, and the gate "rehearse before applying"."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controller.contracts.decisions import DecisionRecord, DecisionRequest, ReservationRequest
from controller.guard import Rejection
from controller.ric.decisions import Rehearsed
from controller.ric.errors import RicError
from controller.ric.intents import ReserveIntent
from controller.ric.measurement import CounterSample, measured_rates
from controller.whatif.service import WhatIf
from controller.whatif.strategies import Hold, Reserve, Strategy, StrategyError
from controller.whatif.worker import WorkerFailed

if TYPE_CHECKING:
    from controller.ric.state import Ric

WORSE_BY = 0.01
"""Less than this of satisfied windows is within what a prediction cannot tell."""


class RicWhatIf(WhatIf):
    """The forks of this RIC, and what its gate did."""

    rehearsals: Counter[str]
    rehearsal_ms: list[float]
    _last: CounterSample | None = None

    def count(self, sample: CounterSample) -> None:
        """The switches' counters: what best-effort traffic there is beside the slices'."""
        last, self._last = self._last, sample
        if last is not None:
            for rate in measured_rates(last, sample):
                self.mirror.count(rate.cell_id, rate.slice_id, rate.arrived_kbps)

    def summary(self) -> dict[str, Any]:
        times = sorted(self.rehearsal_ms)
        return {
            **super().summary(),
            "rehearsals": {
                **self.rehearsals,
                "p50_ms": times[len(times) // 2] if times else None,
                "max_ms": times[-1] if times else None,
            },
        }


def whatif_of(ric: Ric) -> RicWhatIf:
    """Wired to the RIC's decision pipeline (guard included), user twins and records."""

    async def decide(request: DecisionRequest) -> DecisionRecord:
        return (await ric.pipeline.decide(request)).record

    async def user_demand(ue_id: str) -> Mapping[int, float]:
        attachments = ric.enforcer.attachments()
        try:
            reports = await ric.user_twins.history(ue_id, 1, attachments)
        except RicError as error:
            raise StrategyError(f"user {ue_id}: {error.message}") from None
        demand: Counter[int] = Counter()
        for flow in reports[-1]["flows"] if reports else ():
            if not flow["up"]:
                demand[int(flow["slice_id"])] += flow["demand_kbps"]
        return demand

    made = RicWhatIf(
        ric.inventory,
        ric.enforcer,
        decide,
        user_demand,
        lambda decision_id, detail: ric.add_detail(decision_id, "whatif", detail),
    )
    made.rehearsals, made.rehearsal_ms = Counter(), []

    def follow(event: dict[str, Any]) -> None:
        """The mirror keeps in step by the events that xApps read."""
        if event["kind"] == "cell":
            made.mirror.follow(event)

    async def gate(request: DecisionRequest, intent: ReserveIntent) -> Rehearsed | None:
        return await rehearsed(ric, request, intent)

    async def prepared() -> None:
        """The first rehearsal must not be late because the worker was not there yet."""
        with contextlib.suppress(WorkerFailed):  # each rehearsal will say so again, counted
            await made.worker.ready()

    ric.centre.stream.listeners.append(follow)
    ric.pipeline.gate = gate
    ric.xapps.before_rehearsing = prepared  # type: ignore[method-assign]
    return made


async def rehearsed(ric: Ric, request: DecisionRequest, intent: ReserveIntent) -> Rehearsed | None:
    """None: not to be rehearsed, or no answer within the budget."""
    wanted = ric.xapps.rehearsal(request.xapp)
    if wanted is None:
        return None
    whatif, started_s = ric.whatif, time.monotonic()
    strategies: list[Strategy] = [Hold(), _as_strategy(ric, intent)]
    try:
        async with asyncio.timeout(wanted.latency_budget_ms / 1000):
            snapshot = whatif.snapshot()
            hold, change = await whatif.worker.predict(snapshot, strategies, wanted.horizon_s)
    except TimeoutError:
        whatif.rehearsals["late"] += 1
        return None
    except (ValueError, WorkerFailed):
        whatif.rehearsals["impossible"] += 1
        return None
    finally:
        whatif.rehearsal_ms.append((time.monotonic() - started_s) * 1000)
    if change.satisfied_ratio >= hold.satisfied_ratio - WORSE_BY:
        whatif.rehearsals["passed"] += 1
        return Rehearsed(None)
    whatif.rehearsals["refused"] += 1
    reason = (
        f"rehearsed over {wanted.horizon_s:g} s: {change.satisfied_ratio:.3f} of windows would "
        f"satisfy their SLA, {hold.satisfied_ratio:.3f} if nothing changed"
    )
    return Rehearsed(Rejection("rehearsal", reason))


def _as_strategy(ric: Ric, intent: ReserveIntent) -> Reserve:
    wanted = [
        ReservationRequest(
            s_nssai=ric.inventory.slice(r.slice_id).s_nssai,
            traffic_class=r.traffic_class,
            min_kbps=r.min_kbps,
            max_kbps=r.max_kbps,
        )
        for r in intent.changes
    ]
    return Reserve(cells={intent.cell_id: wanted})

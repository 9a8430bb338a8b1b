"""From datagrams to twins, history and stream: what the centre learns from local controllers.

The receiver checks who sent what before anything changes; the rest follows in one
go, because the latency of the loop runs while it happens.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from controller.contracts import aggregate_wire
from controller.contracts.addressing import COLLECTOR_IP
from controller.contracts.inventory import Inventory, Reservation
from controller.contracts.slice_twins import FORECAST, SliceTwinSettings
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.ric.cell_events import cell_event, slice_event, with_counted_demand
from controller.ric.measurement import CounterSample, measured_rates
from controller.ric.stream import StreamHub
from controller.ric.traces import TraceBook
from controller.twins.history import History, Point, TwinRow, TwinTable
from controller.twins.level_two import LevelTwo, MeasuredRate
from controller.twins.twin import Prediction, Twin

CLOCK_ERROR_MAX_NS = 5 * 10**9


class AggregateRefused(Exception):
    """A datagram that must not become a twin; the message is the reason counted."""


def admit_aggregate(
    aggregate: CellAggregate, source_ip: str, inventory: Inventory, now_ns: int
) -> None:
    """Raises unless it is the local controller's of its cell, with plausible numbers only."""
    own = {a.ip for a in inventory.host(aggregate.edge).addresses if a.slice_id == 0}
    if source_ip not in own | {COLLECTOR_IP}:
        raise AggregateRefused("spoofed")
    if not all(is_plausible(demand) for demand in aggregate.slices):
        raise AggregateRefused("out_of_range")
    if not is_timely(aggregate, now_ns):
        raise AggregateRefused("untimely")


def is_timely(aggregate: CellAggregate, now_ns: int) -> bool:
    """A window far ahead would make every true one after it look late."""
    period_ns = aggregate.period_ms * 1_000_000
    ended_ns = (aggregate.window + 1) * period_ns
    return (
        aggregate.period_ms > 0
        and abs(now_ns - aggregate.completed_at_ns) <= CLOCK_ERROR_MAX_NS
        and abs(ended_ns - aggregate.completed_at_ns) <= CLOCK_ERROR_MAX_NS + period_ns
    )


def is_plausible(demand: SliceDemand) -> bool:
    numbers = (demand.demand_kbps, demand.goodput_kbps, demand.owd_p95_ms or 0.0)
    return (
        all(math.isfinite(number) and 0 <= number < 1e12 for number in numbers)
        and 0 <= demand.loss_ratio <= 1
        and demand.users >= 0
    )


class Centre:
    """Everything the centre knows of slices and cells, kept current."""

    def __init__(
        self,
        inventory: Inventory,
        reservations_of: Callable[[str], Sequence[Reservation]],
        settings_of: Callable[[str], SliceTwinSettings],
    ) -> None:
        self._inventory = inventory
        self._reservations_of = reservations_of
        self.level_two = LevelTwo(inventory)
        self.history = History(inventory.twins.history_length)
        self.table = TwinTable()
        self.traces = TraceBook()
        self.stream = StreamHub()
        self.later: Callable[[Callable[[], None]], object] = lambda work: work()
        """When what nobody waits for is done; `AggregateReceiver`: once the stream was written."""
        self._unfinished: deque[Callable[[], None]] = deque()
        self.accepted = 0
        self.bytes_received = 0
        self.refused: Counter[str] = Counter()
        self._last_sample: CounterSample | None = None
        self._rates: dict[tuple[str, int, TrafficClass], MeasuredRate] = {}
        self._predicted_kbps: dict[tuple[str, int], float] = {}
        self._settings_of = settings_of
        self.models_changed()

    def models_changed(self) -> None:
        """Twin models of slices are others now, or slices are."""
        self._every: dict[int, int] = {}
        self._forecast: set[int] = set()
        for slice_ in self._inventory.slices:
            settings = self._settings_of(str(slice_.s_nssai))
            self._every[slice_.slice_id] = settings.every
            self.history.set_length("slice", str(slice_.s_nssai), settings.history_length)
            if settings.predicts(FORECAST):
                self._forecast.add(slice_.slice_id)
            else:
                self.level_two.forget_predictions(slice_.slice_id, FORECAST)

    def keep_slices(self, inventory: Inventory) -> None:
        """Slices came, changed or went: twins, stream and history follow."""
        gone = {s.slice_id for s in self._inventory.slices} - {s.slice_id for s in inventory.slices}
        self._inventory = inventory
        self.level_two.keep(inventory.slices)
        self._rates = {k: r for k, r in self._rates.items() if k[1] not in gone}
        self._predicted_kbps = {k: p for k, p in self._predicted_kbps.items() if k[1] not in gone}
        self.level_two.held.forget(gone)
        self.models_changed()

    def receive(self, datagram: bytes, source_ip: str, received_at_ns: int) -> None:
        self.bytes_received += len(datagram)
        try:
            aggregates = aggregate_wire.decode(datagram, self._inventory.cells)
        except aggregate_wire.UnknownCell:
            self.refused["foreign_cell"] += 1
            return
        except aggregate_wire.BadAggregate:
            self.refused["malformed"] += 1
            return
        for aggregate in aggregates:
            try:
                admit_aggregate(aggregate, source_ip, self._inventory, received_at_ns)
            except AggregateRefused as refusal:
                self.refused[str(refusal)] += 1
            else:
                self.accept(aggregate, received_at_ns)

    def accept(self, aggregate: CellAggregate, received_at_ns: int) -> None:
        """Stream first: xApps wait for it; twins and history are read later."""
        self._finish()
        cell_id = aggregate.cell_id
        if not self.level_two.is_new(aggregate):
            self.refused["late"] += 1
            return
        self.accepted += 1
        aggregate = with_counted_demand(aggregate, self._rates)
        self.traces.note(aggregate, received_at_ns)
        reservations = self._reservations_of(cell_id)
        whole = self.level_two.held.completed(aggregate)
        event = cell_event(whole, self._inventory, reservations, received_at_ns)
        self.stream.publish(event, received_at_ns)
        self._unfinished.append(lambda: self._keep(aggregate, event, received_at_ns))
        self.later(self._finish)

    def _finish(self) -> None:
        while self._unfinished:
            self._unfinished.popleft()()

    def _keep(self, aggregate: CellAggregate, event: dict[str, Any], received_at_ns: int) -> None:
        touched = self.level_two.apply_aggregate(aggregate, received_at_ns, self._every)
        for twin in touched:
            self._remember(twin, aggregate)
            if twin.kind == "slice":
                self.stream.publish(slice_event(twin, aggregate), received_at_ns)
        self._tabulate(aggregate, event, received_at_ns)

    def count(self, sample: CounterSample) -> None:
        """The switches' counters into the twins; the first sample has no rates yet."""
        last, self._last_sample = self._last_sample, sample
        if last is None:
            return
        rates = measured_rates(last, sample)
        period_ms = round((sample.taken_at_ns - last.taken_at_ns) / 1e6)
        self._rates |= {(r.cell_id, r.slice_id, r.traffic_class): r for r in rates}
        self.level_two.apply_rates(rates, period_ms, sample.taken_at_ns)

    def predict(self, cell_id: str, slice_id: int, kbps: float, xapp: str, now_ns: int) -> None:
        self._predicted_kbps[cell_id, slice_id] = kbps
        self.forecast(cell_id, slice_id, Prediction(kbps, now_ns, xapp))

    def forecast(self, cell_id: str, slice_id: int, prediction: Prediction) -> None:
        """Of the slice's demand in the cell, by whomever."""
        if slice_id in self._forecast:
            self.level_two.apply_prediction(cell_id, slice_id, prediction)

    def _remember(self, twin: Twin, aggregate: CellAggregate) -> None:
        for name, attribute in twin.attributes.items():
            point = Point(aggregate.window, attribute.measured_at_ns, attribute.value)
            self.history.record(twin.kind, twin.twin_id, name, point)

    def _tabulate(
        self, aggregate: CellAggregate, event: dict[str, Any], received_at_ns: int
    ) -> None:
        by_id = {s.slice_id: s for s in self._inventory.slices}
        for item in event["slices"]:
            slice_ = by_id[item["slice_id"]]
            traffic_class = TrafficClass(item["traffic_class"])
            rate = self._rates.get((aggregate.cell_id, slice_.slice_id, traffic_class))
            self.table.append(
                TwinRow(
                    trace_id=aggregate.trace_id,
                    window=aggregate.window,
                    period_ms=aggregate.period_ms,
                    completed_at_ns=aggregate.completed_at_ns,
                    sent_at_ns=aggregate.sent_at_ns,
                    received_at_ns=received_at_ns,
                    cell_id=aggregate.cell_id,
                    slice_id=slice_.slice_id,
                    sst=slice_.s_nssai.sst,
                    sd=slice_.s_nssai.sd,
                    slice_name=slice_.name,
                    traffic_class=traffic_class.value,
                    users=item["users"],
                    users_reported=aggregate.users_reported,
                    users_expected=aggregate.users_expected,
                    demand_kbps=item["demand_kbps"],
                    goodput_kbps=item["goodput_kbps"],
                    loss_ratio=item["loss_ratio"],
                    owd_p95_ms=item["owd_p95_ms"],
                    arrived_kbps=rate.arrived_kbps if rate else None,
                    delivered_kbps=rate.delivered_kbps if rate else None,
                    min_kbps=item["reservation"]["min_kbps"],
                    max_kbps=item["reservation"]["max_kbps"],
                    predicted_kbps=self._predicted_kbps.get((aggregate.cell_id, slice_.slice_id)),
                )
            )


class AggregateReceiver(asyncio.DatagramProtocol):
    """The UDP socket in the centre's namespace."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        # The streams' tasks run in the loop's next round, and at its end what they wrote leaves.
        self._centre.later = lambda work: loop.call_soon(loop.call_soon, work)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._centre.receive(data, str(addr[0]), time.time_ns())

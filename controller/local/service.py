"""The local controller's shell: packets in, twins kept, aggregates and requests out.

Everything that decides is in the pure modules beside it and in
`controller/twins/level_one.py`; here are the clock,
the sockets and the state that they work on.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from controller.contracts.decisions import DecisionRecord, DecisionRequest
from controller.contracts.inventory import Inventory
from controller.contracts.live_slices import inventory_with, parse
from controller.contracts.rpc import AsyncConnection, Handler
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_budget import Represented
from controller.contracts.twin_messages import UserReport
from controller.contracts.twin_models import Override
from controller.local import wire
from controller.local.a3 import Measurement
from controller.local.admission import LastReport, Rejection, admit, roster_of, serving_cell
from controller.local.aggregation import sample_of
from controller.local.cell_windows import CellWindows
from controller.local.clustering import clusters
from controller.local.demand_tracks import DemandTracks, past
from controller.local.exchange import Exchange
from controller.local.handover_requests import HandoverRequests
from controller.local.model_control import GREETING_PERIOD_S, ModelControl, read_overrides
from controller.local.onnx_model import load_model
from controller.local.prediction import DEMAND, MOBILITY, Predictor
from controller.local.reaction import Observations
from controller.local.representation import Representation
from controller.local.silence import is_gone
from controller.local.spending import Received, edge_spent
from controller.local.status import status_document
from controller.local.twin_migration import Arrival, versions_missing, with_head, with_history
from controller.local.uplink import Uplink
from controller.twins.level_one import (
    UserTwin,
    age_ms,
    history_documents,
    merge_attachment,
    merge_predictions,
    merge_report,
    twin_document,
    twin_summary,
)

RIC_TIMEOUT_S = 5.0


class LocalController:
    """One edge's twins.  ValueError when the inventory has no such edge or it serves no cell."""

    def __init__(self, run: RunFolder, inventory: Inventory, edge: str) -> None:
        hosts = {h.name: h for h in inventory.hosts if h.kind == "edge"}
        if edge not in hosts:
            known = ", ".join(sorted(hosts)) or "none"
            raise ValueError(f"unknown edge server {edge!r}; known: {known}")
        self.edge = edge
        self.priority = "not asked yet"
        self._inventory = inventory
        self._roster = roster_of(inventory)
        self.cells = frozenset(c.cell_id for c in inventory.cells if c.edge == edge)
        self._started_at_ns = time.time_ns()
        period_ms = inventory.twins.report_period_ms
        self.windows = CellWindows(sorted(self.cells), period_ms, self._started_at_ns)
        self.twins: dict[str, UserTwin] = {}
        self._last_reports: dict[str, LastReport] = {}
        self.observations = Observations()
        self.predictor = Predictor(load_model(MOBILITY), load_model(DEMAND))
        self._capacity_kbps = {c.cell_id: float(c.down_kbps) for c in inventory.cells}
        self._ric = AsyncConnection(run.ric_socket)
        own = {u.ue_id: u.handover for u in inventory.users if u.handover is not None}
        self.handovers = HandoverRequests(inventory.handover, self._ask_ric, own)
        self._collector = wire.collector_socket()
        self.uplink = Uplink(
            inventory,
            hosts[edge],
            self.observations,
            lambda demands, window: self.models.slices_due(demands, window),
        )
        self.models = ModelControl(
            inventory,
            edge,
            read_overrides(run.twin_overrides),
            self._collector.sendto,
            self._is_here,
        )
        self.received = Received()
        self.tracks = DemandTracks()
        self.representation = Representation(
            lambda ue_id: self.models.settings(ue_id).represented_by, self._is_here, self.tracks
        )
        self.representation.change(self._roster.users)
        self._edge_of_cell = {c.cell_id: c.edge for c in inventory.cells}
        addresses = {name: wire.infrastructure_address(host) for name, host in hosts.items()}
        self.exchange = Exchange(addresses[edge], addresses, self._take_over)
        self.versions_lost = 0
        for user in inventory.users:
            if user.cell_id in self.cells:
                self.windows.attach(user.ue_id, user.cell_id, 0)

    # -- packets ------------------------------------------------------------

    def start(self) -> None:
        """Receive, and close windows at their deadlines, from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._collector, self._drain)
        self._schedule_deadline()
        self._greet()

    def close(self) -> None:
        self.exchange.close()
        self._loop.remove_reader(self._collector)
        self._deadline.cancel()
        self._greeting.cancel()
        self.models.close()
        self._collector.close()
        self.uplink.close()
        self._ric.close()

    def _drain(self) -> None:
        for datagram in wire.receive(self._collector):
            self.observations.datagrams += 1
            size_bytes = wire.wire_bytes(datagram.size_bytes)
            self.observations.bytes_on_wire += size_bytes
            self.received.add(datagram.source_ip, size_bytes)
            for part in datagram.reports():
                rejection = self._take(part)
                if rejection is not None:
                    self.observations.rejected[rejection.value] += 1

    def _take(self, datagram: wire.Datagram) -> Rejection | None:
        now_ns = time.time_ns()
        report = admit(
            datagram.payload, datagram.source_ip, self._roster, self._last_reports, now_ns
        )
        if isinstance(report, Rejection):
            return report
        attachment = self.windows.attachment(report.ue_id)
        cell_id = serving_cell(report, attachment, self.cells)
        if cell_id is None:
            return Rejection.FOREIGN_CELL
        self._last_reports[report.ue_id] = LastReport(report.sequence, report.measured_at_ns)
        self.observations.accept(report.ue_id, datagram.arrived_at_ns)
        # What somebody waits for first: the aggregate; the twin is read by nobody in between.
        self._aggregate(report, cell_id, datagram.arrived_at_ns)
        self._update_twin(report, cell_id, datagram.arrived_at_ns)
        self.models.heard(report)
        if not report.rsrp_dbm:
            return None
        measured = Measurement(cell_id, report.rsrp_dbm, report.measured_at_ns)
        self.handovers.observe(report.ue_id, measured, report.sequence, datagram.arrived_at_ns)
        return None

    def _update_twin(self, report: UserReport, cell_id: str, arrived_at_ns: int) -> None:
        twin = self.twins.get(report.ue_id)
        length = self.models.settings(report.ue_id).history_length
        merged = merge_report(twin, report, arrived_at_ns, length)
        if cell_id != report.cell_id:
            merged = merge_attachment(merged, cell_id, self._attached_at_ns(report.ue_id))
        self.twins[report.ue_id] = merged
        self.predictor.observe(report)

    def _is_here(self, ue_id: str) -> bool:
        return self.windows.attachment(ue_id) is not None

    def _attached_at_ns(self, ue_id: str) -> int:
        attachment = self.windows.attachment(ue_id)
        return attachment[1] if attachment is not None else 0

    # -- aggregates ---------------------------------------------------------

    def _aggregate(self, report: UserReport, cell_id: str, arrived_at_ns: int) -> None:
        closed = self.windows.attach(report.ue_id, cell_id, report.measured_at_ns)
        sample = sample_of(report, self._roster.users[report.ue_id].slice_ids)
        period_ns = report.period_ms * 1_000_000
        for ue_id, part in self.representation.samples(report.ue_id, sample, period_ns):
            closed += self.windows.add(ue_id, part, arrived_at_ns)
        if closed:
            self.uplink.send(closed)
            if any(window.is_complete for window in closed):
                self.observations.react(arrived_at_ns, time.time_ns())

    def _schedule_deadline(self) -> None:
        now_ns = time.time_ns()
        delay_s = (self.windows.next_deadline_ns(now_ns) - now_ns) / 1e9
        self._deadline = self._loop.call_later(delay_s, self._meet_deadline)

    def _meet_deadline(self) -> None:
        self._drain()  # a report that waits in the socket was in time
        now_ns = time.time_ns()
        self.uplink.send(self.windows.close_due(now_ns))
        self._expire(now_ns)
        self._predict(now_ns)
        self._schedule_deadline()

    def _predict(self, now_ns: int) -> None:
        """At deadlines, when this period's aggregates have left."""
        serving = {ue_id: self.windows.attachment(ue_id) for ue_id in self.twins}
        capacity_kbps = {u: self._capacity_kbps[a[0]] for u, a in serving.items() if a is not None}
        for ue_id, predicted in self.predictor.predict(capacity_kbps, now_ns):
            model = self.models.settings(ue_id)
            self.twins[ue_id] = merge_predictions(self.twins[ue_id], predicted, model.predicts)

    # -- who is here --------------------------------------------------------

    def _expire(self, now_ns: int) -> None:
        """Users who have not reported for `EXPIRY_PERIODS` are no longer here."""
        for ue_id in self.windows.attached_users():
            since_ns = max(self._started_at_ns, self._attached_at_ns(ue_id))
            period_ms = self.models.settings(ue_id).upload_period_ms
            if is_gone(self.twins.get(ue_id), since_ns, period_ms, self.windows.period_ns, now_ns):
                self.leave(ue_id, now_ns)

    def leave(self, ue_id: str, now_ns: int) -> None:
        self.twins.pop(ue_id, None)
        self.handovers.forget(ue_id)
        self.observations.leave(ue_id)
        self.predictor.forget(ue_id)
        self.tracks.forget(ue_id)
        self.uplink.send(self.windows.attach(ue_id, None, now_ns))

    def _hand_over(self, ue_id: str, edge: str, now_ns: int) -> None:
        """The user is there now; its twin is kept, and readable, until it is there too."""
        self.uplink.send(self.windows.attach(ue_id, None, now_ns))
        twin = self.twins.get(ue_id)
        if twin is None:
            return

        def arrived() -> None:
            if self.windows.attachment(ue_id) is None:
                self.leave(ue_id, time.time_ns())

        self.exchange.send(twin, edge, now_ns, arrived)

    def _take_over(self, arrival: Arrival) -> None:
        """A message of a twin that moves here. ValueError for what cannot be."""
        if arrival.ue_id not in self._roster.users:
            raise ValueError(f"no user {arrival.ue_id!r} in the inventory")
        twin = self.twins.get(arrival.ue_id)
        if arrival.twin is not None:
            known = self._last_reports.get(arrival.ue_id)
            if known is None or known.sequence < arrival.twin.version:
                last = LastReport(arrival.twin.version, arrival.twin.measured_at_ns)
                self._last_reports[arrival.ue_id] = last
            self.twins[arrival.ue_id] = with_head(twin, arrival.twin)
        elif twin is not None:
            length = self.models.settings(arrival.ue_id).history_length
            merged = with_history(twin, arrival.history, length)
            self.twins[arrival.ue_id] = merged
            reports = merged.history.reports()
            self.predictor.adopt(reports)
            self.tracks.adopt(arrival.ue_id, past(reports, self._roster))
            self.versions_lost += versions_missing(merged, reports[0].sequence if reports else 0)

    def _greet(self) -> None:
        """Users who are here and have no twin yet are asked for their first report."""
        self.models.look_after(self.windows.attached_users(), self.twins)
        self._greeting = self._loop.call_later(GREETING_PERIOD_S, self._greet)

    async def _ask_ric(self, request: DecisionRequest) -> DecisionRecord:
        record = await self._ric.call(
            "decide", timeout_s=RIC_TIMEOUT_S, request=request.model_dump(mode="json")
        )
        return DecisionRecord.model_validate(record)

    # -- operations ---------------------------------------------------------

    def operations(self) -> dict[str, Handler]:
        return {
            "status": self.status,
            "twins": self.list_twins,
            "twin": self.twin,
            "history": self.history,
            "attached": self.attached,
            "slices": self.slices,
            "ages": self.ages_ms,
            "inter_arrivals": self.observations.inter_arrivals_ms,
            "configure": self.configure,
            "spending": lambda: edge_spent(self, self._roster).model_dump(mode="json"),
            "clusters": lambda **asked: clusters(self, self._roster, Represented(**asked)),
            "settings": lambda ue_id: self.models.settings(ue_id).model_dump(mode="json"),
        }

    def configure(self, overrides: list[dict[str, Any]]) -> dict[str, int]:
        """All of VL6's changes to twin models, as they stand now."""
        told = self.models.configure([Override.model_validate(o) for o in overrides])
        self.representation.change(self._roster.users)
        return told

    def status(self) -> dict[str, Any]:
        return status_document(self, time.time_ns())

    def kernel_drops(self) -> int:
        return wire.kernel_drops(self._collector)

    def list_twins(self) -> list[dict[str, Any]]:
        now_ns = time.time_ns()
        return [twin_summary(twin, now_ns) for _, twin in sorted(self.twins.items())]

    def twin(self, ue_id: str) -> dict[str, Any]:
        return twin_document(self._existing(ue_id), time.time_ns())

    def history(self, ue_id: str, last: int = 60) -> list[dict[str, Any]]:
        return history_documents(self._existing(ue_id), last)

    def ages_ms(self) -> list[float]:
        now_ns = time.time_ns()
        return [age_ms(twin, now_ns) for twin in self.twins.values()]

    def slices(self, live: list[dict[str, Any]]) -> None:
        """Exactly these slices live now, with these members."""
        self._inventory = inventory_with(self._inventory, parse(live))
        self._roster = roster_of(self._inventory)
        self.uplink.slice_ids = [s.slice_id for s in self._inventory.slices]
        self.models.keep_slices(self._inventory.slices)

    def attached(self, ue_id: str, cell_id: str) -> dict[str, bool]:
        """After a confirmed handover; LookupError for a user or cell of no inventory."""
        if ue_id not in self._roster.users or cell_id not in self._roster.cell_ids:
            raise LookupError(f"no user {ue_id!r} or no cell {cell_id!r} in the inventory")
        now_ns = time.time_ns()
        if cell_id not in self.cells:
            self._hand_over(ue_id, self._edge_of_cell[cell_id], now_ns)
            return {"here": False}
        self.uplink.send(self.windows.attach(ue_id, cell_id, now_ns))
        if ue_id in self.twins:
            self.twins[ue_id] = merge_attachment(self.twins[ue_id], cell_id, now_ns)
        return {"here": True}

    def _existing(self, ue_id: str) -> UserTwin:
        if ue_id not in self.twins:
            raise LookupError(f"no twin of {ue_id!r} at {self.edge}")
        return self.twins[ue_id]

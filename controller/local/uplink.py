"""What leaves a local controller for the centre (VL4): closed windows, in few datagrams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from controller.contracts import aggregate_wire
from controller.contracts.inventory import Host, Inventory
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.local import wire
from controller.local.aggregation import sum_slices
from controller.local.cell_windows import ClosedWindow
from controller.local.reaction import Observations

Due = Callable[[Sequence[SliceDemand], int], list[SliceDemand]]
"""A window's entries of all slices, its number -> those that slices' twins want of it."""


class Uplink:
    """The socket towards the centre.  What is closed leaves at once; nothing waits for company."""

    def __init__(
        self, inventory: Inventory, edge: Host, observations: Observations, due: Due
    ) -> None:
        self._cells = inventory.cells
        self._edge = edge.name
        self._period_ms = inventory.twins.report_period_ms
        self._socket = wire.aggregate_socket(edge)
        self._observations = observations
        self._due = due
        self.slice_ids = [s.slice_id for s in inventory.slices]
        """Of the slices that live now."""

    def send(self, closed: Sequence[ClosedWindow]) -> None:
        """Windows that closed at the same time."""
        if not closed:
            return
        sent_at_ns = time.time_ns()
        aggregates = [self._aggregate(window, sent_at_ns) for window in closed]
        counts = self._observations
        try:
            for payload in aggregate_wire.encode(aggregates, self._cells):
                wire.send_aggregate(self._socket, payload)
                counts.aggregate_bytes_on_wire += wire.wire_bytes(len(payload))
        except OSError:
            # The link or its buffer; the next window's aggregate replaces this one.
            counts.send_errors += 1
            return
        counts.aggregates += len(closed)
        counts.incomplete_aggregates += sum(not window.is_complete for window in closed)

    def _aggregate(self, closed: ClosedWindow, sent_at_ns: int) -> CellAggregate:
        at_ns = closed.closed_at_ns
        return CellAggregate(
            trace_id=aggregate_wire.trace_id_of(closed.cell_id, closed.window, at_ns),
            edge=self._edge,
            cell_id=closed.cell_id,
            window=closed.window,
            period_ms=self._period_ms,
            completed_at_ns=at_ns,
            sent_at_ns=sent_at_ns,
            users_reported=len(closed.users),
            users_expected=closed.users_expected,
            slices=self._due(sum_slices(closed.users, self.slice_ids), closed.window),
        )

    def close(self) -> None:
        self._socket.close()

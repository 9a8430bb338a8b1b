"""The way to the centre: one aggregate of a cell's window, one datagram in slice 0."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from uuid import uuid4

from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.local import wire
from controller.local.cell_windows import ClosedWindow
from controller.local.reaction import Observations


class Uplink:
    """`opened` leaves from the edge's own address; what becomes of it is in `observations`."""

    def __init__(
        self, opened: socket.socket, edge: str, period_ms: int, observations: Observations
    ) -> None:
        self._socket = opened
        self._edge = edge
        self._period_ms = period_ms
        self._observations = observations

    def send(self, closed: ClosedWindow, slices: Sequence[SliceDemand]) -> None:
        aggregate = CellAggregate(
            trace_id=uuid4().hex,
            edge=self._edge,
            cell_id=closed.cell_id,
            window=closed.window,
            period_ms=self._period_ms,
            completed_at_ns=closed.closed_at_ns,
            sent_at_ns=time.time_ns(),
            users_reported=len(closed.users),
            users_expected=closed.users_expected,
            slices=list(slices),
        )
        payload = aggregate.model_dump_json().encode()
        try:
            wire.send_aggregate(self._socket, payload)
        except OSError:
            # The link or its buffer; the next window's aggregate replaces this one.
            self._observations.send_errors += 1
            return
        self._observations.aggregates += 1
        self._observations.incomplete_aggregates += not closed.is_complete
        self._observations.aggregate_bytes_on_wire += wire.wire_bytes(len(payload))

    def close(self) -> None:
        self._socket.close()

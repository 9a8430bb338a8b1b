"""The user agents' process (VL1): every user's twin report, as a packet of that user.

`python -m topologies.user_agents RUN_FOLDER`.  One process and one thread for all
users; each user has a UDP socket made in its own namespace.  After the end of a
period users report one after the other, each at its fixed stagger, from counters and
radio as they are at that moment: what waits to be sent would be old.  Controlled at
`agents.sock`: status, configure {kind or ue_id, report_period_ms} (an agent that keeps to no
model, for tests).  What twin models want comes over the network: `agent_orders`.
"""

from __future__ import annotations

import heapq
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from controller.contracts.addressing import COLLECTOR_IP, COLLECTOR_UDP_PORT
from controller.contracts.inventory import Inventory, User
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_messages import MAX_REPORT_BYTES
from controller.contracts.twin_models import Upload
from topologies.agent_orders import (
    BadOrder,
    OrderReceiver,
    checked_period_ms,
    first_settings,
    fitted,
    parse_order,
)
from topologies.errors import EmulationError
from topologies.flow_counts import FlowCounts
from topologies.radio_state import RadioState, RadioStateError
from topologies.traffic.control_thread import ControlThread
from topologies.traffic.counters import FlowCounters
from topologies.traffic.scheduling import be_punctual
from topologies.use_case import Instruments
from topologies.user_reports import (
    Header,
    Radio,
    Totals,
    flow_rates,
    flow_reports,
    flow_table,
    next_boundary_ns,
    part_of,
    report_document,
    sequence_numbers,
    stagger_ns,
)
from topologies.user_sockets import open_sockets

COLLECTOR = (COLLECTOR_IP, COLLECTOR_UDP_PORT)
FIFO_PRIORITY = 5
"""Below the traffic's senders (10): an agent needs little, but at its moment."""
LONGEST_WAIT_S = 0.2
"""So that a signal is noticed."""
LATENESS_KEPT = 1000


def control_socket(run: RunFolder) -> Path:
    return run.path / "agents.sock"


@dataclass(frozen=True)
class Pending:
    """One user's report, waiting for its stagger to be measured and sent."""

    user_index: int
    period_ms: int


class UserAgents:
    """All users' agents; `run` is the main thread's life, the operations another thread's."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self._users = inventory.users
        self._radio = RadioState.open(run.radio_state)
        self._flow_counts = FlowCounts(FlowCounters.open(run.flow_counters), inventory)
        table = flow_table(self._flow_counts.flows)
        self._flow_ids = [table.by_user.get(u.ue_id, []) for u in self._users]
        self._tables = [part_of(table, flow_ids) for flow_ids in self._flow_ids]
        self._before = [self._counts_of(index) for index in range(len(self._users))]
        self._sequences = sequence_numbers(run.path / "agents.seq", len(self._users))
        self._instruments = Instruments()
        self._sockets = open_sockets(inventory)
        first = first_settings(inventory.twins.report_period_ms)
        self._settings = [first] * len(self._users)
        self._in_full = [True] * len(self._users)
        self._batches: list[list[bytes]] = [[] for _ in self._users]
        self._waiting: set[int] = set()
        self._orders = OrderReceiver(self._sockets, self._order)
        self._periods_ms = [inventory.twins.report_period_ms] * len(self._users)
        self._groups: dict[int, list[int]] = {}
        self._queue: list[tuple[int, int, int, Pending | int]] = []
        self._pushed = 0
        self._changed = threading.Condition()
        self._ending = False
        self._priority = "not asked yet"
        self._counts: Counter[str] = Counter()
        self._lateness_ms: deque[float] = deque(maxlen=LATENESS_KEPT)
        self._regroup()

    # -- time ---------------------------------------------------------------

    def run(self) -> None:
        """Measure and send when due, until `end`."""
        self._orders.start()
        self._priority = be_punctual(FIFO_PRIORITY)
        with self._changed:
            while not self._ending:
                self._work_until(time.time_ns())
                wait_s = (self._queue[0][0] - time.time_ns()) / 1e9 if self._queue else 1.0
                if wait_s > 0:
                    self._changed.wait(min(wait_s, LONGEST_WAIT_S))

    def end(self) -> None:
        """For a signal handler: a flag only."""
        self._ending = True

    def _work_until(self, now_ns: int) -> None:
        while self._queue and self._queue[0][0] <= now_ns:
            due_ns, _, _, work = heapq.heappop(self._queue)
            if isinstance(work, Pending):
                self._send(work, due_ns)
            elif work in self._groups:
                self._line_up(work)
                self._push(next_boundary_ns(time.time_ns(), work), work)

    def _push(self, due_ns: int, work: Pending | int) -> None:
        self._pushed += 1
        first = 0 if isinstance(work, int) else 1  # measuring before sending
        heapq.heappush(self._queue, (due_ns, first, self._pushed, work))

    def _regroup(self) -> None:
        self._groups = {}
        for index, period_ms in enumerate(self._periods_ms):
            if self._settings[index].upload is Upload.POLL:
                continue
            self._groups.setdefault(period_ms, []).append(index)
        scheduled = {work for *_, work in self._queue if isinstance(work, int)}
        for period_ms in set(self._groups) - scheduled:
            self._push(next_boundary_ns(time.time_ns(), period_ms), period_ms)

    # -- reports ------------------------------------------------------------

    def _line_up(self, period_ms: int) -> None:
        """A period has ended: reports of its users are due soon."""
        now_ns = time.time_ns()
        boundary_ns = now_ns - now_ns % (period_ms * 1_000_000)
        for index in self._groups[period_ms]:
            self._waiting.add(index)
            due_ns = boundary_ns + stagger_ns(index, period_ms)
            self._push(due_ns, Pending(index, period_ms))

    def _counts_of(self, index: int) -> Totals:
        return self._flow_counts.snapshot(self._users[index].ue_id, self._flow_ids[index])

    def _flows_of(self, index: int) -> list[dict[str, Any]]:
        """`FlowReport`s of one user: since it was measured last."""
        table, after = self._tables[index], self._counts_of(index)
        rates = flow_rates(table, self._before[index], after)
        self._before[index] = after
        return flow_reports(table, rates, range(len(after)))

    def _radio_of(self, index: int) -> Radio | None:
        """None until the emulation has written the user's row."""
        row = self._radio.read(self._users[index].ue_id)
        if row.updated_at_ns == 0:
            return None
        cells = self._radio.cells
        return Radio(
            cells[row.serving_index],
            dict(zip(cells, row.rsrp_dbm, strict=True)),
            row.position_m,
            row.speed_mps,
            row.quality,
        )

    def _send(self, pending: Pending, due_ns: int) -> None:
        index = pending.user_index
        self._waiting.discard(index)
        if pending.period_ms != self._periods_ms[index]:
            return  # reconfigured since; the next report covers that time, too
        radio = self._radio_of(index)
        if radio is None:
            self._counts["without_radio"] += 1
            return
        user = self._users[index]
        self._sequences[index] += 1
        sequence = int(self._sequences[index])
        header = Header(user.ue_id, user.kind, sequence, time.time_ns(), pending.period_ms)
        flows = self._flows_of(index)
        settings = self._settings[index]
        document = report_document(header, radio, flows) | self._instruments.read(
            index, radio.position_m, self._tables[index], self._before[index]
        )
        document = fitted(document, settings, self._in_full[index])
        self._in_full[index] = False
        encoded = orjson.dumps(document)
        if len(encoded) > MAX_REPORT_BYTES:
            self._refuse(user, len(encoded))
            return
        self._counts["reports"] += 1
        batch = self._batches[index]
        if sum(map(len, batch)) + len(batch) + len(encoded) > MAX_REPORT_BYTES:
            self._transmit(index)  # as many as one datagram takes
        batch.append(encoded)
        if settings.upload is Upload.BATCH and len(batch) < settings.batch_reports:
            return
        if self._transmit(index):
            self._lateness_ms.append((time.time_ns() - due_ns) / 1e6)

    def _transmit(self, index: int) -> bool:
        """What the user has measured, as one datagram of lines; False when its host refused."""
        payload = b"\n".join(self._batches[index])
        self._batches[index].clear()
        try:
            # Not connected: an ICMP error of an earlier report must not cost this one.
            self._sockets[index].sendto(payload, COLLECTOR)
        except OSError as error:
            self._counts[f"send_error_{error.errno}"] += 1
            return False
        self._counts["sent"] += 1
        self._counts["sent_bytes"] += len(payload)
        return True

    # -- orders (receiver's thread) -------------------------------------------

    def _order(self, index: int, payload: bytes, source: tuple[str, int]) -> None:
        with self._changed:
            try:
                settings = parse_order(payload, source)
            except BadOrder:
                self._counts["refused_orders"] += 1
                return
            if settings is None:
                self._answer_poll(index)
            elif settings != self._settings[index]:
                self._counts["settings"] += 1
                self._settings[index] = settings
                self._periods_ms[index] = settings.period_ms
                self._in_full[index] = True
                if self._batches[index]:
                    self._transmit(index)
                self._regroup()
                self._changed.notify()

    def _answer_poll(self, index: int) -> None:
        """With a measurement of now; a user whose report waits for its moment sends that one."""
        if index in self._waiting:
            return
        self._counts["polled"] += 1
        self._send(Pending(index, self._periods_ms[index]), time.time_ns())

    def _refuse(self, user: User, size_bytes: int) -> None:
        if not self._counts["too_large"]:
            print(
                f"report of {user.ue_id} has {size_bytes} B, the limit is {MAX_REPORT_BYTES} B: "
                "fewer flows per user would fit",
                file=sys.stderr,
            )
        self._counts["too_large"] += 1

    # -- operations (control thread) ----------------------------------------

    def status(self) -> dict[str, Any]:
        with self._changed:
            late_ms = np.array(self._lateness_ms or [np.nan])
            return {
                "pid": os.getpid(),
                "priority": self._priority,
                "users": len(self._users),
                "users_by_period_ms": {str(p): len(g) for p, g in sorted(self._groups.items())},
                "counts": dict(self._counts),
                "lateness_ms": {
                    "p50": float(np.percentile(late_ms, 50)),
                    "p99": float(np.percentile(late_ms, 99)),
                    "samples": len(self._lateness_ms),
                },
                "processor_s": time.process_time(),
            }

    def configure(
        self, report_period_ms: int, kind: str | None = None, ue_id: str | None = None
    ) -> dict[str, Any]:
        """Report at another period from the next whole one on; ValueError on bad input."""
        checked_period_ms(report_period_ms)
        if (kind is None) == (ue_id is None):
            raise ValueError("say whose period: either kind or ue_id")
        chosen = [
            index
            for index, user in enumerate(self._users)
            if (user.ue_id == ue_id if kind is None else user.kind == kind)
        ]
        if not chosen:
            known = sorted({u.ue_id if kind is None else u.kind for u in self._users})
            raise ValueError(f"no user {kind or ue_id!r}; known: {', '.join(known)}")
        with self._changed:
            for index in chosen:
                self._periods_ms[index] = report_period_ms
            self._regroup()
            self._changed.notify()
        return {
            "ue_ids": [self._users[i].ue_id for i in chosen],
            "report_period_ms": report_period_ms,
        }


def main(arguments: list[str]) -> int:
    """Exit status 2 on a wrong call, 1 when it cannot start, one line each."""
    if len(arguments) != 1:
        print("usage: python -m topologies.user_agents RUN_FOLDER", file=sys.stderr)
        return 2
    run = RunFolder(Path(arguments[0]))
    try:
        agents = UserAgents(run, Inventory.load(run.inventory))
    except (OSError, ValueError, EmulationError, RadioStateError) as error:
        print(f"user agents: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agents.end())
    control = ControlThread(
        control_socket(run), {"status": agents.status, "configure": agents.configure}
    )
    try:
        agents.run()
    finally:
        control.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One instance of a task service: answers requests while it holds the service's lease.

`python -m topologies.services.task_server RUN_FOLDER SERVICE HOST ORDER`, in the host's
namespace, ORDER an `InstanceOrder` in JSON; controlled at `service-<name>-<host>.sock`:
status, copy, switch_over.  The lease is the only truth about who serves: the instance looks
at it with every request and acts by itself when it changes, whoever coordinates or dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.run_folder import RunFolder
from controller.contracts.services import (
    Holder,
    Lease,
    Phase,
    instance_socket,
    lease_path,
)
from topologies.services.image import PAGE_BYTES, Image
from topologies.services.instance_order import InstanceOrder
from topologies.services.messages import REPLY_LEAST_BYTES, Reply, pack_reply, unpack_request
from topologies.services.packet_counts import PacketCounts, counts_path
from topologies.services.transfer import Address, Incoming, Outgoing, Round, TransferFailed

LEASE_POLL_S = 0.002
"""Where a change is near: the service stands still until it is seen."""
LEASE_IDLE_POLL_S = 0.05
"""Elsewhere. Looking 500 times a second cost each instance some percent of a processor."""
FREEZE_LIMIT_S = 3.0
"""A frozen instance that nobody commits takes itself back after this time."""
ROUNDS_MAX = 10
LAST_ROUND_MS = 15.0
"""Pre-copy ends when what is left would take no longer than this."""
_SHRINKS = 0.8
_WAITING_MAX = 4096
_WAITING_S = 2.0


class TaskServer:
    def __init__(self, run: RunFolder, name: str, host: str, order: InstanceOrder) -> None:
        self._order = order
        self._host_index = order.host_index
        self._lease = Lease(lease_path(run, name))
        self._packets = PacketCounts(counts_path(run, name, host))
        self.image = Image(order.state_bytes, order.sessions, order.pages_per_request)
        self._own = Holder(0, self._host_index)
        self._phase = Phase.STANDBY
        self._live_ns = self._frozen_ns = 0
        self._state_complete = False
        self._change_near = asyncio.Event()
        self._served_here = self._refused = self._relayed = 0
        self._waiting: deque[tuple[float, bytes, Address]] = deque(maxlen=_WAITING_MAX)
        self._outgoing: Outgoing | None = None
        self._rounds: list[Round] = []
        self.socket = self._open()

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((self._order.address, self._order.port))
        opened.setblocking(False)
        return opened

    def claim(self) -> None:
        """At start: who the lease names begins a new epoch, with the state of a new server."""
        holder = self._lease.holder()
        if holder.host_index == self._host_index:
            mine = Holder(holder.epoch + 1, self._host_index)
            if self._lease.swap(holder, mine):
                self._go_live(mine)

    def _go_live(self, holder: Holder) -> None:
        self._own, self._phase, self._live_ns = holder, Phase.LIVE, time.time_ns()
        waiting, self._waiting = self._waiting, deque(maxlen=_WAITING_MAX)
        oldest_s = time.monotonic() - _WAITING_S
        for arrived_s, datagram, client in waiting:
            if arrived_s >= oldest_s:
                self.handle(datagram, client)

    # -- requests -----------------------------------------------------------------

    def readable(self) -> None:
        for _ in range(64):  # then let transfers and the control socket have their turn
            try:
                datagram, client = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            self._packets.count_received()
            self.handle(datagram, client)

    def handle(self, datagram: bytes, client: Address) -> None:
        if self._phase is Phase.LIVE and self._lease.holder() == self._own:
            self._answer(datagram, client)
        elif self._phase is Phase.RETIRED and self._outgoing is None:
            self._refused += 1
        else:
            self._waiting.append((time.monotonic(), datagram, client))

    def _answer(self, datagram: bytes, client: Address) -> None:
        request = unpack_request(datagram)
        if request is None:
            self._refused += 1
            return
        try:
            counter, digest = self.image.serve(request.session, request.request_id)
        except IndexError:
            self._refused += 1
            return
        _work(digest, self._order.work_ms)
        reply = Reply(
            request.session,
            request.request_id,
            counter,
            self._own.epoch,
            self._host_index,
            digest,
        )
        self._served_here += 1
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            payload = pack_reply(reply, max(REPLY_LEAST_BYTES, request.reply_bytes))
            self.socket.sendto(payload, client)
            self._packets.count_sent()

    # -- the lease ------------------------------------------------------------------

    async def follow_lease(self) -> None:
        while True:
            await self._until_a_look()
            holder = self._lease.holder()
            mine = holder.host_index == self._host_index
            if self._phase is Phase.LIVE and holder != self._own:
                self._phase = Phase.RETIRED
            elif self._phase is Phase.FROZEN and holder == self._own:
                if time.time_ns() - self._frozen_ns > FREEZE_LIMIT_S * 1e9:
                    self.take_back()
            elif self._phase is not Phase.LIVE and mine:
                self._go_live(holder)
            elif self._phase is Phase.FROZEN:
                self._phase = Phase.RETIRED
            if self._phase is Phase.RETIRED and self._outgoing is not None:
                await self._pass_on()

    async def _until_a_look(self) -> None:
        """Soon while frozen, retired or ready to take over; else when that begins."""
        idle = self._phase is Phase.LIVE or (
            self._phase is Phase.STANDBY and not self._state_complete
        )
        if not idle:
            await asyncio.sleep(LEASE_POLL_S)
            return
        self._change_near.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._change_near.wait(), LEASE_IDLE_POLL_S)

    async def _pass_on(self) -> None:
        while self._waiting and self._outgoing is not None:
            _, datagram, client = self._waiting.popleft()
            try:
                await self._outgoing.relay(datagram, client)
                self._relayed += 1
            except TransferFailed:
                self._refused += 1
                self._drop_connection()

    def take_back(self) -> bool:
        """Out of the freeze with a new epoch, so that a late commit finds another word."""
        again = Holder(self._own.epoch + 1, self._host_index)
        if self._phase is Phase.FROZEN and self._lease.swap(self._own, again):
            self._drop_connection()
            self._go_live(again)
            return True
        return False

    # -- moving away ------------------------------------------------------------------

    async def copy(self, address: str, port: int) -> dict[str, Any]:
        """Pre-copy to a standby instance while serving; what each round carried."""
        if self._phase is not Phase.LIVE:
            raise TransferFailed(f"cannot copy from an instance that is {self._phase}")
        self._drop_connection()
        rate_mbps = self._order.transfer_mbps
        out = self._outgoing = await Outgoing.connect(
            self._order.local_ip, (address, port), rate_mbps
        )
        try:
            self.image.mark_all()
            await out.begin(self.image)
            self._rounds = []
            while len(self._rounds) < ROUNDS_MAX:
                before = self.image.dirty_pages
                done = await out.round(self.image, len(self._rounds))
                self._rounds.append(done)
                left_ms = self.image.dirty_pages * done.duration_ms / max(1, done.pages)
                if left_ms <= LAST_ROUND_MS or self.image.dirty_pages > _SHRINKS * before:
                    break
        except TransferFailed:
            self._drop_connection()
            raise
        return self._transfer_figures()

    async def switch_over(self) -> dict[str, Any]:
        """Freeze, send the last delta; when it returns the target holds the same state.

        On a failure this instance serves again, with a new epoch. Raises `TransferFailed`.
        """
        out = self._outgoing
        if self._phase is not Phase.LIVE or out is None:
            raise TransferFailed(f"cannot switch over: {self._phase}, nothing copied")
        self._phase, self._frozen_ns = Phase.FROZEN, time.time_ns()
        self._change_near.set()
        try:
            self._rounds.append(await out.round(self.image, len(self._rounds)))
            await out.final(self.image.digest())
        except TransferFailed:
            self.take_back()
            raise
        return self._transfer_figures()

    def _transfer_figures(self) -> dict[str, Any]:
        return {
            "rounds": [
                {"pages": r.pages, "state_bytes": r.state_bytes, "duration_ms": r.duration_ms}
                for r in self._rounds
            ],
            "wire_bytes": self._outgoing.wire_bytes() if self._outgoing else 0,
            "frozen_ns": self._frozen_ns,
        }

    def _drop_connection(self) -> None:
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None

    # -- being moved to -----------------------------------------------------------------

    async def listen(self) -> asyncio.Server:
        incoming = Incoming(self.image, self._complete, self.handle, self._welcome)
        return await asyncio.start_server(
            incoming.receive, self._order.local_ip, self._order.transfer_tcp_port
        )

    def _welcome(self) -> bool:
        self._state_complete = False
        return self._phase is not Phase.LIVE

    def _complete(self) -> None:
        self._state_complete = True
        self._change_near.set()

    def status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "phase": self._phase.value,
            "holds_lease": self._phase is Phase.LIVE and self._lease.holder() == self._own,
            "epoch": self._own.epoch,
            "state_complete": self._state_complete,
            "state_bytes": self.image.page_count * PAGE_BYTES,
            "served": self.image.served,
            "served_here": self._served_here,
            "refused": self._refused,
            "relayed": self._relayed,
            "waiting": len(self._waiting),
            "live_ns": self._live_ns,
            "frozen_ns": self._frozen_ns,
            "wire_bytes": self._outgoing.wire_bytes() if self._outgoing else 0,
        }


def _work(content: bytes, work_ms: float) -> None:
    """Spend so much processor time on hashing; no sleeping, a busy server is a slow one."""
    end_ns = time.thread_time_ns() + int(work_ms * 1e6)
    while time.thread_time_ns() < end_ns:
        content = hashlib.sha256(content).digest()


async def serve(run: RunFolder, name: str, host: str, order: InstanceOrder) -> None:
    server = TaskServer(run, name, host, order)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    handlers: dict[str, rpc.Handler] = {
        "status": server.status,
        "copy": server.copy,
        "switch_over": server.switch_over,
        "take_back": server.take_back,
    }
    path = instance_socket(run, name, host)
    listening = await server.listen()
    control = await rpc.serve(path, handlers)
    server.claim()
    loop.add_reader(server.socket, server.readable)
    following = asyncio.create_task(server.follow_lease())
    await ended.wait()
    following.cancel()
    control.close()
    listening.close()
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    _folder, _service, _host, _written = sys.argv[1:]
    asyncio.run(serve(RunFolder(Path(_folder)), _service, _host, InstanceOrder.read(_written)))

"""The clients' process: users' requests to task services, and how each of them went.

`python -m topologies.services.clients RUN_FOLDER`; controlled at
`service-clients.sock`: start {t0_ns}, stop, status, collect {since_ns, until_ns, service},
packets, offload {ue_id, service, to}, offloads.
A socket in each user's namespace; sending times are this process's clock, arrival
times the kernel's. A request is sent once: without a reply in time it is lost.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.contracts import rpc
from controller.contracts.inventory import DEVICE, Inventory
from controller.contracts.run_folder import RunFolder
from topologies.namespaces import inside
from topologies.scenario.schema import RequestSpec, Scenario
from topologies.services.messages import Request, pack_request, unpack_reply
from topologies.traffic.datagrams import ask_for_timestamps
from topologies.traffic.inputs import read_inputs
from topologies.traffic.scheduling import be_punctual

_TIMESTAMP = struct.Struct("@qq")
_PERIOD_JITTER = 0.1
"""Share of the period by which a request comes early or late: clients must not march in step."""


def clients_socket(run: RunFolder) -> Path:
    return run.path / "service-clients.sock"


@dataclass
class Client:
    """One user of one service. `log`: request id -> [sent_ns, received_ns, host, epoch, place].

    `remotes`: place (a service that does the work) -> its address; `place` is where the next
    request goes, by the decision `offload`, or `DEVICE`: then it is answered here after its
    stated cost.
    """

    service: str
    ue_id: str
    session: int
    spec: RequestSpec
    remotes: dict[str, tuple[str, int]]
    socket: socket.socket
    draw: random.Random
    log: dict[int, list[int]] = field(default_factory=dict)
    sent: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    place: str = ""
    newest: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By place: request id and session counter of the newest request that was answered."""
    regressions: int = 0
    """Later requests with a counter that is not higher: state was lost."""

    def __post_init__(self) -> None:
        self.place = self.place or self.service
        self.places = [*self.remotes, DEVICE]

    def offload(self, to: str) -> None:
        """Requests go there from now on. Raises `LookupError`."""
        if to == DEVICE and self.spec.device_work_ms is None:
            raise LookupError(f"the device of {self.ue_id} cannot do the work of {self.service}")
        if to not in self.places:
            known = ", ".join(self.places)
            raise LookupError(f"{self.service} cannot be done at {to!r}; places: {known}")
        self.place = to

    def send(self) -> None:
        self.sent += 1
        request = Request(self.session, self.sent, self.spec.reply_bytes)
        sent_ns = time.time_ns()
        self.log[self.sent] = [sent_ns, 0, -1, 0, self.places.index(self.place)]
        if self.place == DEVICE:
            work_s = (self.spec.device_work_ms or 0.0) / 1000
            asyncio.get_running_loop().call_later(work_s, self._worked, self.sent)
            return
        remote = self.remotes[self.place]
        try:
            self.socket.sendto(pack_request(request, self.spec.request_bytes), remote)
            self.packets_sent += 1
        except OSError:
            return  # the log says it was sent and it will not be answered: lost, as to the user

    def _worked(self, request_id: int) -> None:
        """The device is done."""
        self.log[request_id][1] = time.time_ns()

    def readable(self) -> None:
        while True:
            try:
                datagram, ancillary, _, _ = self.socket.recvmsg(2048, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self.packets_received += 1
            reply = unpack_reply(datagram)
            entry = self.log.get(reply.request_id) if reply is not None else None
            if reply is None or entry is None or entry[1] or reply.session != self.session:
                continue
            seconds, nanoseconds = _TIMESTAMP.unpack_from(ancillary[0][2])
            entry[1:4] = [seconds * 1_000_000_000 + nanoseconds, reply.host_index, reply.epoch]
            newest, counter = self.newest.get(entry[4], (0, 0))
            if reply.request_id > newest:
                self.regressions += reply.counter <= counter
                self.newest[entry[4]] = (reply.request_id, reply.counter)

    async def run(self, start_ns: int) -> None:
        period_s = 1 / self.spec.rate_rps
        due_s = time.monotonic() + (start_ns - time.time_ns()) / 1e9
        due_s += self.draw.random() * period_s
        while True:
            jitter_s = _PERIOD_JITTER * period_s * (self.draw.random() - 0.5)
            await asyncio.sleep(max(0.0, due_s + jitter_s - time.monotonic()))
            self.send()
            due_s += period_s

    def rows(self, since_ns: int, until_ns: int, hosts: list[str]) -> list[dict[str, Any]]:
        """Requests sent in [since, until). `latency_ms` None: no reply within the timeout."""
        limit_ns = self.spec.timeout_ms * 1_000_000
        found = []
        for request_id, (sent_ns, received_ns, host, epoch, place) in self.log.items():
            if not since_ns <= sent_ns < until_ns:
                continue
            in_time = received_ns > 0 and received_ns - sent_ns <= limit_ns
            found.append(
                {
                    "service": self.service,
                    "ue_id": self.ue_id,
                    "request_id": request_id,
                    "sent_ns": sent_ns,
                    "latency_ms": (received_ns - sent_ns) / 1e6 if in_time else None,
                    "host": hosts[host] if host >= 0 else "",
                    "epoch": epoch,
                    "place": self.places[place],
                }
            )
        return found


class Clients:
    def __init__(self, scenario: Scenario, inventory: Inventory) -> None:
        self._hosts = [h.name for h in inventory.hosts]
        users = [u.ue_id for u in inventory.users]
        self.clients = [
            _client(spec, ue_id, users.index(ue_id), scenario, inventory)
            for spec in scenario.requests
            for ue_id in spec.users
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, t0_ns: int) -> None:
        self.stop()
        loop = asyncio.get_running_loop()
        for client in self.clients:
            loop.add_reader(client.socket, client.readable)
            self._tasks.append(asyncio.create_task(client.run(t0_ns)))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def status(self) -> dict[str, Any]:
        return {
            "clients": len(self.clients),
            "sent": sum(c.sent for c in self.clients),
            "answered": sum(1 for c in self.clients for e in c.log.values() if e[1]),
            "regressions": sum(c.regressions for c in self.clients),
        }

    def collect(
        self, since_ns: int, until_ns: int, service: str | None = None
    ) -> list[dict[str, Any]]:
        """Of one service, or of all."""
        asked = [c for c in self.clients if service in (None, c.service)]
        return [r for c in asked for r in c.rows(since_ns, until_ns, self._hosts)]

    def offload(self, ue_id: str, service: str, to: str) -> None:
        """From the next request on. Raises `LookupError`."""
        found = [c for c in self.clients if (c.ue_id, c.service) == (ue_id, service)]
        if not found:
            raise LookupError(f"{ue_id} asks no service {service!r}")
        for client in found:
            client.offload(to)

    def offloads(self) -> list[dict[str, str]]:
        """Where each user's tasks are worked on."""
        return [{"ue_id": c.ue_id, "service": c.service, "place": c.place} for c in self.clients]

    def packets(self) -> dict[str, list[int]]:
        """By service: requests handed to the kernel, and replies, since the clients began."""
        found: dict[str, list[int]] = {}
        for client in self.clients:
            sent, received = found.get(client.service, (0, 0))
            found[client.service] = [
                sent + client.packets_sent,
                received + client.packets_received,
            ]
        return found

    def regressions(self) -> dict[str, int]:
        """By service: how often a session's counter fell behind."""
        found: dict[str, int] = {}
        for client in self.clients:
            found[client.service] = found.get(client.service, 0) + client.regressions
        return found


def _client(
    spec: RequestSpec, ue_id: str, session: int, scenario: Scenario, inventory: Inventory
) -> Client:
    services = {s.name: s for s in inventory.services}
    service = services[spec.service]
    user = inventory.user(ue_id)
    local = next(s.ip for s in user.sessions if s.slice_id == service.slice_id)
    with inside(inventory.host(user.host).netns_path):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((local, 0))
    opened.setblocking(False)
    ask_for_timestamps(opened)
    return Client(
        service.name,
        ue_id,
        session,
        spec,
        {n: (services[n].address, services[n].port) for n in (service.name, *spec.alternatives)},
        opened,
        random.Random(f"{scenario.seed}/{spec.service}/{ue_id}"),
    )


async def serve(run: RunFolder) -> None:
    clients = Clients(*read_inputs(run))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    handlers: dict[str, rpc.Handler] = {
        "start": clients.start,
        "stop": clients.stop,
        "status": clients.status,
        "collect": clients.collect,
        "regressions": clients.regressions,
        "packets": clients.packets,
        "offload": clients.offload,
        "offloads": clients.offloads,
    }
    path = clients_socket(run)
    control = await rpc.serve(path, handlers)
    await ended.wait()
    clients.stop()
    control.close()
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    be_punctual(None)
    asyncio.run(serve(RunFolder(Path(sys.argv[1]))))

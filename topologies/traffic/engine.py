"""The traffic engine: starts senders, receivers and iperf3, and collects what they measured.

Used by the emulation process. `prepare` may run before the network forwards;
`start` sets scenario time 0. It judges nothing: `topologies.results` does.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from topologies.scenario.schema import Scenario
from topologies.services.packet_counts import Datagrams
from topologies.traffic import iperf
from topologies.traffic.counters import WINDOW_NS, FlowCounters
from topologies.traffic.flows import Flow, flows_of
from topologies.traffic.iperf import TcpResult
from topologies.traffic.samples import Samples
from topologies.traffic.segments import SegmentCounts

READY_TIMEOUT_S = 15.0
HEAD_START_NS = 200_000_000
"""Between the order to start and scenario time 0."""
QUIET_S = 0.3
DRAIN_TIMEOUT_S = 5.0

Int64Array = npt.NDArray[np.int64]


class Spawned(Protocol):
    """A child of the supervisor."""

    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool: ...


class Spawn(Protocol):
    """The supervisor's `start`: runs `python -m <module_arguments>` and records its pid."""

    def __call__(
        self,
        name: str,
        module_arguments: list[str],
        namespace_path: str | None = None,
        restart: bool = False,
    ) -> Spawned: ...


@dataclass(frozen=True)
class Measurements:
    """Whole 1 s windows `first_window`.. of scenario time; arrays are [flow, window].

    A packet counts in the window in which it was sent. Bytes are L2. `totals` and
    `leaks` are since traffic start, not of the window.
    """

    flows: list[Flow]
    t0_ns: int
    first_window: int
    sent_packets: Int64Array
    sent_bytes: Int64Array
    received_packets: Int64Array
    received_bytes: Int64Array
    totals: npt.NDArray[np.void]
    samples: Samples
    slip: dict[str, Any]
    leaks: list[dict[str, Any]]
    tcp: list[TcpResult]
    senders: dict[str, Any]
    receivers: dict[str, Any]

    @property
    def window_count(self) -> int:
        return int(self.sent_packets.shape[1])

    @property
    def start_ns(self) -> int:
        return self.t0_ns + self.first_window * WINDOW_NS

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.window_count * WINDOW_NS


@dataclass(frozen=True)
class _TcpPair:
    flow: Flow
    server: Spawned
    server_log: Path
    client_log: Path


class TrafficEngine:
    """One scenario's traffic. RpcError and TimeoutError when a process does not do its part."""

    def __init__(
        self, run: RunFolder, scenario: Scenario, inventory: Inventory, spawn: Spawn
    ) -> None:
        self._run = run
        self._inventory = inventory
        self._spawn = spawn
        self.flows = flows_of(scenario, inventory)
        self._children: dict[str, Spawned] = {}
        self._tcp: list[_TcpPair] = []
        self._tcp_clients: list[Spawned] = []
        self._tcp_started_s = 0.0
        self._segments = SegmentCounts(self.flows, inventory)

    def prepare(self) -> None:
        """Make the counters' table and start the processes; returns without waiting for them."""
        self.counters = FlowCounters.create(
            self._run.flow_counters, [f.metadata() for f in self.flows]
        )
        folder = str(self._run.path)
        for name in ("receivers", "senders"):
            self._socket(name).unlink(missing_ok=True)
            self._children[name] = self._spawn(name, [f"topologies.traffic.{name}", folder])
        self._tcp = [self._tcp_server(f) for f in self.flows if f.kind == "tcp"]

    def start(self) -> int:
        """Start traffic when the processes are ready; returns scenario time 0 (`t0_ns`)."""
        for name in ("receivers", "senders"):
            self._await_ready(name)
        self.counters.reset()
        self._call("receivers", "reset")
        self._call("senders", "reset")
        self._segments.begin()
        t0_ns = time.time_ns() + HEAD_START_NS
        self.counters.t0_ns = t0_ns
        self._call("receivers", "start", t0_ns=t0_ns)
        self._call("senders", "start", t0_ns=t0_ns)
        self._tcp = [p if p.server.alive else self._tcp_server(p.flow) for p in self._tcp]
        _wait_for(
            lambda: all(_listens(pair) for pair in self._tcp), READY_TIMEOUT_S, "iperf3 to listen"
        )
        self._tcp_started_s = time.time()
        self._tcp_clients = [self._tcp_client(pair) for pair in self._tcp]
        return t0_ns

    def stop(self) -> None:
        """Stop sending, then wait until nothing arrives any more."""
        self._call("senders", "stop")
        for client in self._tcp_clients:
            if client.alive:
                client.process.send_signal(signal.SIGTERM)
        self._drain()
        self._call("receivers", "stop")
        for child in [*self._tcp_clients, *(pair.server for pair in self._tcp)]:
            _wait(child, 2.0)

    def end(self) -> None:
        """End every process of the engine; for shutdown, whatever state it is in."""
        children = [
            *self._children.values(),
            *self._tcp_clients,
            *(pair.server for pair in self._tcp),
        ]
        for child in children:
            if child.alive:
                child.process.send_signal(signal.SIGTERM)
        for child in children:
            _wait(child, 2.0)
        self._segments.close()

    def alive(self) -> bool:
        """Whether senders and receivers both run."""
        return all(child.alive for child in self._children.values())

    def collect(self, start_ns: int, end_ns: int) -> Measurements:
        """What was measured in the whole windows inside [start, end), CLOCK_REALTIME.

        TCP figures exist only after `stop`: iperf3 tells them when it ends. On running traffic
        let the longest queueing delay pass after `end_ns` first, or late packets look lost.
        """
        t0_ns = self.counters.t0_ns
        first = -((t0_ns - start_ns) // WINDOW_NS)
        count = (end_ns - t0_ns) // WINDOW_NS - first
        if first < 0 or count < 1:
            raise ValueError(f"no whole second of traffic between {start_ns} and {end_ns}")
        since_ns, until_ns = t0_ns + first * WINDOW_NS, t0_ns + (first + count) * WINDOW_NS
        stored = Path(self._call("receivers", "samples", since_ns=since_ns, until_ns=until_ns))
        samples = Samples.load(stored)
        stored.unlink()
        sent_packets, sent_bytes = self.counters.windows("sent", first, count)
        received_packets, received_bytes = self.counters.windows("received", first, count)
        return Measurements(
            flows=self.flows,
            t0_ns=t0_ns,
            first_window=first,
            sent_packets=sent_packets,
            sent_bytes=sent_bytes,
            received_packets=received_packets,
            received_bytes=received_bytes,
            totals=self.counters.snapshot(),
            samples=samples,
            slip=self._call("senders", "slip", since_ns=since_ns, until_ns=until_ns),
            leaks=self._call("receivers", "leaks"),
            tcp=[self._tcp_result(p, since_ns / 1e9, until_ns / 1e9) for p in self._tcp],
            senders=self._call("senders", "status"),
            receivers=self._call("receivers", "status"),
        )

    def segments(self) -> dict[int, Datagrams]:
        """TCP flow -> its segments since traffic start."""
        return self._segments.read()

    def expect_through(self, host: str, addresses: list[str]) -> None:
        """Packets of the services at these addresses are no leaks in this host."""
        self._call("receivers", "expect", host=host, addresses=addresses)

    def _socket(self, name: str) -> Path:
        return self._run.path / f"{name}.sock"

    def _call(self, name: str, op: str, **arguments: Any) -> Any:
        return rpc.call(self._socket(name), op, 30.0, **arguments)

    def _await_ready(self, name: str) -> None:
        def answers() -> bool:
            if not self._children[name].alive:
                raise rpc.RpcUnavailable(f"{name} ended; see its log {name}.log")
            try:
                self._call(name, "status")
            except rpc.RpcUnavailable:
                return False
            return True

        _wait_for(answers, READY_TIMEOUT_S, f"{name} to answer")

    def _drain(self) -> None:
        last: list[Any] = [-1, time.monotonic()]

        def quiet() -> bool:
            received = int(self.counters.totals["received_packets"].sum())
            if received != last[0]:
                last[:] = [received, time.monotonic()]
            return bool(time.monotonic() - last[1] >= QUIET_S)

        _wait_for(quiet, DRAIN_TIMEOUT_S, "the network to drain")

    def _tcp_server(self, flow: Flow) -> _TcpPair:
        logs = [self._run.logs / f"iperf-{flow.flow_id}-{end}.json" for end in ("server", "client")]
        for log in logs:
            log.unlink(missing_ok=True)
        host = self._inventory.host(flow.receiver.host)
        arguments = ["topologies.traffic.iperf", *iperf.server_arguments(flow, logs[0])]
        name = f"iperf-server-{flow.flow_id}"
        return _TcpPair(flow, self._spawn(name, arguments, host.netns_path), logs[0], logs[1])

    def _tcp_client(self, pair: _TcpPair) -> Spawned:
        host = self._inventory.host(pair.flow.sender.host)
        arguments = [
            "topologies.traffic.iperf",
            *iperf.client_arguments(pair.flow, pair.client_log),
        ]
        return self._spawn(f"iperf-client-{pair.flow.flow_id}", arguments, host.netns_path)

    def _tcp_result(self, pair: _TcpPair, since_s: float, until_s: float) -> TcpResult:
        return iperf.result_of(
            pair.flow.flow_id,
            pair.server_log,
            pair.client_log,
            self._tcp_started_s,
            since_s,
            until_s,
        )


def _listens(pair: _TcpPair) -> bool:
    """Whether the server's namespace has a listening TCP socket at the flow's port."""
    if not pair.server.alive:
        raise RuntimeError(f"the iperf3 server of {pair.flow.name} ended before its test")
    table = Path(f"/proc/{pair.server.process.pid}/net/tcp").read_text()
    rows = [line.split() for line in table.splitlines()[1:]]
    return any(
        row[3] == "0A" and int(row[1].split(":")[1], 16) == iperf.port_of(pair.flow) for row in rows
    )


def _wait(child: Spawned, timeout_s: float) -> None:
    try:
        child.process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()


def _wait_for(predicate: Callable[[], bool], timeout_s: float, what: str) -> None:
    end_s = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > end_s:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.02)

"""The senders' process: opens every flow's socket in its host's namespace and paces them.

`python -m topologies.traffic.senders RUN_FOLDER`; controlled at `senders.sock`:
start {t0_ns}, stop, status, slip {since_ns, until_ns}, reset.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from topologies.demand import rate_mbps
from topologies.errors import EmulationError
from topologies.scenario.schema import Scenario
from topologies.traffic.control_thread import ControlThread
from topologies.traffic.counters import FlowCounters
from topologies.traffic.flows import Flow, flows_of
from topologies.traffic.host_sockets import enlarge_send_buffer, udp_socket
from topologies.traffic.inputs import read_inputs
from topologies.traffic.pacing import Pacer, Probe, Stream
from topologies.traffic.payload import new_payload
from topologies.traffic.scheduling import awake_processors, be_punctual

FIFO_PRIORITY = 10
SEND_BUFFER_BYTES = 4 * 1024 * 1024


def control_socket(run: RunFolder) -> Path:
    return run.path / "senders.sock"


class Senders:
    """Sockets stay open for the process's life; each start makes a fresh pacer."""

    def __init__(self, run: RunFolder, scenario: Scenario, inventory: Inventory) -> None:
        self._counters = FlowCounters.open(run.flow_counters)
        self._seed = scenario.seed
        self._flows = [f for f in flows_of(scenario, inventory) if f.kind != "tcp"]
        self._sockets = {f.flow_id: _open(f, inventory) for f in self._flows}
        self._pacer = self._new_pacer()
        self._t0_ns: int | None = None
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ending = False
        self._priority = "not asked yet"
        self._awake = False

    def _new_pacer(self) -> Pacer:
        streams: list[Stream] = []
        probes: list[Probe] = []
        for flow in self._flows:
            payload = new_payload(flow.flow_id, flow.slice_id, flow.payload_bytes)
            send = self._sockets[flow.flow_id].send
            if flow.rate_pps is not None:
                period_ns = round(1e9 / flow.rate_pps)
                probes.append(Probe(flow.flow_id, flow.l2_bytes, payload, send, period_ns))
            elif flow.demand is not None:
                rate = partial(rate_mbps, flow.demand, self._seed, flow.name)
                bulk = flow.kind == "filler"
                streams.append(Stream(flow.flow_id, flow.l2_bytes, payload, send, rate, bulk))
        return Pacer(self._counters, streams, probes)

    def run(self) -> None:
        """The main thread's life: wait for a start, pace until the stop, again."""
        self._priority = be_punctual(FIFO_PRIORITY)
        while not self._ending:
            if not self._wanted.wait(timeout=0.2):
                continue
            if self._t0_ns is not None:
                with awake_processors() as self._awake:
                    self._pacer.run(self._t0_ns)
            self._wanted.clear()
            self._idle.set()

    def end(self) -> None:
        """For a signal handler: flags only, no locks."""
        self._ending = True
        self._pacer.stop()

    def start(self, t0_ns: int) -> dict[str, Any]:
        """Scenario time 0 is CLOCK_REALTIME `t0_ns`; counters must have been reset."""
        if not self._idle.is_set():
            raise ValueError("traffic is already running; stop it first")
        self._pacer = self._new_pacer()
        self._t0_ns = t0_ns
        self._idle.clear()
        self._wanted.set()
        return self.status()

    def stop(self) -> dict[str, Any]:
        self._pacer.stop()
        if not self._idle.wait(timeout=5):
            raise TimeoutError("the pacer did not stop within 5 s")
        return self.status()

    def reset(self) -> dict[str, Any]:
        if not self._idle.is_set():
            raise ValueError("stop traffic before a reset")
        self._pacer = self._new_pacer()
        return self.status()

    def slip(self, since_ns: int, until_ns: int) -> dict[str, Any]:
        return dict(self._pacer.slips.summary(since_ns, until_ns))

    def status(self) -> dict[str, Any]:
        return {
            "ready": True,
            "running": not self._idle.is_set(),
            "pid": os.getpid(),
            "flows": len(self._flows),
            "priority": self._priority,
            "processors_awake": self._awake,
            "forgone_bytes": self._pacer.forgone_bytes,
            "processor_s": time.process_time(),
        }


def _open(flow: Flow, inventory: Inventory) -> socket.socket:
    opened = udp_socket(inventory.host(flow.sender.host).netns_path, flow.sender, flow.receiver)
    enlarge_send_buffer(opened, SEND_BUFFER_BYTES)
    return opened


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; exit status 2 on a wrong call, 1 when a socket cannot be made."""
    if len(arguments) != 1:
        print("usage: python -m topologies.traffic.senders RUN_FOLDER", file=sys.stderr)
        return 2
    run = RunFolder(Path(arguments[0]))
    try:
        senders = Senders(run, *read_inputs(run))
    except (OSError, ValueError, EmulationError) as error:
        print(f"senders: {error}", file=sys.stderr)
        return 1
    handlers: dict[str, Any] = {
        "start": senders.start,
        "stop": senders.stop,
        "status": senders.status,
        "slip": senders.slip,
        "reset": senders.reset,
    }
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: senders.end())
    control = ControlThread(control_socket(run), handlers)
    try:
        senders.run()
    finally:
        control.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The receivers' process: drains every flow's socket, counts, keeps delays, watches for leaks.

`python -m topologies.traffic.receivers RUN_FOLDER`; controlled at `receivers.sock`:
start {t0_ns}, stop, status, samples {since_ns, until_ns}, leaks, expect {host, addresses},
reset. It need not be quick, because arrival times are the kernel's: it drains all sockets
every 10 ms.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from controller.contracts.addressing import slice_of
from controller.contracts.inventory import Address, Inventory
from controller.contracts.run_folder import RunFolder
from topologies.errors import EmulationError
from topologies.scenario.schema import Scenario
from topologies.traffic.control_thread import ControlThread
from topologies.traffic.counters import FlowCounters
from topologies.traffic.datagrams import DatagramReader, ask_for_timestamps
from topologies.traffic.flows import Flow, flows_of
from topologies.traffic.host_sockets import (
    enlarge_receive_buffer,
    receive_drops,
    udp_socket,
)
from topologies.traffic.inputs import read_inputs
from topologies.traffic.leaks import LeakDetector
from topologies.traffic.scheduling import be_punctual
from topologies.traffic.tally import Tally

TICK_S = 0.010
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024
DROPS_PERIOD_S = 0.5


def control_socket(run: RunFolder) -> Path:
    return run.path / "receivers.sock"


class Receivers:
    """Sockets of all flows and leak detectors of all hosts, drained by one loop."""

    def __init__(self, run: RunFolder, scenario: Scenario, inventory: Inventory) -> None:
        self._run_folder = run
        self._flows = [f for f in flows_of(scenario, inventory) if f.kind != "tcp"]
        self._sockets = [_open(f, inventory) for f in self._flows]
        self._detectors = [LeakDetector.open(h, inventory) for h in inventory.hosts]
        self._tally = Tally(FlowCounters.open(run.flow_counters), self._flows)
        self._lock = threading.Lock()
        self._ending = False
        self._priority = "not asked yet"
        self._drops_before = [0] * len(self._sockets)

    def run(self) -> None:
        """The main thread's life, until `end`."""
        self._priority = be_punctual(None)
        reader = DatagramReader()
        poll = select.epoll()
        by_descriptor = {s.fileno(): index for index, s in enumerate(self._sockets)}
        detectors = {d.opened.fileno(): d for d in self._detectors}
        for descriptor in [*by_descriptor, *detectors]:
            poll.register(descriptor, select.EPOLLIN)
        next_drops_s = 0.0
        while not self._ending:
            tick_s = time.monotonic()
            ready = poll.poll(0.2)
            with self._lock:
                drained_ns = time.time_ns()
                for descriptor, _ in ready:
                    index = by_descriptor.get(descriptor)
                    if index is None:
                        detectors[descriptor].read()
                        continue
                    while not reader.read(descriptor, index):
                        self._tally.add(reader.take(), drained_ns)
                self._tally.add(reader.take(), drained_ns)
                if tick_s >= next_drops_s:
                    self._count_drops()
                    next_drops_s = tick_s + DROPS_PERIOD_S
            left_s = TICK_S - (time.monotonic() - tick_s)
            if left_s > 0:
                time.sleep(left_s)

    def _count_drops(self) -> None:
        drops = [
            receive_drops(s) - b for s, b in zip(self._sockets, self._drops_before, strict=True)
        ]
        self._tally.set_socket_drops(drops)

    def end(self) -> None:
        """For a signal handler: a flag only."""
        self._ending = True

    def start(self, t0_ns: int) -> dict[str, Any]:
        with self._lock:
            self._tally.start(t0_ns)
        return self.status()

    def stop(self) -> dict[str, Any]:
        """Nothing is closed: late packets still count. Brings socket drops up to date."""
        with self._lock:
            self._count_drops()
        return self.status()

    def reset(self) -> dict[str, Any]:
        with self._lock:
            self._tally.reset()
            self._drops_before = [receive_drops(s) for s in self._sockets]
            for detector in self._detectors:
                detector.clear()
        return self.status()

    def samples(self, since_ns: int, until_ns: int) -> str:
        """Delays of probes and paced packets sent in [since, until): path of an .npz file."""
        with self._lock:
            chosen = self._tally.ring.between(since_ns, until_ns)
        self._run_folder.results.mkdir(exist_ok=True)
        path = self._run_folder.results / f"samples-{since_ns}-{until_ns}.npz"
        chosen.save(path)
        return str(path)

    def leaks(self) -> list[dict[str, Any]]:
        """Per host with leaks: frames by slice of the frame's source (-1 unknown), examples."""
        with self._lock:
            for detector in self._detectors:
                detector.read()
            return [
                {
                    "host": d.host,
                    "frames_by_slice": {str(k): v for k, v in d.frames_by_slice.items()},
                    "examples": list(d.examples),
                }
                for d in self._detectors
                if d.frames_by_slice
            ]

    def expect(self, host: str, addresses: list[str]) -> None:
        """Packets of the services at these addresses pass a network function in the host."""
        through = [Address(slice_id=slice_of(ip), ip=ip) for ip in addresses]
        with self._lock:
            for detector in self._detectors:
                if detector.host == host:
                    detector.expect(through)

    def status(self) -> dict[str, Any]:
        return {
            "ready": True,
            "pid": os.getpid(),
            "flows": len(self._flows),
            "hosts_watched": len(self._detectors),
            "priority": self._priority,
            "samples": self._tally.ring.count,
            "strangers": self._tally.strangers,
            "without_kernel_time": self._tally.without_kernel_time,
            "processor_s": time.process_time(),
        }


def _open(flow: Flow, inventory: Inventory) -> socket.socket:
    host = inventory.host(flow.receiver.host)
    opened = udp_socket(host.netns_path, flow.receiver, flow.sender)
    enlarge_receive_buffer(opened, RECEIVE_BUFFER_BYTES)
    ask_for_timestamps(opened)
    return opened


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; exit status 2 on a wrong call, 1 when a socket cannot be made."""
    if len(arguments) != 1:
        print("usage: python -m topologies.traffic.receivers RUN_FOLDER", file=sys.stderr)
        return 2
    run = RunFolder(Path(arguments[0]))
    try:
        receivers = Receivers(run, *read_inputs(run))
    except (OSError, ValueError, EmulationError) as error:
        print(f"receivers: {error}", file=sys.stderr)
        return 1
    handlers: dict[str, Any] = {
        "start": receivers.start,
        "stop": receivers.stop,
        "status": receivers.status,
        "samples": receivers.samples,
        "leaks": receivers.leaks,
        "expect": receivers.expect,
        "reset": receivers.reset,
    }
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: receivers.end())
    control = ControlThread(control_socket(run), handlers)
    try:
        receivers.run()
    finally:
        control.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

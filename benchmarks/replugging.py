"""The reference for handovers: a user's port moved from one plain switch to another.

`del-port` and `add-port` in one OVSDB transaction, two learning switches joined to a
third, a private Open vSwitch of its own in a namespace of its own.

The two directions do not lose alike, and that is Open vSwitch's doing in userspace mode,
not the sender's.  Between `del-port` and `add-port` nobody has a socket open at the user's
port: what the user sends reaches the device (its counters have all of it) and is gone.
Meanwhile the same thread does not forward either, so what the server sends waits in the
socket of the server's port and comes late instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.contracts.run_folder import RunFolder
from topologies import cleanup, namespaces
from topologies.manifest import create_run_folder
from topologies.network import enter_run_namespace
from topologies.ovs import PrivateOvs

USER_IP, SERVER_IP, PORT = "10.1.1.1", "10.1.200.1", 5101
PERIOD_NS = 1_000_000
PAYLOAD_BYTES = 100
AROUND_NS = 1_000_000_000
_TIMESTAMPNS = 35
_HEADER = struct.Struct("=q")


@dataclass
class Stream:
    """One direction: what was sent, and what arrived when (CLOCK_REALTIME of the kernel)."""

    sender: socket.socket
    receiver: socket.socket
    target: str
    sent_ns: list[int] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    """(sequence, arrived_ns)."""

    def send(self) -> None:
        payload = _HEADER.pack(len(self.sent_ns)).ljust(PAYLOAD_BYTES, b"\0")
        self.sent_ns.append(time.time_ns())
        self.sender.sendto(payload, (self.target, PORT))

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, ancillary, _, _ = self.receiver.recvmsg(2048, 64)
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2][:16])
                sequence = _HEADER.unpack_from(payload)[0]
                self.arrivals.append((sequence, seconds * 1_000_000_000 + nanoseconds))

    def cost(self, at_ns: int) -> dict[str, float]:
        """Lost, reordered and the longest gap of what was sent within 1 s around `at_ns`."""
        numbers = [n for n, t in enumerate(self.sent_ns) if abs(t - at_ns) <= AROUND_NS]
        wanted = range(numbers[0], numbers[-1] + 1)
        here = [(n, t) for n, t in self.arrivals if n in wanted]
        highest, reordered = -1, 0
        for number, _ in here:
            reordered += number < highest
            highest = max(highest, number)
        times = [t for _, t in here]
        gaps_ns = [b - a for a, b in zip(times, times[1:], strict=False)]
        return {
            "lost_packets": len(wanted) - len({n for n, _ in here}),
            "reordered_packets": reordered,
            "interruption_ms": (max(gaps_ns, default=0) - PERIOD_NS) / 1e6,
        }


@contextlib.contextmanager
def _plain_network() -> Iterator[tuple[PrivateOvs, dict[str, int]]]:
    """Switches `left` and `right` joined to `middle`; a server there, a user at `left`."""
    root = Path(tempfile.mkdtemp(prefix="holon-replug-"))
    run = RunFolder(root / f"replug-{os.getpid()}")
    manifest = create_run_folder(run)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    hosts: list[subprocess.Popen[bytes]] = []
    ovs = PrivateOvs(run, manifest)
    try:
        enter_run_namespace(run)
        ovs.start()
        ovs.vsctl(_switches())
        for name, ip, bridge in (("user", USER_IP, "left"), ("server", SERVER_IP, "middle")):
            hosts.append(_host(name, ip))
            ovs.vsctl(["add-port", bridge, f"{name}-port"])
        ovs.enlarge_send_buffers()
        yield ovs, {"user": hosts[0].pid, "server": hosts[1].pid}
    finally:
        for host in hosts:
            host.kill()
            host.wait()
        ovs.stop()
        namespaces.enter(f"/proc/self/fd/{home}")
        os.close(home)
        cleanup.remove(run)
        shutil.rmtree(root, ignore_errors=True)


def _switches() -> list[str]:
    words: list[str] = []
    for name in ("left", "right", "middle"):
        words += ["--", "add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev"]
    for name in ("left", "right"):
        for here, there, bridge in (
            (f"{name}-in", f"{name}-out", name),
            (f"{name}-out", f"{name}-in", "middle"),
        ):
            words += ["--", "add-port", bridge, here, "--", "set", "Interface", here]
            words += ["type=patch", f"options:peer={there}"]
    return words[1:]


def _host(name: str, ip: str) -> subprocess.Popen[bytes]:
    """A namespace held by a process, joined by a veth pair; offloads off."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    own = Path("/proc/self/ns/net").stat().st_ino
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{holder.pid}/ns/net").stat().st_ino == own:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"no namespace for {name} within 5 s")
        time.sleep(0.005)
    inside = f"/proc/{holder.pid}/ns/net"
    namespaces.run(
        ["ip", "link", "add", f"{name}-port", "type", "veth",
         "peer", "name", "eth0", "netns", str(holder.pid)]
    )  # fmt: skip
    namespaces.run(["ip", "link", "set", f"{name}-port", "up"])
    namespaces.run_in(inside, ["ip", "addr", "add", f"{ip}/8", "dev", "eth0"])
    namespaces.run_in(inside, ["ip", "link", "set", "eth0", "up"])
    namespaces.run_in(inside, ["ethtool", "-K", "eth0", "tx", "off"])
    return holder


def _socket(pid: int, ip: str) -> socket.socket:
    opened = namespaces.socket_in(f"/proc/{pid}/ns/net", socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
    opened.setblocking(False)
    opened.bind((ip, PORT))
    return opened


def measure(moves: int, period_s: float = 2.5) -> dict[str, list[dict[str, float]]]:
    """`down` and `up`: what each of `moves` re-pluggings cost, 1,000 packets/s both ways."""
    with _plain_network() as (ovs, pids):
        user, server = _socket(pids["user"], USER_IP), _socket(pids["server"], SERVER_IP)
        streams = {"down": Stream(server, user, USER_IP), "up": Stream(user, server, SERVER_IP)}
        moved_ns: list[int] = []
        ended = threading.Event()

        def move() -> None:
            for number in range(moves):
                ended.wait(period_s)
                near, far = ("left", "right") if number % 2 == 0 else ("right", "left")
                moved_ns.append(time.time_ns())
                ovs.vsctl(["del-port", near, "user-port", "--", "add-port", far, "user-port"])
            ended.wait(period_s)
            ended.set()

        mover = threading.Thread(target=move)
        mover.start()
        _exchange(list(streams.values()), ended)
        mover.join()
        user.close()
        server.close()
        return {d: [s.cost(at_ns) for at_ns in moved_ns] for d, s in streams.items()}


def _exchange(streams: list[Stream], ended: threading.Event) -> None:
    due_ns = time.monotonic_ns()
    while not ended.is_set():
        due_ns += PERIOD_NS
        for stream in streams:
            stream.send()
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            select.select([s.receiver for s in streams], [], [], left_ns / 1e9)
            for stream in streams:
                stream.drain()
        for stream in streams:
            stream.drain()

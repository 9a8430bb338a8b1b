"""What this machine can do, what is chosen from it, and what to do about the rest.

Features of the kernel are tried, not guessed from versions: in a scratch network
namespace that ends with the probe.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from topologies import packet_sockets, switch_probe
from topologies.errors import EmulationError, RequirementError

NORTHBOUND_PORT = 8080
LEAST_CORES, LEAST_MEMORY_GIB = 2, 2.0
LEAST_PYTHON = (3, 11)

DATAPATH = "userspace"
DELAY = "wirefilter"

_TOOLS = {  # what must be on PATH: the Debian package that has it
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-ofctl": "openvswitch-switch",
    "mnexec": "mininet",
    "ifconfig": "net-tools",
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "ethtool": "ethtool",
    "iperf3": "iperf3",
    "dpipe": "vdeplug",
    "vde_plug": "vdeplug",
    "wirefilter": "vde-wirefilter",
}

_VETH = "ip link add name probe0 type veth peer name probe1"
_NETEM = f"{_VETH} && tc qdisc add dev probe0 root netem delay 1ms"
_KERNEL_PROBES = {
    # feature: (commands in a scratch namespace, what it is needed for)
    "veth": (_VETH, "links between switches and hosts"),
    "tun": ("ip tuntap add dev t mode tap", "bridges and wires"),
    "htb": (
        f"{_VETH} && tc qdisc add dev probe0 root handle 1: htb default 1",
        "a queue for each slice",
    ),
    "tbf": (
        f"{_VETH} && tc qdisc add dev probe0 root tbf rate 1mbit burst 3000 limit 9000",
        "rates of servers' links",
    ),
    "cls_bpf": (
        f"{_VETH} && tc qdisc add dev probe0 root handle 1: htb && "
        "tc filter add dev probe0 parent 1: protocol all prio 1 bpf bytecode '1,6 0 0 65537'",
        "choosing a slice's queue",
    ),
}


@dataclass(frozen=True)
class Check:
    """One finding. `required`: without it the testbed does not run."""

    name: str
    ok: bool
    required: bool
    found: str
    next_step: str = ""


@dataclass(frozen=True)
class Report:
    """All findings and the choices made. `ok`: nothing required is missing."""

    checks: tuple[Check, ...]
    kernel_mode: str
    netem: bool

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks if check.required)

    def as_json(self) -> dict[str, Any]:
        """Choices on top, `checks` as a list, and each check's finding under its name."""
        return {
            "datapath": DATAPATH,
            "delay": DELAY,
            "ok": self.ok,
            "root": os.geteuid() == 0,
            "kernel": platform.release(),
            "kernel_mode": self.kernel_mode,
            "netem": self.netem,
            "cores": _cores(),
            "memory_gib": _memory_gib(),
            **{check.name: check.ok for check in self.checks if check.name not in _COUNTED},
            "checks": [asdict(check) for check in self.checks],
        }

    def lines(self) -> list[str]:
        """For people: choices, then one line a check, then what to do."""
        said = [
            f"datapath: {DATAPATH} (kernel mode: {self.kernel_mode})",
            f"delay:    {DELAY}" + (" (netem is here, for kernel mode)" if self.netem else ""),
        ]
        for check in self.checks:
            mark = "ok     " if check.ok else ("MISSING" if check.required else "note   ")
            step = f"; {check.next_step}" if not check.ok and check.next_step else ""
            said.append(f"{mark}  {check.name}: {check.found}{step}")
        return said


_COUNTED = ("root", "cores", "memory_gib")
"""Checks whose JSON value is a figure of its own."""


def examine() -> Report:
    """Try everything; takes under a second. Without root, kernel features stay untried."""
    is_root = os.geteuid() == 0
    checks = [*_quick_checks(), *_notes()]
    if is_root and not any(c.required and not c.ok for c in checks):
        checks.append(_meters())
    netem = is_root and _try_in_scratch(_NETEM) is None
    return Report(tuple(checks), _kernel_mode(), netem)


def require() -> None:
    """Raise `RequirementError` with one line for the first missing requirement."""
    for check in _quick_checks():
        if check.required and not check.ok:
            raise RequirementError(f"{check.name}: {check.found}; {check.next_step}")


# -- what is required -----------------------------------------------------------


def _quick_checks() -> Iterator[Check]:
    is_root = os.geteuid() == 0
    yield Check(
        "root", is_root, True,
        "running as root" if is_root else "not root: network namespaces and Open vSwitch need it",
        "run: sudo ./testbed.sh ...",
    )  # fmt: skip
    version = ".".join(str(n) for n in sys.version_info[:3])
    yield Check(
        "python", sys.version_info >= LEAST_PYTHON, True, version,
        f"needs {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer",
    )  # fmt: skip
    for tool, package in _TOOLS.items():
        path = shutil.which(tool)
        yield Check(tool, path is not None, True, path or "not installed",
                    f"run: apt-get install {package}")  # fmt: skip
    has_mininet = importlib.util.find_spec("mininet") is not None
    yield Check("mininet", has_mininet, True, "importable" if has_mininet else "not importable",
                "run: ./testbed.sh setup")  # fmt: skip
    yield _switch_version()
    if is_root:  # without it nothing could be tried
        for feature, (command, purpose) in _KERNEL_PROBES.items():
            yield _kernel_check(feature, command, purpose)


def _switch_version() -> Check:
    name = "openvswitch"
    if shutil.which("ovs-vswitchd") is None:
        return Check(name, False, True, "not installed", "run: apt-get install openvswitch-switch")
    words = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.\d+", words)
    if found is None:
        return Check(name, False, True, f"unknown version: {words.strip()!r}", "reinstall it")
    new_enough = (int(found[1]), int(found[2])) >= (2, 13)
    return Check(name, new_enough, True, found[0], "needs 2.13 or newer (meters in userspace)")


def _kernel_check(feature: str, command: str, purpose: str) -> Check:
    refusal = _try_in_scratch(command)
    found = "works" if refusal is None else f"this kernel refuses it ({refusal}); for {purpose}"
    return Check(feature, refusal is None, True, found,
                 "use a kernel that has it, as Debian's and Ubuntu's do")  # fmt: skip


def _try_in_scratch(command: str) -> str | None:
    """None when the commands work in a namespace of their own; else their last words."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
    return said[-1]


# -- what is good to know -------------------------------------------------------


def _notes() -> Iterator[Check]:
    duplicates = packet_sockets.can_duplicate()
    yield Check(
        "pidfd_getfd", duplicates, False,
        "works" if duplicates
        else "missing: net.core.wmem_default is raised for a moment when the switch starts",
        "Linux 5.6 or newer, as root",
    )  # fmt: skip
    cores, memory_gib = _cores(), _memory_gib()
    yield Check("cores", cores >= LEAST_CORES, False, str(cores),
                f"with fewer than {LEAST_CORES} results will be marked invalid")  # fmt: skip
    yield Check("memory_gib", memory_gib >= LEAST_MEMORY_GIB, False, f"{memory_gib:.1f} GiB",
                f"the testbed takes up to 1.2 of at least {LEAST_MEMORY_GIB:.0f} GiB")  # fmt: skip
    free = _port_is_free(NORTHBOUND_PORT)
    yield Check(
        "northbound_port", free, False,
        f"127.0.0.1:{NORTHBOUND_PORT} is {'free' if free else 'in use'}",
        f"see who has it: ss -ltnp 'sport = :{NORTHBOUND_PORT}'; "
        "or choose another with --set northbound_port=N",
    )  # fmt: skip


def _meters() -> Check:
    """A real switch is started for it and removed again."""
    refusal = _refusal(switch_probe.try_meters)
    return Check("meters", refusal is None, True, refusal or "work in a private Open vSwitch",
                 "see the words of Open vSwitch above")  # fmt: skip


def _refusal(probe: Callable[[], None]) -> str | None:
    try:
        probe()
    except EmulationError as error:
        return str(error)
    return None


def _kernel_mode() -> str:
    module = Path("/sys/module/openvswitch").exists() or _modprobe_knows("openvswitch")
    if not module:
        return "untested; not possible here, the openvswitch module is missing"
    return "untested; the openvswitch module is here, userspace mode is used all the same"


def _modprobe_knows(module: str) -> bool:
    """A dry run: nothing is loaded."""
    if shutil.which("modprobe") is None:
        return False
    return subprocess.run(["modprobe", "-n", "-q", module], capture_output=True).returncode == 0


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from controller.contracts.shared_data_layer import RedisAccount, is_open, redis_account, warning
from topologies import packet_sockets, switch_probe
from topologies.datapath import KERNEL_PROBES, VETH, Asked, Choice, Datapath, choose
from topologies.errors import EmulationError, RequirementError
from topologies.namespaces import try_in_scratch

NORTHBOUND_PORT = 8080
LEAST_CORES, LEAST_MEMORY_GIB = 2, 2.0
LEAST_PYTHON = (3, 11)

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
    "setpriv": "util-linux",
    "mount": "mount",
    "ethtool": "ethtool",
    "iperf3": "iperf3",
}
_TOOLS_OF_USERSPACE_MODE = {
    "vde_plug": "vdeplug",
    "wirefilter": "vde-wirefilter",
}

_KERNEL_PROBES = {
    # feature: (commands in a scratch namespace, what it is needed for)
    "veth": (VETH, "links between switches and hosts"),
    "tun": ("ip tuntap add dev t mode tap", "bridges and wires"),
    "htb": (
        f"{VETH} && tc qdisc add dev probe0 root handle 1: htb default 1",
        "a queue for each slice",
    ),
    "tbf": (
        f"{VETH} && tc qdisc add dev probe0 root tbf rate 1mbit burst 3000 limit 9000",
        "rates of servers' links",
    ),
    "cls_bpf": (
        f"{VETH} && tc qdisc add dev probe0 root handle 1: htb && "
        "tc filter add dev probe0 parent 1: protocol all prio 1 bpf bytecode '1,6 0 0 65537'",
        "choosing a slice's queue",
    ),
}
_PROBES_OF_USERSPACE_MODE = frozenset({"tun", "cls_bpf"})


_NF_TABLES = (
    "nft add table ip probe && "
    "nft add chain ip probe forward '{ type filter hook forward priority 0; }' && "
    "nft add rule ip probe forward counter drop"
)


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
    choice: Choice

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks if check.required)

    def as_json(self) -> dict[str, Any]:
        """Choices on top, `checks` as a list, and each check's finding under its name."""
        return {
            "datapath": self.choice.datapath.value,
            "delay": self.choice.datapath.delay,
            "ok": self.ok,
            "root": os.geteuid() == 0,
            "kernel": platform.release(),
            "kernel_mode": self.choice.kernel_mode,
            **{feature: feature not in self.choice.missing for feature in KERNEL_PROBES},
            "cores": _cores(),
            "memory_gib": _memory_gib(),
            **{check.name: check.ok for check in self.checks if check.name not in _COUNTED},
            "checks": [asdict(check) for check in self.checks],
        }

    def lines(self) -> list[str]:
        """For people: choices, then one line a check, then what to do."""
        said = [
            f"datapath: {self.choice.datapath} (kernel mode: {self.choice.kernel_mode})",
            f"delay:    {self.choice.datapath.delay}",
        ]
        for check in self.checks:
            mark = "ok     " if check.ok else ("MISSING" if check.required else "note   ")
            step = f"; {check.next_step}" if not check.ok and check.next_step else ""
            said.append(f"{mark}  {check.name}: {check.found}{step}")
        return said


_COUNTED = ("root", "cores", "memory_gib")
"""Checks whose JSON value is a figure of its own."""


def examine() -> Report:
    """Try everything; takes a second. Without root, kernel features stay untried."""
    is_root = os.geteuid() == 0
    untried = {"root": "kernel features can only be tried as root"}
    choice = choose("auto") if is_root else Choice(Datapath.USERSPACE, untried)
    checks = [*_basics(), *_features(choice.datapath), *_notes()]
    if is_root and not any(c.required and not c.ok for c in checks):
        checks.append(_meters(choice.datapath))
    return Report(tuple(checks), choice)


def require(datapath: Asked = "auto") -> Datapath:
    """The datapath to run on. Raises `RequirementError` with one line for what is missing."""
    _require(_basics())
    chosen = choose(datapath).datapath
    _require(_features(chosen))
    return chosen


def _require(checks: Iterator[Check]) -> None:
    for check in checks:
        if check.required and not check.ok:
            raise RequirementError(f"{check.name}: {check.found}; {check.next_step}")


# -- what is required -----------------------------------------------------------


def _basics() -> Iterator[Check]:
    """What both datapaths need: root, Python, tools."""
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
        yield _tool(tool, package, True)
    has_mininet = importlib.util.find_spec("mininet") is not None
    yield Check("mininet", has_mininet, True, "importable" if has_mininet else "not importable",
                "run: ./testbed.sh setup")  # fmt: skip
    yield _switch_version()


def _features(datapath: Datapath) -> Iterator[Check]:
    """The kernel's and the tools that a mode needs besides; the other mode's are notes."""
    needs_userspace = datapath is Datapath.USERSPACE
    for tool, package in _TOOLS_OF_USERSPACE_MODE.items():
        yield _tool(tool, package, needs_userspace)
    if os.geteuid() == 0:  # without it nothing could be tried
        for feature, (command, purpose) in _KERNEL_PROBES.items():
            required = needs_userspace or feature not in _PROBES_OF_USERSPACE_MODE
            yield _kernel_check(feature, command, purpose, required)


def _tool(tool: str, package: str, required: bool) -> Check:
    path = shutil.which(tool)
    next_step = f"run: apt-get install {package}"
    return Check(tool, path is not None, required, path or "not installed", next_step)


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


def _kernel_check(feature: str, command: str, purpose: str, required: bool) -> Check:
    refusal = try_in_scratch(command)
    found = "works" if refusal is None else f"this kernel refuses it ({refusal}); for {purpose}"
    return Check(feature, refusal is None, required, found,
                 "use a kernel that has it, as Debian's and Ubuntu's do")  # fmt: skip


# -- what is good to know -------------------------------------------------------


def _notes() -> Iterator[Check]:
    duplicates = packet_sockets.can_duplicate()
    yield Check(
        "pidfd_getfd", duplicates, False,
        "works" if duplicates
        else "missing: net.core.wmem_default is raised for a moment when the switch starts",
        "Linux 5.6 or newer, as root",
    )  # fmt: skip
    refused = try_in_scratch(_NF_TABLES)
    yield Check("nf_tables", refused is None, False,
                "works" if refused is None else f"no firewall as network function: {refused}",
                "install nftables; the kernel needs nf_tables")  # fmt: skip
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
    yield from _shared_data_layer()


def _shared_data_layer() -> Iterator[Check]:
    """Of the Redis that the environment asks for; nothing without one."""
    name = "shared_data_layer"
    try:
        account = redis_account(os.environ)
    except ValueError as error:
        yield Check(name, False, False, str(error), "see docs/shared-data-layer.md")
        return
    if account is not None:
        found = _lets_strangers_in(account)
        place = f"the Redis at {account.host}:{account.port} answers with a password only"
        yield Check(name, found is None, False, found or place)


def _lets_strangers_in(account: RedisAccount) -> str | None:
    """What is wrong with it, in one line."""
    try:
        return warning(account) if is_open(account) else None
    except OSError as error:
        return f"no Redis at {account.host}:{account.port}: {error}"


def _meters(datapath: Datapath) -> Check:
    """A real switch is started for it and removed again."""
    try:
        switch_probe.try_meters(datapath.ovs_type)
        refusal = None
    except EmulationError as error:
        refusal = str(error)
    return Check("meters", refusal is None, True, refusal or "work in a private Open vSwitch",
                 "see the words of Open vSwitch above")  # fmt: skip


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

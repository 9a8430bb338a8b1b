"""Each user's radio rate, applied to its packets: an HTB tree at both ends of its port.

Owned by the emulation, never by OVSDB: the switch's end shapes what goes down, the
user's end what goes up.  The class 1:fffe has the radio's rate; a leaf per slice below
it borrows all of it, real-time before elastic, infrastructure first.  Leaves are told
apart by the slice's octet of the address.  A rate of 0 (out of range) leaves each leaf
its least rate, 8 kbit/s: HTB knows no class that never sends.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from controller.contracts.inventory import Inventory, User
from controller.contracts.queue_tree import INFRASTRUCTURE_PRIORITY, PRIORITY
from controller.contracts.radio_port import RadioPort, WayCount
from topologies import namespaces
from topologies.errors import EmulationError
from topologies.queue_filter import Instruction, bytecode
from topologies.scenario.radio import Tr38901Radio
from topologies.scenario.schema import Scenario

if TYPE_CHECKING:  # a scenario that shapes no radio does not wait for it
    from pyroute2 import IPRoute

LEAST_KBPS = 8
ROUNDING_KBPS = 1
"""The kernel keeps bytes a second."""
TRACE_RATE_CHANGE_RATIO = 0.1
QUEUE_PACKETS = 100
_BURST_MS, _LEAST_BURST_BYTES = 10, 6000
_CEILING_KBPS = 10_000_000
_FIRST_LEAF = 0x10
_RADIO_CLASS = 0x1FFFE
Way = Literal["down", "up"]
_OCTETS: dict[Way, tuple[int, int]] = {"down": (31, 43), "up": (27, 27)}
"""Where the slice is in a frame's IPv4 and IPv6 destination (down) or source (up)."""
_SENT = re.compile(r"class htb 1:([0-9a-f]+) .*?\n Sent .*?dropped (\d+)", re.DOTALL)


@dataclass(frozen=True)
class End:
    """One end of a user's port: interface and namespace (None: the switches')."""

    interface: str
    netns: str | None
    way: Way


def slice_filter(way: Way) -> str:
    """cls_bpf program: 1:(0x10 + slice) by the address; what is not IP is infrastructure.

    IPv6 has the slice id's decimal digits as hexadecimal ones: from 0x10 on, 6 too many.
    """
    ipv4_octet, ipv6_octet = _OCTETS[way]
    return bytecode(
        [
            Instruction(40, 0, 0, 12),  # ethertype
            Instruction(21, 0, 2, 0x0800),
            Instruction(48, 0, 0, ipv4_octet),
            Instruction(5, 0, 0, 4),  # to the addition
            Instruction(21, 0, 5, 0x86DD),
            Instruction(48, 0, 0, ipv6_octet),
            Instruction(53, 0, 1, 0x10),
            Instruction(20, 0, 0, 6),
            Instruction(4, 0, 0, 0x10000 | _FIRST_LEAF),
            Instruction(22, 0, 0, 0),
            Instruction(6, 0, 0, 0x10000 | _FIRST_LEAF),
        ]
    )


def worth_changing(applied_kbps: float | None, wanted_kbps: float, ratio: float) -> bool:
    """Is the new rate further than `ratio` from the applied one?"""
    if applied_kbps is None:
        return True
    return abs(wanted_kbps - applied_kbps) > ratio * max(applied_kbps, LEAST_KBPS)


class RadioShaper:
    """Made in the switches' namespace once the network stands. Raises `CommandError`."""

    def __init__(self, inventory: Inventory, rate_change_ratio: float) -> None:
        self._ratio = rate_change_ratio
        # pyroute2 runs an event loop of its own, and a thread can have only one.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="radio-shaper")
        self._inventory = inventory
        self._ends: dict[str, dict[str, End]] = {}
        self._routes: dict[tuple[str, str], tuple[IPRoute, int]] = {}
        self.applied_kbps: dict[tuple[str, str], float] = {}
        self.changes = 0
        for user in inventory.users:
            host = inventory.host(user.host)
            port = next(p for p in inventory.ports if p.peer == user.host)
            ends = {
                "down": End(port.interface, None, "down"),
                "up": End(host.interface, host.netns_path, "up"),
            }
            self._ends[user.ue_id] = ends
            for way, end in ends.items():
                self._install(user, end)
                self._routes[user.ue_id, way] = self._worker.submit(_route, end).result()

    def _install(self, user: User, end: End) -> None:
        device = f"dev {end.interface}"
        burst = f"burst {_LEAST_BURST_BYTES} cburst {_LEAST_BURST_BYTES}"
        first = f"{LEAST_KBPS}kbit ceil {_CEILING_KBPS}kbit"
        lines = [
            f"qdisc replace {device} root handle 1: htb default {_FIRST_LEAF:x}",
            f"class add {device} parent 1: classid 1:fffe htb rate {_CEILING_KBPS}kbit",
        ]
        for slice_id, priority in self._leaves(user).items():
            minor = _FIRST_LEAF + slice_id
            lines += [
                f"class add {device} parent 1:fffe classid 1:{minor:x} htb rate {first} "
                f"prio {priority} quantum 1514 {burst}",
                f"qdisc add {device} parent 1:{minor:x} pfifo_head_drop limit {QUEUE_PACKETS}",
            ]
        program = slice_filter(end.way)
        lines.append(
            f"filter add {device} parent 1: handle 1 protocol all prio 1 bpf bytecode '{program}'"
        )
        words = ["tc", "-batch", "-"]
        if end.netns is not None:
            words = namespaces.command_in(end.netns, words)
        namespaces.run(words, stdin="\n".join(lines) + "\n")

    def _leaves(self, user: User) -> dict[int, int]:
        """Slice id -> HTB priority."""
        of_slice = {
            s.slice_id: PRIORITY[self._inventory.slice(s.slice_id).default_class]
            for s in user.sessions
        }
        return {0: INFRASTRUCTURE_PRIORITY, **of_slice}

    def set(self, ue_id: str, down_kbps: float, up_kbps: float, *, exactly: bool = False) -> None:
        """Follow the radio, where it changed beyond the hysteresis; `exactly`: beyond nothing."""
        ratio = 0.0 if exactly else self._ratio
        for way, wanted in (("down", down_kbps), ("up", up_kbps)):
            if not worth_changing(self.applied_kbps.get((ue_id, way)), wanted, ratio):
                continue
            route, index = self._routes[ue_id, way]
            kbps = max(LEAST_KBPS, round(wanted))
            burst = max(_LEAST_BURST_BYTES, kbps * _BURST_MS // 8)
            rate = f"{kbps}kbit"
            self._worker.submit(
                route.tc, "change-class", "htb", index, _RADIO_CLASS, parent=0x10000,
                rate=rate, ceil=rate, burst=burst, cburst=burst,
            ).result()  # fmt: skip
            self.applied_kbps[ue_id, way] = wanted
            self.changes += 1

    def port(self, ue_id: str) -> RadioPort:
        """A user's counts as the kernel has them, beside the rate that it was told to keep."""
        return RadioPort(self._count(ue_id, "down"), self._count(ue_id, "up"))

    def _count(self, ue_id: str, way: Way) -> WayCount:
        """The radio's class has what was sent, the leaves what waits and was dropped."""
        taken_at_ns, classes = self._classes(ue_id, way)
        sent = classes.pop(_RADIO_CLASS).get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")
        queues = [c.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE") for c in classes.values()]
        return WayCount(
            taken_at_ns,
            rate_kbps=max(LEAST_KBPS, self.applied_kbps[ue_id, way]),
            sent_bytes=sent["bytes"],
            sent_packets=sent["packets"],
            dropped_packets=sum(queue["drops"] for queue in queues),
            waiting_packets=sum(queue["qlen"] for queue in queues),
        )

    def confirm(self, ue_id: str) -> None:
        """Raises `EmulationError` when the kernel keeps another rate than it was told."""
        for way in ("down", "up"):
            options = self._classes(ue_id, way)[1][_RADIO_CLASS].get_attr("TCA_OPTIONS")
            kept_kbps = options.get_attr("TCA_HTB_PARMS")["rate"] * 8 / 1000
            told_kbps = max(LEAST_KBPS, round(self.applied_kbps[ue_id, way]))
            if abs(kept_kbps - told_kbps) > ROUNDING_KBPS:
                raise EmulationError(
                    f"the {way}link of {ue_id} has {kept_kbps:.0f} kbit/s, not {told_kbps}"
                )

    def _classes(self, ue_id: str, way: Way) -> tuple[int, dict[int, Any]]:
        """(CLOCK_REALTIME, the classes by handle)"""
        route, index = self._routes[ue_id, way]
        taken_at_ns = time.time_ns()
        found = self._worker.submit(lambda: list(route.get_classes(index))).result()
        return taken_at_ns, {c["handle"]: c for c in found}

    def drops(self) -> Mapping[int, int]:
        """Packets dropped so far by slice id, both directions, all users."""
        found: Counter[int] = Counter()
        for ends in self._ends.values():
            for end in ends.values():
                words = ["tc", "-s", "class", "show", "dev", end.interface]
                text = (
                    namespaces.run(words)
                    if end.netns is None
                    else namespaces.run_in(end.netns, words)
                )
                for minor, dropped in _SENT.findall(text):
                    if _FIRST_LEAF <= int(minor, 16) < _FIRST_LEAF + 16:
                        found[int(minor, 16) - _FIRST_LEAF] += int(dropped)
        return found

    def close(self) -> None:
        for route, _ in self._routes.values():
            self._worker.submit(route.close).result()
        self._worker.shutdown()


def _route(end: End) -> tuple[IPRoute, int]:
    """A netlink socket where the interface is, and the interface's index."""
    from pyroute2 import IPRoute

    if end.netns is None:
        route = IPRoute()
    else:
        with namespaces.inside(end.netns):
            route = IPRoute()
            return route, route.link_lookup(ifname=end.interface)[0]
    return route, route.link_lookup(ifname=end.interface)[0]


def shaper_of(scenario: Scenario, inventory: Inventory) -> RadioShaper | None:
    """Only where the scenario's radio says what a user's link carries."""
    if not scenario.shapes_radio:
        return None
    radio = scenario.radio
    ratio = radio.rate_change_ratio if isinstance(radio, Tr38901Radio) else TRACE_RATE_CHANGE_RATIO
    return RadioShaper(inventory, ratio)

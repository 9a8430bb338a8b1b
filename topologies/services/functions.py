"""Network functions in servers: an nftables firewall that forwards what it lets pass.

A table a function in the server's own namespace, for both IP versions and both ways; its
counters are read back from the kernel, so a figure is of packets that were really there.
They live as long as the function is in that server, whatever its rules become meanwhile.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from controller.contracts.addressing import ipv6_of, slice_of
from controller.contracts.inventory import Inventory
from topologies import namespaces
from topologies.errors import EmulationError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
_WAYS = ("up", "down")
"""To the service, and from it."""
_COUNTED = "dropped_counted"
"""Of the dropped: IPv4's TCP and UDP, which the hosts that send and receive count too."""


@dataclass(frozen=True)
class _Placed:
    """What may hold packets that nobody but its counters knows of."""

    name: str
    host: str
    address: str
    """Of the service."""

    @property
    def slice_id(self) -> int:
        return slice_of(self.address)


class Firewalls:
    """Ops of `emulation.sock`. Raises `EmulationError`, `CommandError`, `RpcError`.

    `expect`: told of (host, addresses of services whose packets pass it) before it changes,
    so that nobody takes them for leaks.
    """

    def __init__(
        self,
        inventory: Inventory,
        expect: Callable[[str, list[str]], None] = lambda host, ips: None,
    ) -> None:
        self._inventory = inventory
        self._expect = expect
        self._placed: dict[tuple[str, str], _Placed] = {}
        self._ended: Counter[int] = Counter()
        """Slice id -> packets that functions which are gone dropped, of those that hosts count."""

    def place_function(self, name: str, host: str, address: str, deny: list[str]) -> None:
        """Drops what goes between `deny` (addresses) and `address`, lets the rest of it pass.

        Replaces the rules of the function of that name, atomically.
        """
        if not _NAME.fullmatch(name):
            raise EmulationError(
                f"function name {name!r}: small letters, digits, - and _, first a letter"
            )
        self._expect(host, [*self._through(host), address])
        device = self._inventory.host(host).interface
        quiet = [f"net.ipv4.conf.{i}.send_redirects=0" for i in ("all", device)]
        self._set(host, *quiet, *(f"{key}=1" for key in _FORWARDING))
        command = namespaces.command_in(self._path(host), ["nft", "-f", "-"])
        namespaces.run(command, stdin=ruleset(name, address, deny))
        self._placed[name, host] = _Placed(name, host, address)

    def remove_function(self, name: str, host: str) -> None:
        """What it dropped stays in `drops`."""
        counted = self._counters(name, host)
        namespaces.run_in(self._path(host), ["nft", "delete", "table", "inet", _table(name)])
        gone = self._placed.pop((name, host), None)
        if gone is not None:
            self._ended[gone.slice_id] += counted[_COUNTED]
        left = self._through(host)
        self._expect(host, left)
        if not left:
            self._set(host, *(f"{key}=0" for key in _FORWARDING))

    def function_counters(self, name: str, host: str) -> dict[str, int]:
        """{"passed_packets", "dropped_packets", and of each way} since it is in that host."""
        found = self._counters(name, host)
        of_ways = {
            f"{what}_{way}_packets": found[f"{what}_{way}"]
            for what in ("passed", "dropped")
            for way in _WAYS
        }
        sums = {
            f"{what}_packets": sum(found[f"{what}_{way}"] for way in _WAYS)
            for what in ("passed", "dropped")
        }
        return sums | of_ways

    def drops(self) -> dict[int, int]:
        """Slice id -> packets dropped by functions since the network stands, of those that the
        packet balance knows: what a host sent as TCP or UDP over IPv4."""
        found = Counter(self._ended)
        for placed in self._placed.values():
            found[placed.slice_id] += self._counters(placed.name, placed.host)[_COUNTED]
        return dict(found)

    def _counters(self, name: str, host: str) -> dict[str, int]:
        """Counter -> packets, as the kernel has them."""
        listed = namespaces.run_in(
            self._path(host), ["nft", "-j", "list", "counters", "table", "inet", _table(name)]
        )
        entries = (entry.get("counter", {}) for entry in orjson.loads(listed)["nftables"])
        return {entry["name"]: entry["packets"] for entry in entries if entry}

    def handlers(self) -> dict[str, Any]:
        return {
            "place_function": self.place_function,
            "remove_function": self.remove_function,
            "function_counters": self.function_counters,
        }

    def _through(self, host: str) -> list[str]:
        return [placed.address for placed in self._placed.values() if placed.host == host]

    def _set(self, host: str, *settings: str) -> None:
        namespaces.run_in(self._path(host), ["sysctl", "-q", "-w", *settings])

    def _path(self, host: str) -> str:
        return self._inventory.host(host).netns_path


def ruleset(name: str, address: str, deny: list[str]) -> str:
    """Lines for `nft -f`: counters stay when the table exists, rules are replaced."""
    table = f"inet {_table(name)}"
    names = [*(f"{what}_{way}" for what in ("passed", "dropped") for way in _WAYS), _COUNTED]
    counters = "".join(f"counter {name} {{\n}}\n" for name in names)
    lines = [
        f"table {table} {{",
        f"{counters}chain forward {{",
        "type filter hook forward priority 0; policy accept;",
        "}",
        "}",
        f"flush chain {table} forward",
    ]
    add = f"add rule {table} forward"
    for ip, of in (("ip", str), ("ip6", ipv6_of)):
        to_service, from_service = f"{ip} daddr {of(address)}", f"{ip} saddr {of(address)}"
        for user in map(of, deny):
            for ends, way in (
                (f"{to_service} {ip} saddr {user}", "up"),
                (f"{from_service} {ip} daddr {user}", "down"),
            ):
                dropped = f"counter name dropped_{way} drop"
                if ip == "ip":
                    counted = f"ip protocol {{ tcp, udp }} counter name {_COUNTED}"
                    lines.append(f"{add} {ends} {counted} {dropped}")
                lines.append(f"{add} {ends} {dropped}")
        lines += [
            f"{add} {to_service} counter name passed_up accept",
            f"{add} {from_service} counter name passed_down accept",
        ]
    return "\n".join(lines) + "\n"


def _table(name: str) -> str:
    return "vnf_" + name.replace("-", "_")

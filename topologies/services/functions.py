"""Network functions in servers: an nftables firewall that forwards what it lets pass.

A table a function in the server's own namespace; its counters are read back from the
kernel, so a figure is of packets that were really there.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from controller.contracts.inventory import Inventory
from topologies import namespaces
from topologies.errors import EmulationError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_SYSCTLS = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")


class Firewalls:
    """Ops of `emulation.sock`. Raises `EmulationError`, `CommandError`."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def place_function(self, name: str, host: str, address: str, deny: list[str]) -> None:
        """Drops what `deny` (addresses) send to `address`, lets the rest of it pass, no more.

        Replaces the function of that name, atomically.
        """
        if not _NAME.fullmatch(name):
            raise EmulationError(
                f"function name {name!r}: small letters, digits, - and _, first a letter"
            )
        device = self._inventory.host(host).interface
        namespaces.run_in(
            self._path(host),
            ["sysctl", "-q", "-w", *_SYSCTLS, f"net.ipv4.conf.{device}.send_redirects=0"],
        )
        drops = "".join(
            f'ip saddr {source} ip daddr {address} counter drop comment "denied"\n'
            for source in deny
        )
        table = f"ip {_table(name)}"
        ruleset = (
            f"table {table} {{}}\ndelete table {table}\ntable {table} {{\n"
            "chain forward { type filter hook forward priority 0; policy accept;\n"
            f'{drops}ip daddr {address} counter accept comment "passed"\n}}\n}}\n'
        )
        command = namespaces.command_in(self._path(host), ["nft", "-f", "-"])
        namespaces.run(command, stdin=ruleset)

    def remove_function(self, name: str, host: str) -> None:
        namespaces.run_in(self._path(host), ["nft", "delete", "table", "ip", _table(name)])

    def function_counters(self, name: str, host: str) -> dict[str, int]:
        """{"passed_packets", "dropped_packets"} since it was placed in that host."""
        text = namespaces.run_in(
            self._path(host), ["nft", "-j", "list", "table", "ip", _table(name)]
        )
        found = {"passed": 0, "denied": 0}
        for entry in orjson.loads(text)["nftables"]:
            comment = entry.get("rule", {}).get("comment")
            for expression in entry.get("rule", {}).get("expr", []):
                if comment in found and "counter" in expression:
                    found[comment] += expression["counter"]["packets"]
        return {"passed_packets": found["passed"], "dropped_packets": found["denied"]}

    def handlers(self) -> dict[str, Any]:
        return {
            "place_function": self.place_function,
            "remove_function": self.remove_function,
            "function_counters": self.function_counters,
        }

    def _path(self, host: str) -> str:
        return self._inventory.host(host).netns_path


def _table(name: str) -> str:
    return "vnf_" + name.replace("-", "_")

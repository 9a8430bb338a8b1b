"""Sessions on a running testbed: hosts gain and lose addresses as slices come and go.

In each host whose slices changed: an address /32 and its IPv6 twin on its interface, and routes
of the slice's prefixes with the host's first address in that slice as the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.contracts.addressing import (
    GATEWAY_IP,
    GATEWAY_IPV6,
    ipv6_of,
    slice_prefix,
    slice_prefix_ipv6,
)
from controller.contracts.inventory import Host, Inventory
from topologies.namespaces import command_in, run

Addresses = tuple[tuple[int, str], ...]
"""(slice_id, ip) in the order in which they came."""


@dataclass(frozen=True)
class HostChange:
    """One host's addresses before and after."""

    host: Host
    before: Addresses
    after: Addresses

    def ip_batch(self) -> str:
        """Lines for `ip -batch`. An address that goes takes the routes from it with it."""
        device = self.host.interface
        go = [a for a in self.before if a not in self.after]
        come = [a for a in self.after if a not in self.before]
        lines = [f"addr del {address} dev {device}" for _, ip in go for address in _pair(ip)]
        for _, ip in come:
            lines += [
                f"addr add {ip}/32 dev {device}",
                f"addr add {ipv6_of(ip)}/128 dev {device} nodad",
            ]
        first: dict[int, str] = {}
        for slice_id, ip in self.after:
            first.setdefault(slice_id, ip)
        for slice_id in dict.fromkeys(s for s, _ in (*go, *come)):
            if slice_id in first:
                ip = first[slice_id]
                via = f"via {GATEWAY_IP} dev {device} onlink src {ip}"
                lines.append(f"route replace {slice_prefix(slice_id)} {via}")
                via = f"via {GATEWAY_IPV6} dev {device} src {ipv6_of(ip)}"
                lines.append(f"route replace {slice_prefix_ipv6(slice_id)} {via}")
            else:
                lines.append(f"route del {slice_prefix_ipv6(slice_id)} dev {device}")
        return "\n".join(lines) + "\n"


def _pair(ip: str) -> tuple[str, str]:
    return f"{ip}/32", f"{ipv6_of(ip)}/128"


def host_changes(before: Inventory, after: Inventory) -> Iterator[HostChange]:
    """Hosts whose own addresses, or services they may serve, differ."""
    old, new = _local(before), _local(after)
    for host in after.hosts:
        if set(old[host.name]) != set(new[host.name]):
            yield HostChange(host, old[host.name], new[host.name])


def _local(inventory: Inventory) -> Mapping[str, Addresses]:
    found = {h.name: [(a.slice_id, a.ip) for a in h.addresses] for h in inventory.hosts}
    for service in inventory.services:
        for name in dict.fromkeys([service.host, *service.candidates]):
            found[name].append((service.slice_id, service.address))
    return {name: tuple(dict.fromkeys(addresses)) for name, addresses in found.items()}


def apply(change: HostChange) -> None:
    """In the host's namespace. Raises `CommandError` with ip's own words."""
    run(command_in(change.host.netns_path, ["ip", "-batch", "-"]), stdin=change.ip_batch())

"""How a host's namespace is configured: the commands, as text, for its own shell.

Addresses are /32 and their IPv6 twins /128; everything leaves through the one
gateway, whose ARP only the switches answer and whose IPv6 neighbour entry is permanent.
Source routing: what goes to a slice leaves with the host's address in that slice.
"""

from __future__ import annotations

from pathlib import Path

from controller.contracts.addressing import (
    GATEWAY_IP,
    GATEWAY_IPV6,
    GATEWAY_MAC,
    ipv6_of,
    slice_prefix,
    slice_prefix_ipv6,
)
from topologies.plan import PlannedHost

_SYSCTLS = {
    "ipv6/conf/all/disable_ipv6": 0,
    "ipv6/conf/default/disable_ipv6": 0,
    # Nothing but what is sent on purpose: no link-local address (mode 1: none), no
    # duplicate address detection, no solicitations, and no ear for advertisements.
    "ipv6/conf/default/addr_gen_mode": 1,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/dad_transmits": 0,
    "ipv6/conf/default/router_solicitations": 0,
    "ipv6/conf/default/accept_ra": 0,
    "ipv6/conf/default/accept_redirects": 0,
    "ipv6/conf/all/forwarding": 0,
    "ipv4/conf/all/accept_redirects": 0,
    "ipv4/conf/default/accept_redirects": 0,
    "ipv4/conf/all/accept_source_route": 0,
    "ipv4/conf/default/accept_source_route": 0,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/ip_forward": 0,
    # An address is answered for only where it lives: the collector's is on every edge.
    "ipv4/conf/all/arp_ignore": 1,
    "ipv4/conf/default/arp_ignore": 1,
}
_ARP_RETRY_MS = 50
"""Agents ask for the gateway before any switch has a rule; a second between two tries
(the default) costs traffic its first second.  A setting of the interface, not of the namespace."""
_BURST_MS = 10
_LARGEST_FRAME_BYTES = 1514
_OPEN_QUEUE_PACKETS = 1000
"""Where nothing limits the rate, frames do not wait."""


def namespace_sysctls() -> str:
    """Shell line for a fresh namespace, before it has an interface. Silent when all is well."""
    writes = [
        f"[ ! -e /proc/sys/net/{name} ] || echo {value} > /proc/sys/net/{name}"
        for name, value in _SYSCTLS.items()
    ]
    return "; ".join(writes)


def ip_batch(host: PlannedHost) -> str:
    """Lines for `ip -batch`: addresses and routes. The interface exists with its MAC."""
    device = f"dev {host.interface}"
    via = f"via {GATEWAY_IP} {device} onlink"
    lines = ["link set lo up", f"link set {device} up"]
    lines += [f"addr add {a.ip}/32 {device}" for a in host.local_ips]
    lines += [f"addr add {ipv6_of(a.ip)}/128 {device} nodad" for a in host.local_ips]
    lines.append(f"neigh add {GATEWAY_IPV6} lladdr {GATEWAY_MAC} {device} nud permanent")
    first_ip = host.local_ips[0].ip
    via_ipv6 = f"via {GATEWAY_IPV6} {device}"
    lines.append(f"route add default {via} src {first_ip}")
    lines.append(f"route add ::/0 {via_ipv6} src {ipv6_of(first_ip)}")
    source_of_slice: dict[int, str] = {}
    for address in host.local_ips:
        source_of_slice.setdefault(address.slice_id, address.ip)
    for slice_id, ip in source_of_slice.items():
        lines.append(f"route add {slice_prefix(slice_id)} {via} src {ip}")
        lines.append(f"route add {slice_prefix_ipv6(slice_id)} {via_ipv6} src {ipv6_of(ip)}")
    return "\n".join(lines) + "\n"


def shaping(host: PlannedHost) -> str | None:
    """The `tc` command that limits what the host sends into a link with a rate."""
    if host.link.rate_mbps is None:
        return None
    rate_kbps = round(host.link.rate_mbps * 1000)
    burst_bytes = max(rate_kbps * _BURST_MS // 8, 2 * _LARGEST_FRAME_BYTES)
    limit_bytes = burst_bytes + host.link.queue_packets * _LARGEST_FRAME_BYTES
    return (
        f"tc qdisc replace dev {host.interface} root handle 1: tbf rate {rate_kbps}kbit "
        f"burst {burst_bytes} limit {limit_bytes}"
    )


def disowning(host: PlannedHost) -> str:
    """The `tc` command after which frames that left the host are charged to it no more.

    In kernel mode a frame stays charged to the sender's socket in every queue of the
    network, so a full queue in a switch would slow the sender down (and TCP would see
    its "own" queue) instead of losing frames.  netem's delay, however small, ends that.
    In userspace mode it ends where vswitchd receives the frame.
    """
    below = "root" if host.link.rate_mbps is None else "parent 1:1"
    packets = max(_OPEN_QUEUE_PACKETS, host.link.queue_packets)
    return f"tc qdisc replace dev {host.interface} {below} netem delay 1us limit {packets}"


def configuration(
    host: PlannedHost, batch_file: Path, is_tap: bool, in_kernel: bool = False
) -> str:
    """The one shell line that configures a host whose interface exists.

    `in_kernel`: the switches' datapath is the kernel's.
    Offloads off: in userspace mode nobody fills in a checksum that the host
    left to its network card (ping works, TCP hangs), and frames must have on
    the wire the size that counters see.
    """
    retry = f"/proc/sys/net/ipv4/neigh/{host.interface}/retrans_time_ms"
    commands = [f"ip -batch {batch_file}", f"echo {_ARP_RETRY_MS} > {retry}"]
    # A tap has fewer knobs, and none of them set: it never leaves a checksum open.
    if not is_tap:
        commands.append(f"ethtool -K {host.interface} tx off tso off gso off gro off > /dev/null")
    tbf = shaping(host)
    if tbf is not None:
        commands.append(tbf)
    if in_kernel:
        commands.append(disowning(host))
    return " && ".join(commands)

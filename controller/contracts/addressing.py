"""The address plan: 10.<slice_id>.0.0/16, one /32 per session, one gateway.

Every address has an IPv6 twin in fd48:6f6c:<slice_id>::/48 (unique local, RFC 4193)
that is written with the same digits: 10.1.200.3 and fd48:6f6c:1::200:3.

Pure functions from indices to addresses, shared by the emulation (which
configures hosts) and the controller (which writes rules).
"""

from __future__ import annotations

import ipaddress
from functools import cache

GATEWAY_IP = "10.255.255.254"
"""On-link next hop of every host; only the switches answer ARP for it."""
GATEWAY_MAC = "02:00:00:00:ff:fe"
GATEWAY_IPV6 = "fe80::1"
"""Every host has its MAC as a permanent neighbour: nobody asks, no switch answers."""
CENTRE_IP = "10.0.0.1"
COLLECTOR_IP = "10.0.0.100"
"""Anycast: every edge server has it; the serving cell's edge receives."""
COLLECTOR_UDP_PORT = 5500
CENTRE_UDP_PORT = 5600
AGENT_UDP_PORT = 5501
"""Of every user agent, at the user's slice-0 address: settings and polls come there."""
TWIN_EXCHANGE_TCP_PORT = 5700
"""Of every local controller, at its edge's own address: twins of users that moved."""

_PER_BLOCK = 250


def slice_prefix(slice_id: int) -> str:
    return f"10.{slice_id}.0.0/16"


def slice_of(ip: str) -> int:
    """slice_id of an address of this plan."""
    return int(ip.split(".")[1])


@cache
def slice_prefix_ipv6(slice_id: int) -> str:
    return f"{ipaddress.ip_address(f'fd48:6f6c:{slice_id}::')}/48"


@cache
def ipv6_of(ip: str) -> str:
    """IPv6 twin of an address of this plan, in canonical text (RFC 5952)."""
    first, slice_id, third, fourth = ip.split(".")
    if first != "10":
        raise ValueError(f"{ip} is not an address of 10.0.0.0/8")
    # Decimal digits read as hexadecimal ones stay distinct, so prefixes and hosts do too.
    return str(ipaddress.ip_address(f"fd48:6f6c:{slice_id}::{third}:{fourth}"))


def edge_ip(edge_index: int) -> str:
    """Slice-0 address of the local controller at edge server `edge_index` (from 0)."""
    return f"10.0.0.{10 + edge_index}"


def session_ip(slice_id: int, user_index: int) -> str:
    """A user's address in a slice (slice 0 included); `user_index` from 0, below 25,000."""
    if not 0 <= user_index < 100 * _PER_BLOCK:
        raise ValueError(f"user index {user_index} outside 0-{100 * _PER_BLOCK - 1}")
    return f"10.{slice_id}.{1 + user_index // _PER_BLOCK}.{1 + user_index % _PER_BLOCK}"


def service_ip(slice_id: int, service_index: int) -> str:
    """A service's virtual address, configured on every candidate server."""
    if not 0 <= service_index < 20 * _PER_BLOCK:
        raise ValueError(f"service index {service_index} outside 0-{20 * _PER_BLOCK - 1}")
    return f"10.{slice_id}.{200 + service_index // _PER_BLOCK}.{1 + service_index % _PER_BLOCK}"


def host_mac(host_index: int) -> str:
    """Locally administered MAC of host `host_index` (from 0, below 65,000)."""
    return f"02:00:00:00:{host_index >> 8:02x}:{host_index & 0xFF:02x}"

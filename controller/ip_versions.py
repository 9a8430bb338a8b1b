"""What rules that match addresses need to know of IPv4 and IPv6. Everything else reads metadata.

Rules speak of an address by its IPv4 form; its IPv6 twin follows from the address plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.contracts.addressing import ipv6_of, slice_prefix, slice_prefix_ipv6
from controller.pipeline import IPV4, IPV6, MatchFields


@dataclass(frozen=True)
class IpVersion:
    """`address` and `prefix` give match values for an IPv4 address and for a slice id."""

    eth_type: int
    source: str
    destination: str
    multicast: tuple[str, ...]
    """Destinations that are not one host's."""
    address: Callable[[str], str]
    prefix: Callable[[int], str]

    @property
    def any(self) -> MatchFields:
        return {"eth_type": self.eth_type}

    def sent_by(self, ip: str) -> MatchFields:
        return {"eth_type": self.eth_type, self.source: self.address(ip)}

    def sent_to(self, ip: str) -> MatchFields:
        return {"eth_type": self.eth_type, self.destination: self.address(ip)}

    def sent_from_slice(self, slice_id: int) -> MatchFields:
        return {"eth_type": self.eth_type, self.source: self.prefix(slice_id)}

    def sent_to_slice(self, slice_id: int) -> MatchFields:
        return {"eth_type": self.eth_type, self.destination: self.prefix(slice_id)}


def _prefix_ipv4(slice_id: int) -> str:
    return slice_prefix(slice_id).replace("/16", "/255.255.0.0")


def _prefix_ipv6(slice_id: int) -> str:
    return slice_prefix_ipv6(slice_id).replace("/48", "/ffff:ffff:ffff::")


_V4 = IpVersion(
    IPV4,
    "ipv4_src",
    "ipv4_dst",
    ("224.0.0.0/240.0.0.0", "255.255.255.255"),
    address=lambda ip: ip,
    prefix=_prefix_ipv4,
)
_V6 = IpVersion(
    IPV6,
    "ipv6_src",
    "ipv6_dst",
    ("ff00::/ff00::",),
    address=ipv6_of,
    prefix=_prefix_ipv6,
)
IP_VERSIONS = (_V4, _V6)

"""What a network function tells nftables, and what the leak detector is told to expect."""

from __future__ import annotations

import socket
import struct

import pytest

from controller.contracts.addressing import ipv6_of, slice_of
from controller.contracts.inventory import Address
from topologies.services.functions import ruleset
from topologies.traffic.leaks import leak_program
from topologies.traffic.packet_filter import Instruction

SERVICE, USER, DENIED, OWN = "10.2.200.3", "10.2.1.1", "10.2.1.2", "10.0.0.9"


def test_a_denied_user_is_refused_both_ways_and_before_anything_passes() -> None:
    lines = ruleset("gate", SERVICE, [DENIED]).splitlines()
    rules = [line for line in lines if line.startswith("add rule inet vnf_gate forward ")]
    for ip, of in (("ip", str), ("ip6", ipv6_of)):
        own = [r.removeprefix("add rule inet vnf_gate forward ") for r in rules if f" {ip} " in r]
        to_service = f"{ip} daddr {of(SERVICE)} {ip} saddr {of(DENIED)}"
        from_service = f"{ip} saddr {of(SERVICE)} {ip} daddr {of(DENIED)}"
        counted = " ip protocol { tcp, udp } counter name dropped_counted"
        dropped = [
            f"{ends}{also} counter name dropped_{way} drop"
            for ends, way in ((to_service, "up"), (from_service, "down"))
            for also in ([counted, ""] if ip == "ip" else [""])
        ]
        assert own == [
            *dropped,
            f"{ip} daddr {of(SERVICE)} counter name passed_up accept",
            f"{ip} saddr {of(SERVICE)} counter name passed_down accept",
        ]


def test_rules_are_replaced_and_counters_stay() -> None:
    lines = ruleset("gate", SERVICE, []).splitlines()
    assert "flush chain inet vnf_gate forward" in lines
    assert not any(line.startswith(("delete", "reset")) for line in lines)
    assert sum(line.startswith("counter ") for line in lines) == 5


def test_the_slice_stands_in_the_address() -> None:
    assert (slice_of(SERVICE), slice_of(OWN)) == (2, 0)


# -- leaks: the filter, run by hand -----------------------------------------------


def accepted(program: list[Instruction], frame: bytes) -> bool:
    """Whether the filter takes the frame (for a leak); ancillary loads say: to us, untagged."""
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = 0 if k >= 0xFFFFF000 else struct.unpack_from("!I", frame, k)[0]
            case 0x28:
                accumulator = struct.unpack_from("!H", frame, k)[0]
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x06:
                return k > 0
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def frame(source: str, destination: str, version: int) -> bytes:
    ethernet = bytes(12)
    if version == 4:
        ends = socket.inet_aton(source) + socket.inet_aton(destination)
        return ethernet + b"\x08\x00" + bytes(12) + ends + bytes(20)
    ends = b"".join(socket.inet_pton(socket.AF_INET6, ipv6_of(ip)) for ip in (source, destination))
    return ethernet + b"\x86\xdd" + bytes(8) + ends + bytes(20)


OWN_ADDRESSES = [Address(slice_id=0, ip=OWN)]
THROUGH = [Address(slice_id=2, ip=SERVICE)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("source", "destination", "leaks_without", "leaks_with"),
    [
        (USER, SERVICE, True, False),
        (SERVICE, USER, True, False),
        ("10.3.1.1", SERVICE, True, True),
        (SERVICE, "10.3.1.1", True, True),
        (USER, "10.2.200.4", True, True),
        ("10.0.1.1", OWN, False, False),
        ("10.0.200.3", OWN, False, False),
    ],
)
def test_what_passes_a_function_is_no_leak_and_nothing_else_changes(
    version: int, source: str, destination: str, leaks_without: bool, leaks_with: bool
) -> None:
    seen = frame(source, destination, version)
    assert accepted(leak_program(OWN_ADDRESSES), seen) == leaks_without
    assert accepted(leak_program(OWN_ADDRESSES, THROUGH), seen) == leaks_with

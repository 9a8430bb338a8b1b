"""The queue filter's program, run by a tiny classic-BPF machine over every code point."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from controller.contracts.slices import queue_of
from topologies.queue_filter import CODE_POINTS, Instruction, bytecode, class_of, program

pytestmark = pytest.mark.unit

MACS = bytes.fromhex("020000000001020000000002")


def execute(instructions: Sequence[Instruction], frame: bytes) -> int:
    """What the kernel's interpreter returns; loads outside the frame return 0 (linux/filter.h)."""
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = (
            instructions[at].code, instructions[at].if_true,
            instructions[at].if_false, instructions[at].operand,
        )  # fmt: skip
        assert 0 <= if_true <= 255 and 0 <= if_false <= 255
        at += 1
        if code == 6:
            return operand
        if code in (40, 48):
            size = 2 if code == 40 else 1
            if operand + size > len(frame):
                return 0
            accumulator = int.from_bytes(frame[operand : operand + size], "big")
        elif code == 84:
            accumulator &= operand
        elif code == 116:
            accumulator >>= operand
        elif code == 21:
            at += if_true if accumulator == operand else if_false
        elif code == 53:
            at += if_true if accumulator >= operand else if_false
        else:
            raise AssertionError(f"instruction {code} is not one of the filter's")


def ipv4(dscp: int, ecn: int = 0) -> bytes:
    return MACS + struct.pack("!HBBH", 0x0800, 0x45, dscp << 2 | ecn, 100) + bytes(46)


def ipv6(dscp: int, ecn: int = 0, flow_label: int = 0xFFFFF) -> bytes:
    first_word = 6 << 28 | (dscp << 2 | ecn) << 20 | flow_label
    return MACS + struct.pack("!HI", 0x86DD, first_word) + bytes(46)


def arp() -> bytes:
    return MACS + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + bytes(40)


@pytest.mark.parametrize("dscp", range(CODE_POINTS))
@pytest.mark.parametrize("ecn", range(4))
def test_every_code_point_reaches_its_queue(dscp: int, ecn: int) -> None:
    wanted = 0x10000 + queue_of(dscp) + 1
    assert execute(program(), ipv4(dscp, ecn)) == wanted
    assert execute(program(), ipv6(dscp, ecn)) == wanted
    assert execute(program(), ipv6(dscp, ecn, flow_label=0)) == wanted


@pytest.mark.parametrize("frame", [arp(), MACS + bytes.fromhex("88b5") + bytes(46)])
def test_the_rest_goes_to_queue_0(frame: bytes) -> None:
    assert execute(program(), frame) == class_of(0)


def test_it_follows_the_table_it_is_given() -> None:
    """Another table, another program: nothing of `queue_of` is built in."""

    def reversed_table(dscp: int) -> int:
        return 63 - dscp

    for dscp in range(CODE_POINTS):
        assert execute(program(reversed_table), ipv4(dscp)) == class_of(63 - dscp)


def test_tc_form() -> None:
    words = bytecode(program()).split(",")
    assert int(words[0]) == len(words) - 1 == len(program())
    assert words[1] == "40 0 0 12"
    assert all(len(word.split()) == 4 for word in words[1:])

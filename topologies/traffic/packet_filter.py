"""Classic BPF in a few words: instructions as tuples, and attaching them to a socket."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, k."""

_SO_ATTACH_FILTER = 26
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
AND, JUMP, JUMP_EQUAL, RETURN = 0x54, 0x05, 0x15, 0x06
ANCILLARY_PACKET_TYPE = 0xFFFFF000 + 4
ANCILLARY_VLAN_PRESENT = 0xFFFFF000 + 48
WHOLE_FRAME = 0x40000
ACCEPT: Instruction = (RETURN, 0, 0, WHOLE_FRAME)
DROP: Instruction = (RETURN, 0, 0, 0)


def unless_equal(value: int, instead: Instruction) -> list[Instruction]:
    """Go on when the accumulator equals `value`, else return `instead`."""
    return [(JUMP_EQUAL, 1, 0, value), instead]


def if_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    """Run `then` (at most 255 instructions, ending in a return) when equal, else skip it."""
    return [(JUMP_EQUAL, 0, len(then), value), *then]


def attach(opened: socket.socket, program: Sequence[Instruction]) -> None:
    """The socket gets only frames for which the program returns more than 0."""
    if len(program) > 4096:
        raise ValueError(f"filter of {len(program)} instructions; the kernel takes 4096")
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HL", len(program), ctypes.addressof(buffer))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)

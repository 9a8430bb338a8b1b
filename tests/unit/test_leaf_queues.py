"""Reading the kernel's messages about classes."""

from __future__ import annotations

import struct

import pytest

from topologies.leaf_queues import NewClass, new_classes

pytestmark = pytest.mark.unit

NEW_CLASS, DELETED_CLASS, NEW_QDISC = 40, 41, 36


def message(kind: int, index: int, handle: int, parent: int, leaf: int, extra: bytes) -> bytes:
    body = struct.pack("=BBHiIII", 0, 0, 0, index, handle, parent, leaf) + extra
    length = 16 + len(body)
    padding = bytes(-length % 4)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + padding


def test_new_classes_are_found_between_other_messages() -> None:
    datagram = (
        message(NEW_QDISC, 5, 0x10000, 0xFFFFFFFF, 0, b"")
        + message(NEW_CLASS, 5, 0x10007, 0x1FFFE, 0, b"\x05\x00\x01\x00h")
        + message(DELETED_CLASS, 5, 0x10003, 0x1FFFE, 0, b"")
        + message(NEW_CLASS, 6, 0x10003, 0x1FFFE, 0x80350000, b"")
    )
    assert list(new_classes(datagram)) == [
        NewClass(5, 0x10007, 0x1FFFE, 0),
        NewClass(6, 0x10003, 0x1FFFE, 0x80350000),
    ]


@pytest.mark.parametrize("rubbish", [b"", b"\0" * 15, b"\0" * 64])
def test_rubbish_ends(rubbish: bytes) -> None:
    assert list(new_classes(rubbish)) == []

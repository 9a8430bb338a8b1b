"""What every packet of our own senders carries: who it is, its number, when it left.

Little-endian, so that numpy reads a whole batch in place.
"""

from __future__ import annotations

import struct

import numpy as np

MAGIC = 0x4E4C4F48
HEADER = struct.Struct("<IHBBQq")
"""magic, flow id, slice id, 0, sequence (from 1), CLOCK_REALTIME of the sender in ns."""
STAMP = struct.Struct("<Qq")
STAMP_OFFSET = 8
"""Where sequence and clock start: the part that changes from packet to packet."""
HEADER_DTYPE = np.dtype(
    [
        ("magic", "<u4"),
        ("flow_id", "<u2"),
        ("slice_id", "u1"),
        ("zero", "u1"),
        ("sequence", "<i8"),
        ("sent_ns", "<i8"),
    ]
)


def new_payload(flow_id: int, slice_id: int, payload_bytes: int) -> bytearray:
    """A payload of zeros with the constant part of the header filled in."""
    if payload_bytes < HEADER.size:
        raise ValueError(f"payload of {payload_bytes} B cannot hold the {HEADER.size} B header")
    payload = bytearray(payload_bytes)
    HEADER.pack_into(payload, 0, MAGIC, flow_id, slice_id, 0, 0, 0)
    return payload

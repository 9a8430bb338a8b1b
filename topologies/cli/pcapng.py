"""Writing pcapng: one section, one block per interface, packets with nanosecond times.

Only what `capture` needs; tcpdump itself writes the older pcap only, which
cannot say on which interface a packet was seen.
Source: IETF draft-ietf-opsawg-pcapng, sections 4.1 to 4.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import IO

LINKTYPE_ETHERNET = 1
SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
OPTION_END, OPTION_IF_NAME, OPTION_IF_TSRESOL = 0, 2, 9
PCAP_NANOSECOND_MAGIC = 0xA1B23C4D
PCAP_HEADER = struct.Struct("<IHHiIII")
PCAP_RECORD = struct.Struct("<IIII")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def section_header() -> bytes:
    """Version 1.0, little endian, section length unknown."""
    return _block(SECTION_HEADER, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface_description(name: str, link_type: int = LINKTYPE_ETHERNET) -> bytes:
    """An interface with nanosecond time stamps; its index is its place in the section."""
    options = (
        _option(OPTION_IF_NAME, name.encode())
        + _option(OPTION_IF_TSRESOL, b"\x09")
        + _option(OPTION_END, b"")
    )
    return _block(INTERFACE_DESCRIPTION, struct.pack("<HHI", link_type, 0, 0) + options)


def enhanced_packet(interface_index: int, at_ns: int, frame: bytes, length_bytes: int) -> bytes:
    """`length_bytes` is the frame's length on the wire, `frame` what was captured of it."""
    head = struct.pack(
        "<IIIII", interface_index, at_ns >> 32, at_ns & 0xFFFFFFFF, len(frame), length_bytes
    )
    return _block(ENHANCED_PACKET, head + _padded(frame))


def packets_of_pcap(
    stream: IO[bytes], on_header: Callable[[], object] = lambda: None
) -> Iterator[tuple[int, bytes, int]]:
    """(time in ns, frame, length on the wire) of a nanosecond pcap stream, as it arrives.

    `on_header`: called once the stream has begun, from when on its writer listens. A record
    torn by the writer's end is left out. Raises ValueError for another format.
    """
    header = stream.read(PCAP_HEADER.size)
    if not header:
        return
    if len(header) < PCAP_HEADER.size or PCAP_HEADER.unpack(header)[0] != PCAP_NANOSECOND_MAGIC:
        raise ValueError("not a little-endian pcap stream with nanosecond times")
    on_header()
    while len(record := stream.read(PCAP_RECORD.size)) == PCAP_RECORD.size:
        seconds, nanoseconds, captured, original = PCAP_RECORD.unpack(record)
        frame = stream.read(captured)
        if len(frame) < captured:
            return
        yield seconds * 1_000_000_000 + nanoseconds, frame, original

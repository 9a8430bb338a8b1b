"""What a switch may say: whole OpenFlow 1.3 messages, checked before a parser sees them. Pure.

Ryu's parser trusts every length inside a message: a Hello whose element claims a
length of zero hangs it, and with it all switches.  Here every list of
self-describing parts is walked once; a part that is shorter than its own header,
or longer than what is left, is a fault, and so is a message that no switch sends.
The layouts are those of the OpenFlow Switch Specification 1.3.5, section 7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

HEADER_BYTES: Final = 8
VERSION: Final = 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = range(5)
FEATURES_REPLY, PACKET_IN, PORT_STATUS, MULTIPART_REPLY = 6, 10, 12, 19

_LEAST_BYTES: Mapping[int, int] = {
    HELLO: 8, ERROR: 12, ECHO_REQUEST: 8, ECHO_REPLY: 8, EXPERIMENTER: 16,
    FEATURES_REPLY: 32, 8: 12, PACKET_IN: 34, 11: 56, PORT_STATUS: 80, MULTIPART_REPLY: 16,
    21: 8, 23: 16, 25: 24, 27: 32,
}  # fmt: skip
"""Types that go from a switch to its controller (get-config, flow-removed, barrier, queue
config, role and async replies among them) -> their least length."""
_PORT_BYTES, _QUEUE_STATS_BYTES, _PORT_STATS_BYTES = 64, 40, 112
_AGGREGATE_BYTES = 24


class MalformedFrame(Exception):
    """Why the connection that sent it has to end."""


def length_of(header: bytes | bytearray) -> int:
    """Length of the message that starts so. Raises `MalformedFrame`."""
    version, kind, length = struct.unpack_from("!BBH", header)
    if kind not in _LEAST_BYTES:
        raise MalformedFrame(f"type {kind} is no message of a switch")
    if version != VERSION and kind not in (HELLO, ERROR):
        raise MalformedFrame(f"version {version}, expected {VERSION}")
    if length < _LEAST_BYTES[kind]:
        raise MalformedFrame(f"type {kind} of {length} bytes, at least {_LEAST_BYTES[kind]}")
    return int(length)


def check(frame: bytes) -> None:
    """Walk everything in a whole message that carries a length. Raises `MalformedFrame`."""
    walk = _WALKS.get(frame[1])
    if walk is not None:
        walk(frame)


def datapath_id(frame: bytes) -> int | None:
    """Of a features reply; None for every other message."""
    return int.from_bytes(frame[8:16], "big") if frame[1] == FEATURES_REPLY else None


# -- parts ---------------------------------------------------------------------

_Part = Callable[[bytes, int, int], None]
"""Checks the part in frame[start:end]."""


def _anything(frame: bytes, start: int, end: int) -> None:
    """A part whose inside carries no length."""


def _parts(
    frame: bytes,
    start: int,
    end: int,
    what: str,
    least: int,
    length_at: int,
    inside: _Part = _anything,
    multiple: int = 8,
) -> None:
    """Parts one after the other, each with its length (16 bits) `length_at` bytes into it."""
    while start < end:
        if end - start < least:
            raise MalformedFrame(f"{what}: {end - start} bytes left, at least {least}")
        length = int.from_bytes(frame[start + length_at : start + length_at + 2], "big")
        padded = -(-length // multiple) * multiple
        if length < least or start + length > end:
            raise MalformedFrame(f"{what} of {length} bytes, {end - start} left")
        inside(frame, start, start + length)
        start += padded


def _hello(frame: bytes) -> None:
    _parts(frame, HEADER_BYTES, len(frame), "hello element", 4, 2)


def _match(frame: bytes, start: int, end: int) -> int:
    """Where the padded match ends."""
    if end - start < 8:
        raise MalformedFrame(f"match: {end - start} bytes left, at least 8")
    kind, length = struct.unpack_from("!HH", frame, start)
    padded_end = start + -(-length // 8) * 8
    if kind != 1 or length < 4 or padded_end > end:
        raise MalformedFrame(f"match of type {kind} and {length} bytes, {end - start} left")
    at = start + 4
    while at < start + length:
        size = 4 + frame[at + 3] if at + 4 <= start + length else 0
        if size < 4 or at + size > start + length:
            raise MalformedFrame("a match field runs over the end of its match")
        at += size
    return int(padded_end)


def _actions(frame: bytes, start: int, end: int) -> None:
    _parts(frame, start, end, "action", 8, 2)


def _instruction(frame: bytes, start: int, end: int) -> None:
    kind = int.from_bytes(frame[start : start + 2], "big")
    if kind in (3, 4):  # write and apply actions
        _actions(frame, start + 8, end)


def _flow(frame: bytes, start: int, end: int) -> None:
    after = _match(frame, start + 48, end)
    _parts(frame, after, end, "instruction", 8, 2, _instruction)


def _bucket(frame: bytes, start: int, end: int) -> None:
    _actions(frame, start + 16, end)


def _group(frame: bytes, start: int, end: int) -> None:
    _parts(frame, start + 8, end, "bucket", 16, 0, _bucket)


def _meter(frame: bytes, start: int, end: int) -> None:
    _parts(frame, start + 8, end, "meter band", 12, 2, multiple=1)


def _fixed(what: str, size: int) -> _Part:
    def check_size(frame: bytes, start: int, end: int) -> None:
        if (end - start) % size:
            raise MalformedFrame(f"{what}: {end - start} bytes, no multiple of {size}")

    return check_size


def _list_of(what: str, least: int, inside: _Part = _anything, length_at: int = 0) -> _Part:
    def check_list(frame: bytes, start: int, end: int) -> None:
        _parts(frame, start, end, what, least, length_at, inside)

    return check_list


_MULTIPART: Mapping[int, _Part] = {
    1: _list_of("flow", 56, _flow),
    2: _fixed("aggregate", _AGGREGATE_BYTES),
    4: _fixed("port statistics", _PORT_STATS_BYTES),
    5: _fixed("queue statistics", _QUEUE_STATS_BYTES),
    7: _list_of("group", 8, _group),
    9: _list_of("meter statistics", 40, length_at=4),
    10: _list_of("meter", 8, _meter),
    13: _fixed("port", _PORT_BYTES),
}
"""Only what this controller asks for."""


def _multipart(frame: bytes) -> None:
    kind = int.from_bytes(frame[8:10], "big")
    if kind not in _MULTIPART:
        raise MalformedFrame(f"multipart reply of type {kind}, which nobody asked for")
    _MULTIPART[kind](frame, 16, len(frame))


def _packet_in(frame: bytes) -> None:
    _match(frame, 24, len(frame))


def _flow_removed(frame: bytes) -> None:
    _match(frame, 48, len(frame))


def _exactly(size: int) -> Callable[[bytes], None]:
    def check_size(frame: bytes) -> None:
        if len(frame) != size:
            raise MalformedFrame(f"type {frame[1]} of {len(frame)} bytes, expected {size}")

    return check_size


_WALKS: Mapping[int, Callable[[bytes], None]] = {
    HELLO: _hello,
    FEATURES_REPLY: _exactly(32),
    PACKET_IN: _packet_in,
    11: _flow_removed,
    PORT_STATUS: _exactly(80),
    MULTIPART_REPLY: _multipart,
    21: _exactly(8),
    25: _exactly(24),
    27: _exactly(32),
}

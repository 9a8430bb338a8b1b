"""A cheap look at what a switch carries: has anybody touched it since the last look?

Reading all flows through Ryu's parser costs its one thread milliseconds a
switch; asked for here is the same, directly from the switch's management socket,
and of the answer only a sum of hashes is kept (durations and counters left out).
Equal sums: nothing changed.  Others: the caller reads and compares properly.
Messages by the OpenFlow Switch Specification 1.3.5, sections 7.1 and 7.3.5.
"""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from controller.errors import SwitchDatabaseError

TIMEOUT_S = 2.0
_VERSION = 4
_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY = 0, 1, 2, 3
_MULTIPART_REQUEST, _MULTIPART_REPLY = 18, 19
_FLOWS, _GROUPS, _METERS = 1, 7, 10
_MORE = 1
_ANY = 0xFFFFFFFF
_HEADER = struct.Struct("!BBHI")
_EMPTY_MATCH = struct.pack("!HHI", 1, 4, 0)
_BODIES = {
    _FLOWS: struct.pack("!B3xII4xQQ", 0xFF, _ANY, _ANY, 0, 0) + _EMPTY_MATCH,
    _GROUPS: b"",
    _METERS: struct.pack("!I4x", _ANY),
}


def _message(kind: int, xid: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(_VERSION, kind, _HEADER.size + len(body), xid) + body


def flow_sum(body: bytes) -> int:
    """Of the flow entries in a multipart body, whatever their order."""
    total = at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        if size < 56:
            raise SwitchDatabaseError(f"a flow entry of {size} bytes")
        # Without duration (4-12), packets and bytes (32-48).
        total += hash(body[at : at + 4] + body[at + 12 : at + 32] + body[at + 48 : at + size])
        at += size
    return total


class Fingerprints:
    """One connection per switch, kept. `folder`: where vswitchd has its management sockets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def read(self, switch: str) -> int:
        """Sum over flows, groups and meters. Raises `SwitchDatabaseError`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._read(switch)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._close(switch)
            raise SwitchDatabaseError(f"switch {switch} does not answer: {error!r}") from error
        except BaseException:
            self._close(switch)
            raise

    async def _read(self, switch: str) -> int:
        if switch not in self._streams:
            path = str(self._folder / f"{switch}.mgmt")
            self._streams[switch] = await asyncio.open_unix_connection(path)
            self._streams[switch][1].write(_message(_HELLO, 0))
        reader, writer = self._streams[switch]
        for kind, body in _BODIES.items():
            writer.write(_message(_MULTIPART_REQUEST, kind, struct.pack("!HH4x", kind, 0) + body))
        total, missing = 0, set(_BODIES)
        while missing:
            kind, xid, body = await _receive(reader)
            if kind == _ECHO_REQUEST:
                writer.write(_message(_ECHO_REPLY, xid, body))
            elif kind == _ERROR and xid in missing:
                missing.discard(xid)  # e.g. a datapath without meters
            elif kind == _MULTIPART_REPLY and xid in missing:
                asked, flags = struct.unpack_from("!HH", body)
                total += flow_sum(body[8:]) if asked == _FLOWS else hash(body[8:])
                if not flags & _MORE:
                    missing.discard(xid)
        return total

    def _close(self, switch: str) -> None:
        if switch in self._streams:
            self._streams.pop(switch)[1].close()

    def close(self) -> None:
        for switch in list(self._streams):
            self._close(switch)


async def _receive(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    header = await reader.readexactly(_HEADER.size)
    _, kind, size, xid = _HEADER.unpack(header)
    return kind, xid, await reader.readexactly(size - _HEADER.size)

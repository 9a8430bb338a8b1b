"""Moving a server's state over the emulated network: one TCP connection in slice 0.

Frames of a head (kind, two numbers) and a payload.  The sender goes in rounds, each
the pages changed since the round before, each acknowledged; after FINAL both sides
hold the same bytes (SHA-256), and RELAY frames carry requests that came too late to
the old server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from topologies.services.image import PAGE_BYTES, Image

_HEAD = struct.Struct("!BIQ")
_CHUNK_PAGES = 16
_ROUND_DONE, _STATE_COMPLETE, _STATE_DIFFERS = b"A", b"R", b"X"
_SO_MAX_PACING_RATE = 47
_FRAME_OVERHEAD_BYTES = 66
"""Ethernet 14 + IPv4 20 + TCP 20 + timestamps 12: of every segment, both ways."""
_SENT, _SEGMENTS_OUT, _SEGMENTS_IN = (200, "Q"), (136, "I"), (140, "I")
"""Offsets in struct tcp_info (include/uapi/linux/tcp.h)."""

Address = tuple[str, int]


class Kind(IntEnum):
    BEGIN = 1
    PAGES = 2
    ROUND = 3
    FINAL = 4
    RELAY = 5


class TransferFailed(Exception):
    """The other side went away or holds something else."""


@dataclass(frozen=True)
class Round:
    pages: int
    state_bytes: int
    duration_ms: float


class Outgoing:
    """The source's end. Raises `TransferFailed`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(
        cls, local_ip: str, remote: Address, rate_mbps: float | None, timeout_s: float = 5.0
    ) -> Outgoing:
        connecting = asyncio.open_connection(*remote, local_addr=(local_ip, 0))
        try:
            reader, writer = await asyncio.wait_for(connecting, timeout_s)
        except (OSError, TimeoutError) as error:
            raise TransferFailed(f"no connection to {remote[0]}:{remote[1]}: {error!r}") from error
        if rate_mbps is not None:
            # The kernel paces the segments, so that twin reports on the same queue get by.
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, int(rate_mbps * 125_000))
        writer.transport.set_write_buffer_limits(high=256 * 1024)
        return cls(reader, writer)

    async def begin(self, image: Image) -> None:
        await self._send(Kind.BEGIN, image.page_count, 0)

    async def round(self, image: Image, number: int) -> Round:
        """Sends what changed, while the image may go on changing between chunks."""
        started_s, pages = time.monotonic(), 0
        for first, count in image.take_dirty():
            for page in range(first, first + count, _CHUNK_PAGES):
                size = min(_CHUNK_PAGES, first + count - page)
                content = image.memory[page * PAGE_BYTES : (page + size) * PAGE_BYTES]
                await self._send(Kind.PAGES, page, len(content), bytes(content))
                pages += size
        await self._send(Kind.ROUND, number, 0)
        await self._expect(_ROUND_DONE)
        return Round(pages, pages * PAGE_BYTES, (time.monotonic() - started_s) * 1000)

    async def final(self, digest: bytes) -> None:
        await self._send(Kind.FINAL, 0, len(digest), digest)
        await self._expect(_STATE_COMPLETE)

    async def relay(self, datagram: bytes, client: Address) -> None:
        ip = int(ipaddress.IPv4Address(client[0]))
        await self._send(Kind.RELAY, ip, client[1] << 32 | len(datagram), datagram)

    async def _send(self, kind: Kind, a: int, b: int, payload: bytes = b"") -> None:
        try:
            self._writer.write(_HEAD.pack(kind, a, b) + payload)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise TransferFailed(f"the target is gone: {error!r}") from error

    async def _expect(self, wanted: bytes) -> None:
        try:
            got = await self._reader.readexactly(1)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise TransferFailed(f"the target is gone: {error!r}") from error
        if got != wanted:
            raise TransferFailed("the target's state differs from what was sent")

    def wire_bytes(self) -> int:
        """Both directions, retransmissions and frame headers included."""
        raw = self._writer.get_extra_info("socket")
        if raw is None or raw.fileno() < 0:
            return 0
        facts = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
        sent, out, into = (
            struct.unpack_from(f"={form}", facts, offset)[0]
            for offset, form in (_SENT, _SEGMENTS_OUT, _SEGMENTS_IN)
        )
        return int(sent + _FRAME_OVERHEAD_BYTES * (out + into))

    def close(self) -> None:
        self._writer.close()


@dataclass
class Incoming:
    """The target's end: `completed` is called when all state is here, `relayed` for requests."""

    image: Image
    completed: Callable[[], None]
    relayed: Callable[[bytes, Address], None]
    begun: Callable[[], bool]
    """Whether state is welcome: not when this instance is live."""

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its begin to its end."""
        try:
            while True:
                kind, a, b = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                if kind == Kind.BEGIN and (a != self.image.page_count or not self.begun()):
                    return
                await self._take(Kind(kind), a, b, reader, writer)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError):
            return  # the other side went away or talks nonsense: the coordinator decides
        finally:
            writer.close()

    async def _take(self, kind: Kind, a: int, b: int, reader: Any, writer: Any) -> None:
        if kind is Kind.PAGES:
            self.image.write(a, await reader.readexactly(b))
        elif kind is Kind.ROUND:
            writer.write(_ROUND_DONE)
        elif kind is Kind.FINAL:
            same = await reader.readexactly(b) == self.image.digest()
            if same:
                self.completed()
            writer.write(_STATE_COMPLETE if same else _STATE_DIFFERS)
        elif kind is Kind.RELAY:
            datagram = await reader.readexactly(b & 0xFFFFFFFF)
            self.relayed(datagram, (str(ipaddress.IPv4Address(a)), b >> 32))

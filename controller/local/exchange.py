"""Between local controllers: twins of users that moved, over TCP in slice 0. The shell.

A message is its length (4 bytes, big endian), then itself; the receiver answers one byte
when the twin holds it.  The old edge keeps a twin until both were answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

from controller.contracts.addressing import TWIN_EXCHANGE_TCP_PORT
from controller.local.twin_migration import (
    MAX_MESSAGE_BYTES,
    Arrival,
    BadMessage,
    decoded,
    head_message,
    history_message,
)
from controller.twins.level_one import UserTwin

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
KEPT = 512
_ANSWER = b"\x01"
_FRAME_OVERHEAD_BYTES = 4


class Exchange:
    """`take(arrival)` is called for each message that arrives; ValueError refuses it."""

    def __init__(
        self, own_ip: str, peers: Mapping[str, str], take: Callable[[Arrival], None]
    ) -> None:
        self._own_ip = own_ip
        self._peers = dict(peers)
        """edge -> its slice-0 address."""
        self._take = take
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.failed = 0
        self.refused = 0
        self.bytes_sent = 0
        """Payload of TCP, both messages."""
        self.gaps_ms: deque[float] = deque(maxlen=KEPT)
        """From the old edge's notice until the twin was here, of twins that arrived."""

    async def start(self) -> None:
        """OSError when the address is not in this namespace."""
        self._server = await asyncio.start_server(self._serve, self._own_ip, TWIN_EXCHANGE_TCP_PORT)

    def send(self, twin: UserTwin, edge: str, left_at_ns: int, sent: Callable[[], None]) -> None:
        """In the background; `sent` is called when the other edge holds all of it."""
        task = asyncio.ensure_future(self._send(twin, edge, left_at_ns, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(
        self, twin: UserTwin, edge: str, left_at_ns: int, sent: Callable[[], None]
    ) -> None:
        try:
            await self.deliver(twin, edge, left_at_ns)
        except (OSError, EOFError) as error:
            # The user's next report makes a twin there anyway; its past is lost, and counted.
            self.failed += 1
            log.warning("the twin of %s did not reach %s: %r", twin.ue_id, edge, error)
        else:
            self.sent += 1
        finally:
            sent()

    async def deliver(self, twin: UserTwin, edge: str, left_at_ns: int) -> int:
        """Bytes sent (payload of TCP), once the other edge holds all of it. `left_at_ns` 0: a
        copy ahead of a handover. Raises `OSError` (`TimeoutError` too) and `EOFError`."""
        size_bytes = 0
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                self._peers[edge], TWIN_EXCHANGE_TCP_PORT, local_addr=(self._own_ip, 0)
            )
            try:
                for message in (head_message(twin, left_at_ns), history_message(twin, left_at_ns)):
                    writer.write(len(message).to_bytes(4, "big") + message)
                    size_bytes += len(message) + _FRAME_OVERHEAD_BYTES
                    if await reader.readexactly(1) != _ANSWER:
                        raise ConnectionError("an answer that is none")
            finally:
                writer.close()
                self.bytes_sent += size_bytes
        return size_bytes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.read(4):
                header += await reader.readexactly(4 - len(header))
                size = int.from_bytes(header, "big")
                if size > MAX_MESSAGE_BYTES:
                    raise BadMessage(f"{size} bytes, at most {MAX_MESSAGE_BYTES}")
                arrival = decoded(await reader.readexactly(size))
                self._take(arrival)
                if arrival.twin is not None and arrival.left_at_ns:
                    self.gaps_ms.append((time.time_ns() - arrival.left_at_ns) / 1e6)
                writer.write(_ANSWER)
        except ValueError as error:
            self.refused += 1
            log.warning("a twin was refused: %s", error)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other edge went away; it counts that
        finally:
            writer.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

"""The local controller's sockets: datagrams with the kernel's clock, aggregates out.

The process lives in the edge server's namespace, so these are plain sockets there.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from controller.contracts.addressing import (
    CENTRE_IP,
    CENTRE_UDP_PORT,
    COLLECTOR_IP,
    COLLECTOR_UDP_PORT,
)
from controller.contracts.inventory import Host
from controller.contracts.twin_messages import MAX_BATCH_REPORTS, MAX_REPORT_BYTES

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; Python's socket module has no name for these
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SK_MEMINFO_DROPS = 8
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
DATAGRAMS_PER_WAKE = 256
"""Then other events get their turn."""
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = 64
_FRAME_OVERHEAD_BYTES = 34  # Ethernet 14 + IPv4 20
_UDP_HEADER_BYTES = 8
_FRAGMENT_BYTES = 1480  # at an MTU of 1500


class Datagram(NamedTuple):
    """`payload` is cut one byte beyond `MAX_REPORT_BYTES`; `size_bytes` is what was sent."""

    payload: bytes
    size_bytes: int
    source_ip: str
    arrived_at_ns: int
    """CLOCK_REALTIME, when the kernel took it from the wire."""

    def reports(self) -> list[Datagram]:
        """A line of it each; of a longer batch than there may be, and of no lines, itself."""
        if b"\n" not in self.payload or len(self.payload) > MAX_REPORT_BYTES:
            return [self]
        lines = self.payload.split(b"\n")
        if len(lines) > MAX_BATCH_REPORTS:
            return [self]
        return [self._replace(payload=line) for line in lines]


def collector_socket() -> socket.socket:
    """Bound to the collector's address; OSError names address and port when it cannot be."""
    opened = _bound(COLLECTOR_IP, COLLECTOR_UDP_PORT)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return opened


def aggregate_socket(edge: Host) -> socket.socket:
    """Bound to the edge's own slice-0 address; aggregates leave from it."""
    return _bound(infrastructure_address(edge), 0)


def infrastructure_address(edge: Host) -> str:
    """The edge's own address in slice 0; ValueError without one."""
    own = [a.ip for a in edge.addresses if a.slice_id == 0 and a.ip != COLLECTOR_IP]
    if not own:
        raise ValueError(f"edge server {edge.name} has no slice-0 address of its own")
    return own[0]


def _bound(address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.bind((address, port))
    except OSError as error:
        opened.close()
        raise OSError(
            error.errno,
            f"cannot bind UDP {address}:{port} in this namespace: {error.strerror}",
        ) from error
    return opened


def receive(opened: socket.socket) -> Iterator[Datagram]:
    """What is waiting, at most `DATAGRAMS_PER_WAKE`."""
    room = bytearray(MAX_REPORT_BYTES + 1)
    for _ in range(DATAGRAMS_PER_WAKE):
        try:
            # MSG_TRUNC asks for the size on the wire, also of what did not fit.
            size_bytes, ancillary, _, (source_ip, _) = opened.recvmsg_into(
                [room], _ANCILLARY_BYTES, socket.MSG_TRUNC
            )
        except BlockingIOError:
            return
        payload = bytes(room[:size_bytes])
        yield Datagram(payload, size_bytes, source_ip, _kernel_time_ns(ancillary))


def send_aggregate(opened: socket.socket, payload: bytes) -> None:
    opened.sendto(payload, (CENTRE_IP, CENTRE_UDP_PORT))


def kernel_drops(opened: socket.socket) -> int:
    """Datagrams that found the receive buffer full since the socket was made."""
    answer = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 9 * 4)
    return int.from_bytes(answer[SK_MEMINFO_DROPS * 4 :][:4], "little")


def wire_bytes(payload_bytes: int) -> int:
    """L2 bytes of a UDP datagram, fragments included, without the frame check sequence."""
    ip_payload_bytes = payload_bytes + _UDP_HEADER_BYTES
    fragments = -(-ip_payload_bytes // _FRAGMENT_BYTES)
    return ip_payload_bytes + fragments * _FRAME_OVERHEAD_BYTES


def _kernel_time_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    raise OSError("the kernel gave a datagram without its time of arrival")

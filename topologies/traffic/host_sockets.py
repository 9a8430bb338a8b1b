"""Sockets that live in a host's network namespace while their process stays outside.

A socket belongs to the namespace in which it was made, so one process can send
for every host: enter, make the socket, come back.
"""

from __future__ import annotations

import socket

from topologies.namespaces import inside
from topologies.traffic.flows import Endpoint

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
SO_TIMESTAMPNS = 35


def udp_socket(netns_path: str, local: Endpoint, remote: Endpoint) -> socket.socket:
    """A connected, non-blocking UDP socket of the host; kernel demultiplexes by both ends."""
    with inside(netns_path):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            # Flows of one service share its address and port; connect() tells them apart.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.bind((local.address, local.port))
            opened.connect((remote.address, remote.port))
        except OSError as error:
            opened.close()
            raise OSError(
                error.errno,
                f"{local.host} {local.address}:{local.port}: {error.strerror}",
            ) from error
    opened.setblocking(False)
    return opened


def enlarge_send_buffer(opened: socket.socket, size_bytes: int) -> None:
    opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size_bytes)


def enlarge_receive_buffer(opened: socket.socket, size_bytes: int) -> None:
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)


def receive_drops(opened: socket.socket) -> int:
    """Packets that found the receive buffer full, since the socket was made.

    SO_MEMINFO and not SO_RXQ_OVFL: the latter is told only by a packet that comes after.
    """
    answer = opened.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 9 * 4)
    return int.from_bytes(answer[_SK_MEMINFO_DROPS * 4 :][:4], "little")

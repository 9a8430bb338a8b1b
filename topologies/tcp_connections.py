"""What TCP connections of a namespace have carried, as its kernel counts (sock_diag(7)).

iperf3 tells its figures when it ends; a user agent needs them while it runs.  The
netlink socket belongs to the namespace in which it was made.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from topologies.namespaces import socket_in

SEGMENT_OVERHEAD_BYTES = 66
"""Ethernet 14 + IPv4 20 + TCP 20 + timestamps 12, as every data segment here carries."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_AND_DUMP = 0x301
_INFO = 2  # INET_DIAG_INFO
_ALL_BUT_LISTENING = 0xFFF & ~(1 << 10)
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_QUERY = struct.Struct("=BBBBI48x")  # inet_diag_req_v2 for any address and port
_ANSWER_BYTES = 72  # inet_diag_msg
_PORTS = struct.Struct(">HH")
_PORTS_OFFSET = 4
_ATTRIBUTE = struct.Struct("=HH")
_DONE, _ERROR = 3, 2
# struct tcp_info of linux/tcp.h
_TOTAL_RETRANS = (100, struct.Struct("=I"))
_BYTES_ACKED_AND_RECEIVED = (120, struct.Struct("=QQ"))
_DATA_SEGMENTS_IN_AND_OUT = (152, struct.Struct("=II"))
_INFO_BYTES = 160


@dataclass(frozen=True)
class Connection:
    """Cumulative counts of one end; retransmissions and segments out are of its sending."""

    local_port: int
    remote_port: int
    bytes_acked: int
    bytes_received: int
    segments_in: int
    segments_out: int
    retransmitted: int


class TcpConnections:
    """Asks the kernel of one namespace; `read` costs about 0.3 ms: it walks its table."""

    def __init__(self, netns_path: str) -> None:
        self._netlink = socket_in(
            netns_path, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG
        )
        self._netlink.settimeout(1.0)

    def read(self) -> list[Connection]:
        """Every IPv4 connection; OSError when the kernel refuses."""
        query = _QUERY.pack(
            socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ALL_BUT_LISTENING
        )
        header = _HEADER.pack(
            _HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 1, 0
        )
        self._netlink.send(header + query)
        found: list[Connection] = []
        while True:
            for kind, body in _messages(self._netlink.recv(65_536)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, "sock_diag refused to list TCP connections")
                connection = _connection(body)
                if connection is not None:
                    found.append(connection)

    def close(self) -> None:
        self._netlink.close()


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, offset)
        yield kind, answer[offset + _HEADER.size : offset + length]
        offset += -(-length // 4) * 4


def _connection(body: bytes) -> Connection | None:
    """None for a connection that has no counters any more (TIME_WAIT)."""
    local_port, remote_port = _PORTS.unpack_from(body, _PORTS_OFFSET)
    offset = _ANSWER_BYTES
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        info = body[offset + _ATTRIBUTE.size : offset + length]
        if kind == _INFO and len(info) >= _INFO_BYTES:
            acked, received = _field(info, _BYTES_ACKED_AND_RECEIVED)
            segments_in, segments_out = _field(info, _DATA_SEGMENTS_IN_AND_OUT)
            (retransmitted,) = _field(info, _TOTAL_RETRANS)
            return Connection(
                *(local_port, remote_port, acked, received),
                *(segments_in, segments_out, retransmitted),
            )
        offset += -(-length // 4) * 4
    return None


def _field(info: bytes, place: tuple[int, struct.Struct]) -> tuple[int, ...]:
    offset, layout = place
    return layout.unpack_from(info, offset)

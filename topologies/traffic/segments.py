"""TCP segments of a flow as the kernels of its two hosts count them, for the packet balance.

Packet sockets at each end's interface, one for each way, whose filter takes the flow's port
alone: segments, acknowledgements, handshakes, and what is sent again.  Nobody reads them: the
kernel counts what their buffer has no room for too (PACKET_STATISTICS).  They see frames, after
TCP's large segments were cut (offloads are off in every host).  Hosts and not switches: when
a service of the slice moves, Open vSwitch credits what it forwarded since it last
revalidated to the rules that hold now.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from controller.contracts.inventory import Inventory
from topologies.services.packet_counts import Datagrams
from topologies.traffic.flows import Flow
from topologies.traffic.iperf import port_of
from topologies.traffic.leaks import packet_socket
from topologies.traffic.packet_filter import (
    ANCILLARY_PACKET_TYPE,
    DROP,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_WORD,
    RETURN,
    Instruction,
    unless_equal,
)

_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_STATISTICS = struct.Struct("=II")
"""All that the filter took, those without room in the buffer included; and those alone."""
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_ETH_P_IP, _TCP = 0x0800, 6
_PROTOCOL, _SOURCE_PORT, _DESTINATION_PORT = 23, 34, 36
"""Where they stand in an IPv4 frame without options."""


@dataclass
class _Counter:
    """One way at one end of a flow."""

    flow_id: int
    is_sent: bool
    opened: socket.socket
    packets: int = 0

    def read(self) -> int:
        """The kernel starts anew with each answer."""
        answer = self.opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self.packets += _STATISTICS.unpack(answer)[0]
        return self.packets


class SegmentCounts:
    """Of all TCP flows of a run."""

    def __init__(self, flows: Iterable[Flow], inventory: Inventory) -> None:
        self._flows = [flow for flow in flows if flow.kind == "tcp"]
        self._inventory = inventory
        self._counters: list[_Counter] = []

    def begin(self) -> None:
        """Count from 0 on."""
        self.close()
        for flow in self._flows:
            for name, is_server in ((flow.receiver.host, True), (flow.sender.host, False)):
                host = self._inventory.host(name)
                for is_sent in (True, False):
                    opened = packet_socket(host, program(port_of(flow), is_server, is_sent))
                    # Nobody reads it; the least that the kernel gives is enough.
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
                    self._counters.append(_Counter(flow.flow_id, is_sent, opened))

    def read(self) -> dict[int, Datagrams]:
        """Flow id -> segments sent and received, both ends and both ways together."""
        found = {flow.flow_id: Datagrams() for flow in self._flows}
        for counter in self._counters:
            packets = counter.read()
            sent, received = (packets, 0) if counter.is_sent else (0, packets)
            found[counter.flow_id] += Datagrams(sent, received)
        return found

    def close(self) -> None:
        for counter in self._counters:
            counter.opened.close()
        self._counters = []


def program(port: int, is_server: bool, is_sent: bool) -> list[Instruction]:
    """Takes the segments that an end sends (or receives); `port` is the server's."""
    own_port = _SOURCE_PORT if is_sent else _DESTINATION_PORT
    far_port = _DESTINATION_PORT if is_sent else _SOURCE_PORT
    return [
        (LOAD_WORD, 0, 0, ANCILLARY_PACKET_TYPE),
        *unless_equal(_PACKET_OUTGOING if is_sent else _PACKET_HOST, DROP),
        (LOAD_HALF, 0, 0, 12),
        *unless_equal(_ETH_P_IP, DROP),
        (LOAD_BYTE, 0, 0, _PROTOCOL),
        *unless_equal(_TCP, DROP),
        (LOAD_HALF, 0, 0, own_port if is_server else far_port),
        *unless_equal(port, DROP),
        (RETURN, 0, 0, 1),
    ]

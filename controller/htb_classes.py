"""HTB classes of the switches' ports, read and set in the kernel over rtnetlink(7).

vswitchd makes the classes, and follows OVSDB in the thread that also forwards and answers
OpenFlow, where it sets every class of every port anew.  A class that is there and only
changes its rates is therefore set here first, in the encoding vswitchd uses; OVSDB hears
of it afterwards, and what vswitchd then sets is what stands already.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from controller.contracts import rtnetlink
from controller.contracts.queue_tree import QueueRates, queue_row
from controller.errors import SwitchDatabaseError
from controller.queues import Queues
from controller.ric.netns import make_in_namespace

_TCA_KIND, _TCA_OPTIONS, _TCA_HTB_PARMS = 1, 2, 1
_SIOCGIFINDEX, _SIOCGIFMTU, _IFNAMSIZ = 0x8933, 0x8921, 16
_PARMS = struct.Struct("=" + 2 * "BBHhHI" + "IIIII")
"""tc_htb_opt: tc_ratespec of the rate and of the ceiling (cell_log, linklayer, overhead,
cell_align, mpu, rate), buffer, cbuffer, quantum, level, prio."""
_KEPT = itemgetter(5, 11, 12, 13, 16)
"""Both rates, both buffers, priority."""
_LINKLAYER_ETHERNET = 1
_LEAST_MPU_BYTES = 64
_KIND = b"htb\0"
_MAJOR = 1
_RECEIVE_BYTES = 1 << 18
_ANSWER_TIMEOUT_S = 2.0
_LAST_OF_AN_ANSWER = (rtnetlink.ERROR, rtnetlink.DONE)
_MOST_BYTES_PER_S = 0xFFFFFFFF
"""That fit the message; what is faster is left to vswitchd."""
_PSCHED = Path("/proc/net/psched")


class HtbClass(NamedTuple):
    """As the kernel has it; the buffers are what may be caught up, in the scheduler's ticks."""

    rate_bytes_per_s: int
    ceiling_bytes_per_s: int
    buffer_ticks: int
    ceiling_buffer_ticks: int
    priority: int

    @property
    def rates(self) -> QueueRates:
        return QueueRates(
            self.rate_bytes_per_s * 8 // 1000, self.ceiling_bytes_per_s * 8 // 1000, self.priority
        )


def ticks_per_s(psched: str) -> int:
    """From the text of /proc/net/psched (ns per µs, ns per tick, µs per s, timer's Hz)."""
    ns_per_us, ns_per_tick, us_per_s, _ = (int(word, 16) for word in psched.split())
    return ns_per_us * us_per_s // ns_per_tick


def class_of(rates: QueueRates, mtu_bytes: int, tick_hz: int) -> HtbClass:
    """What Open vSwitch makes of these rates' Queue row on a port of this MTU."""
    row = queue_row(rates)
    rate = max(int(row["min-rate"]) // 8, mtu_bytes)
    ceiling = max(int(row["max-rate"]) // 8, rate)
    burst_bytes = max(int(row["burst"]) // 8, mtu_bytes + 64)
    # Open vSwitch keeps the lower 32 bits, and so must who wants to set the same.
    buffer, ceiling_buffer = (tick_hz * burst_bytes // r & 0xFFFFFFFF for r in (rate, ceiling))
    return HtbClass(rate, ceiling, buffer, ceiling_buffer, rates.priority)


def class_message(ifindex: int, handle: int, parent: int, wanted: HtbClass) -> bytes:
    """RTM_NEWTCLASS that changes a class and makes none, to be acknowledged."""
    parms = _PARMS.pack(
        0, _LINKLAYER_ETHERNET, 0, 0, _LEAST_MPU_BYTES, wanted.rate_bytes_per_s,
        0, _LINKLAYER_ETHERNET, 0, 0, _LEAST_MPU_BYTES, wanted.ceiling_bytes_per_s,
        wanted.buffer_ticks, wanted.ceiling_buffer_ticks, 0, 0, wanted.priority,
    )  # fmt: skip
    options = rtnetlink.attribute(_TCA_HTB_PARMS, parms)
    body = rtnetlink.TRAFFIC_CONTROL.pack(socket.AF_UNSPEC, 0, 0, ifindex, handle, parent, 0)
    body += rtnetlink.attribute(_TCA_KIND, _KIND) + rtnetlink.attribute(_TCA_OPTIONS, options)
    return rtnetlink.message(rtnetlink.NEW_CLASS, rtnetlink.ACKNOWLEDGE, body)


def classes_in(datagram: bytes) -> Iterator[tuple[int, int, HtbClass]]:
    """(handle, parent, class) of the HTB classes that a part of a dump tells of."""
    for kind, body in rtnetlink.messages(datagram):
        if kind != rtnetlink.NEW_CLASS:
            continue
        _, _, _, _, handle, parent, _ = rtnetlink.TRAFFIC_CONTROL.unpack_from(body)
        found = dict(rtnetlink.attributes(body[rtnetlink.TRAFFIC_CONTROL.size :]))
        if found.get(_TCA_KIND) != _KIND:
            continue
        options = dict(rtnetlink.attributes(found[_TCA_OPTIONS]))
        yield handle, parent, HtbClass(*_KEPT(_PARMS.unpack_from(options[_TCA_HTB_PARMS])))


class HtbClasses:
    """The ports' classes in one network namespace, reached through a socket made there.

    The kernel answers within the call (some 20 µs a class), so nothing here awaits.
    """

    def __init__(self, netns_path: str) -> None:
        self._netns_path = netns_path
        self._opened: socket.socket | None = None
        self._tick_hz = ticks_per_s(_PSCHED.read_text())

    def rates(self, interface: str) -> dict[int, QueueRates]:
        """Queue id -> rates of its class; empty when the port is gone or has no tree.

        Raises `SwitchDatabaseError` when the kernel cannot be asked.
        """
        try:
            return {queue_id: found.rates for queue_id, (_, found) in self._dump(interface).items()}
        except OSError as error:
            raise self._failed(interface, error) from error

    def set(self, interface: str, wanted: Queues) -> bool:
        """Give the queues' classes these rates. False, and nothing done, when one is not there.

        Classes that have them already are left alone. Raises `SwitchDatabaseError`.
        """
        try:
            found = self._dump(interface)
            if not wanted.keys() <= found.keys():
                return False
            mtu_bytes = self._number(_SIOCGIFMTU, interface)
            targets = {i: class_of(rates, mtu_bytes, self._tick_hz) for i, rates in wanted.items()}
            if any(t.ceiling_bytes_per_s > _MOST_BYTES_PER_S for t in targets.values()):
                return False
            index = self._number(_SIOCGIFINDEX, interface)
            changes = [
                class_message(index, _MAJOR << 16 | i + 1, found[i][0], target)
                for i, target in targets.items()
                if found[i][1] != target
            ]
            if changes:
                self._ask(changes)
        except OSError as error:
            raise self._failed(interface, error) from error
        return True

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _dump(self, interface: str) -> dict[int, tuple[int, HtbClass]]:
        """Queue id -> (handle of the class it is under, its class)."""
        try:
            index = self._number(_SIOCGIFINDEX, interface)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return {}
            raise
        body = rtnetlink.TRAFFIC_CONTROL.pack(socket.AF_UNSPEC, 0, 0, index, 0, 0, 0)
        answers = self._ask([rtnetlink.message(rtnetlink.GET_CLASS, rtnetlink.DUMP, body)])
        return {
            (handle & 0xFFFF) - 1: (parent, found)
            for handle, parent, found in classes_in(answers)
            if parent != rtnetlink.NO_PARENT
        }

    def _ask(self, requests: list[bytes]) -> bytes:
        """Everything that was answered. Raises OSError for the first refusal."""
        opened = self._socket()
        try:
            opened.send(b"".join(requests))
            answers, left = b"", len(requests)
            while left:
                datagram = opened.recv(_RECEIVE_BYTES)
                answers += datagram
                left -= sum(kind in _LAST_OF_AN_ANSWER for kind, _ in rtnetlink.messages(datagram))
        except OSError:
            self.close()  # what is still on its way answers nobody's question
            raise
        for kind, body in rtnetlink.messages(answers):
            number = -int.from_bytes(body[:4], "little", signed=True)
            if kind == rtnetlink.ERROR and number:
                raise OSError(number, os.strerror(number))
        return answers

    def _socket(self) -> socket.socket:
        if self._opened is None:
            self._opened = make_in_namespace(self._netns_path, _route_socket)
        return self._opened

    def _number(self, request: int, interface: str) -> int:
        """Index or MTU, as netdevice(7) has them in a struct ifreq."""
        asked = struct.pack(f"{_IFNAMSIZ}si", interface.encode(), 0).ljust(40, b"\0")
        answer = fcntl.ioctl(self._socket(), request, asked)
        return int(struct.unpack_from("=i", answer, _IFNAMSIZ)[0])

    def _failed(self, interface: str, error: OSError) -> SwitchDatabaseError:
        return SwitchDatabaseError(f"{interface}: the kernel's queues: {error.strerror or error}")


def _route_socket() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.settimeout(_ANSWER_TIMEOUT_S)
    opened.bind((0, 0))
    return opened

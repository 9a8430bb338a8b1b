"""The queues themselves: each class of a port gets a leaf that drops at its head.

A full pfifo, which HTB gives every class, refuses a frame with an error.  vswitchd
sends in batches of up to 32 frames of all slices and gives up the rest of a batch
at the first error: so one slice's full queue lost other slices' frames, and
nobody counted them (measured: of 9,059 frames 5,172 arrived, 3,157 counted as
dropped).  pfifo_head_drop makes room by dropping its oldest frame, takes the new
one without an error and counts the drop (9,053 = 5,139 + 3,914).

The controller makes classes whenever a slice comes, through OVSDB, and knows
nothing of this: the keeper learns of each new class from the kernel.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.contracts import rtnetlink
from topologies.errors import CommandError
from topologies.namespaces import run
from topologies.traffic.packet_filter import (
    ACCEPT,
    DROP,
    LOAD_HALF,
    LOAD_WORD,
    attach,
    unless_equal,
)

RTMGRP_TC = 8
_TYPE_OFFSET, _LEAF_OFFSET = 4, rtnetlink.HEADER.size + 16
_RECEIVE_BYTES = 1 << 16
_GATHER_S = 0.001
_BARE_CLASS = re.compile(r"^class htb (1:[0-9a-f]+) parent \S+ (?!leaf )", re.MULTILINE)


@dataclass(frozen=True)
class NewClass:
    """A class the kernel tells of. `leaf_handle` 0: it has the default leaf."""

    interface_index: int
    handle: int
    parent: int
    leaf_handle: int


def new_classes(datagram: bytes) -> Iterator[NewClass]:
    """The RTM_NEWTCLASS messages of a netlink datagram (rtnetlink(7))."""
    for kind, body in rtnetlink.messages(datagram):
        if kind == rtnetlink.NEW_CLASS:
            yield NewClass(*rtnetlink.TRAFFIC_CONTROL.unpack_from(body)[3:])


def bare_classes_only(opened: socket.socket) -> None:
    """Let only RTM_NEWTCLASS messages of classes without a leaf of their own through.

    vswitchd sets every class of every port again whenever its configuration changes: without
    this, dozens of messages a decision woke us while others were at work on it.
    """
    kind = socket.htons(
        rtnetlink.NEW_CLASS
    )  # a filter loads as from a network, netlink has the host's
    attach(
        opened,
        [
            (LOAD_HALF, 0, 0, _TYPE_OFFSET),
            *unless_equal(kind, DROP),
            (LOAD_WORD, 0, 0, _LEAF_OFFSET),
            *unless_equal(0, DROP),
            ACCEPT,
        ],
    )


class LeafQueues:
    """Keeps the leaves of these ports' classes, in the namespace it is made in.

    `queue_packets`: interface -> length of each of its queues.
    """

    def __init__(self, queue_packets: Mapping[str, int]) -> None:
        self._packets = dict(queue_packets)
        self._names = {socket.if_nametoindex(name): name for name in queue_packets}
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        bare_classes_only(self._events)
        self._events.bind((0, RTMGRP_TC))
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._keep, name="leaf-queues", daemon=True)
        self._thread.start()

    def sweep(self) -> None:
        """Give every class that has none a leaf. Raises `CommandError`."""
        for name in self._packets:
            words = run(["tc", "class", "show", "dev", name])
            self._graft([(name, handle) for handle in _BARE_CLASS.findall(words)])

    def stop(self) -> None:
        """The leaves stay; new classes get the kernel's default from now on."""
        os.close(self._waker)
        self._thread.join()
        self._events.close()
        os.close(self._wake)

    def _keep(self) -> None:
        while True:
            ready = select.select([self._events.fileno(), self._wake], [], [])[0]
            if self._wake in ready:
                return
            try:
                self._graft([c for d in self._datagrams() for c in self._bare_classes(d)])
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.sweep()  # messages were lost: look for ourselves
            except CommandError as error:
                # A class may be gone again before its leaf comes.
                print(f"leaf queue: {error}", flush=True)

    def _datagrams(self) -> Iterator[bytes]:
        """All that wait: a slice makes a class on every port, and one `tc` takes them all."""
        yield self._events.recv(_RECEIVE_BYTES)
        while select.select([self._events.fileno()], [], [], _GATHER_S)[0]:
            yield self._events.recv(_RECEIVE_BYTES)

    def _bare_classes(self, datagram: bytes) -> list[tuple[str, str]]:
        """The root class holds classes, no frames, and needs no leaf."""
        return [
            (self._names[c.interface_index], f"1:{c.handle & 0xFFFF:x}")
            for c in new_classes(datagram)
            if c.interface_index in self._names
            and c.leaf_handle == 0
            and c.parent != rtnetlink.NO_PARENT
        ]

    def _graft(self, classes: Sequence[tuple[str, str]]) -> None:
        lines = [
            f"qdisc replace dev {name} parent {handle} pfifo_head_drop limit {self._packets[name]}"
            for name, handle in classes
        ]
        if lines:
            run(["tc", "-force", "-batch", "-"], stdin="\n".join(lines) + "\n")

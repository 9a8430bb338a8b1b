"""Reading many datagrams at once, with the kernel's own arrival times.

`recvmmsg` fills one arena; numpy then reads headers and time stamps of the whole
batch in place, so a packet costs a fraction of a microsecond of Python.
"""

from __future__ import annotations

import ctypes
import os
import socket
from dataclasses import dataclass
from errno import EAGAIN, ECONNREFUSED

import numpy as np
import numpy.typing as npt

from topologies.traffic.host_sockets import SO_TIMESTAMPNS
from topologies.traffic.payload import HEADER_DTYPE

_CONTROL_BYTES = 64
_MMSGHDR = np.dtype(
    [
        ("name", "<u8"),
        ("name_bytes", "<u4"),
        ("pad1", "<u4"),
        ("iov", "<u8"),
        ("iov_count", "<u8"),
        ("control", "<u8"),
        ("control_bytes", "<u8"),
        ("flags", "<i4"),
        ("pad2", "<u4"),
        ("length", "<u4"),
        ("pad3", "<u4"),
    ]
)
"""struct mmsghdr of 64-bit Linux."""
_IOVEC = np.dtype([("base", "<u8"), ("length", "<u8")])
_STAMP_CONTROL = np.dtype(
    [("length", "<u8"), ("level", "<i4"), ("type", "<i4"), ("s", "<i8"), ("ns", "<i8")]
)
"""The SO_TIMESTAMPNS control message, which the kernel always puts first."""
_libc = ctypes.CDLL(None, use_errno=True)

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Datagrams:
    """A batch: arrays of equal length; `header` is a view that the next batch overwrites."""

    socket_index: Int64Array
    header: npt.NDArray[np.void]
    payload_bytes: Int64Array
    received_ns: Int64Array
    """CLOCK_REALTIME at which the kernel received it; 0 when it did not say."""


def ask_for_timestamps(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


class DatagramReader:
    """An arena of `slots` datagrams. `read` sockets, then `take` the batch."""

    def __init__(self, slots: int = 4096) -> None:
        self._slots = slots
        self._data = np.zeros(slots, dtype=HEADER_DTYPE)
        self._control = np.zeros((slots, _CONTROL_BYTES), dtype=np.uint8)
        self._iov = np.zeros(slots, dtype=_IOVEC)
        self._messages = np.zeros(slots, dtype=_MMSGHDR)
        index = np.arange(slots, dtype=np.uint64)
        self._iov["base"] = self._data.ctypes.data + index * np.uint64(HEADER_DTYPE.itemsize)
        self._iov["length"] = HEADER_DTYPE.itemsize
        self._messages["iov"] = self._iov.ctypes.data + index * np.uint64(_IOVEC.itemsize)
        self._messages["iov_count"] = 1
        self._messages["control"] = self._control.ctypes.data + index * np.uint64(_CONTROL_BYTES)
        self._messages["control_bytes"] = _CONTROL_BYTES
        self._address = self._messages.ctypes.data
        self._used = 0
        self._sources: list[tuple[int, int]] = []

    def read(self, descriptor: int, socket_index: int) -> bool:
        """Drain the socket into the arena; False when the arena filled up before it was empty."""
        while self._used < self._slots:
            wanted = min(1024, self._slots - self._used)
            got = _libc.recvmmsg(
                descriptor,
                ctypes.c_void_p(self._address + self._used * _MMSGHDR.itemsize),
                wanted,
                # MSG_TRUNC: the true length, although only the header is copied.
                socket.MSG_DONTWAIT | socket.MSG_TRUNC,
                None,
            )
            if got < 0:
                code = ctypes.get_errno()
                if code == ECONNREFUSED:  # tells of a packet sent from here; nothing was read
                    continue
                if code == EAGAIN:
                    return True
                raise OSError(code, f"recvmmsg: {os.strerror(code)}")
            self._used += got
            self._sources.append((socket_index, got))
            if got < wanted:
                return True
        return False

    def take(self) -> Datagrams | None:
        """Everything read since the last `take`; None when that is nothing."""
        count = self._used
        if count == 0:
            return None
        messages = self._messages[:count]
        control = np.ascontiguousarray(self._control[:count, : _STAMP_CONTROL.itemsize])
        stamps = control.view(_STAMP_CONTROL)[:, 0]
        told = (messages["control_bytes"] >= _STAMP_CONTROL.itemsize) & (
            stamps["type"] == SO_TIMESTAMPNS
        )
        received_ns = np.where(told, stamps["s"] * 1_000_000_000 + stamps["ns"], 0)
        indices, counts = zip(*self._sources, strict=True)
        batch = Datagrams(
            socket_index=np.repeat(np.array(indices, dtype=np.int64), counts),
            header=self._data[:count],
            payload_bytes=messages["length"].astype(np.int64),
            received_ns=received_ns.astype(np.int64),
        )
        messages["control_bytes"] = _CONTROL_BYTES
        self._used = 0
        self._sources.clear()
        return batch

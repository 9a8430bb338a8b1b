"""Shared-memory table of what every flow sent and received, since start and per 1 s window.

Senders write the `sent` half, receivers the `received` half, user agents and the
engine read; no locks, because every word has one writer and is 8-byte aligned.
A window is a second of scenario time, and a packet counts in the window in which it
was *sent*, by both halves (the payload carries the sender's clock).  JSON beside the
table names the flows.  Nothing here opens a socket.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

MAGIC = 0x484F4C4F4E464C31
WINDOW_NS = 1_000_000_000
DEFAULT_WINDOWS = 1024
"""Ring length in windows (seconds) of the per-window arrays."""
_HEADER_BYTES = 4096
_HEADER = np.dtype(
    [("magic", "<u8"), ("t0_ns", "<i8"), ("flow_count", "<i8"), ("window_count", "<i8")]
)

TOTALS = np.dtype(
    [
        ("sent_packets", "<i8"),  # attempted, host drops included
        ("sent_bytes", "<i8"),  # L2
        ("host_drops", "<i8"),  # refused by the sending host's kernel
        ("sent_updated_ns", "<i8"),  # until when the sent counters are complete
        ("received_packets", "<i8"),
        ("received_bytes", "<i8"),  # L2
        ("highest_seq", "<i8"),  # sequence numbers start at 1
        ("socket_drops", "<i8"),  # receiving socket's buffer was full
        (
            "wrong_slice",
            "<i8",
        ),  # payload of another slice or flow came out of this socket
        ("received_updated_ns", "<i8"),  # until when the received counters are complete
        ("owd_p95_ms", "<f8"),  # of the last 500 ms; NaN without packets
    ]
)
"""One row a flow. Received minus sent differences over a period should be divided by the
difference of the matching `*_updated_ns`, because both halves are flushed every few ms."""

_WINDOW_FIELDS = ("window", "packets", "bytes")

Int64Array = npt.NDArray[np.int64]


class FlowCounters:
    """The table of one run; `totals` is a structured array of dtype `TOTALS`, a row per flow.

    `flows` is the metadata given to `create`: one dict a flow, index = flow id.
    """

    def __init__(self, path: Path, flows: Sequence[Mapping[str, Any]], map_: mmap.mmap) -> None:
        self.path = path
        self.flows = list(flows)
        self._map = map_
        self._header = np.frombuffer(map_, dtype=_HEADER, count=1)
        flow_count = int(self._header["flow_count"][0])
        self.window_count = int(self._header["window_count"][0])
        self.totals = np.frombuffer(map_, dtype=TOTALS, count=flow_count, offset=_HEADER_BYTES)
        offset = _HEADER_BYTES + flow_count * TOTALS.itemsize
        self._windows: dict[str, dict[str, Int64Array]] = {}
        for half in ("sent", "received"):
            self._windows[half] = {}
            for name in _WINDOW_FIELDS:
                cells = flow_count * self.window_count
                view = np.frombuffer(map_, dtype=np.int64, count=cells, offset=offset)
                self._windows[half][name] = view.reshape(flow_count, self.window_count)
                offset += cells * 8

    @classmethod
    def create(
        cls,
        path: Path,
        flows: Sequence[Mapping[str, Any]],
        window_count: int = DEFAULT_WINDOWS,
    ) -> FlowCounters:
        """Make the table at `path` (replacing one) and `path` + ".json" with the flows."""
        size = _table_bytes(len(flows), window_count)
        fresh = path.with_name(path.name + ".new")
        with open(fresh, "wb") as file:
            file.truncate(size)
        with open(fresh, "r+b") as file:
            map_ = mmap.mmap(file.fileno(), size)
        header = np.frombuffer(map_, dtype=_HEADER, count=1)
        header["magic"], header["t0_ns"] = MAGIC, 0
        header["flow_count"], header["window_count"] = len(flows), window_count
        metadata_path(path).write_bytes(orjson.dumps(list(flows)))
        os.replace(fresh, path)
        counters = cls(path, flows, map_)
        counters.reset()
        return counters

    @classmethod
    def open(cls, path: Path) -> FlowCounters:
        """Map an existing table read-write; ValueError when it is not one."""
        size = path.stat().st_size
        with open(path, "r+b") as file:
            map_ = mmap.mmap(file.fileno(), size)
        header = np.frombuffer(map_, dtype=_HEADER, count=1)
        flows = orjson.loads(metadata_path(path).read_bytes())
        expected = _table_bytes(int(header["flow_count"][0]), int(header["window_count"][0]))
        if int(header["magic"][0]) != MAGIC or size != expected:
            raise ValueError(f"{path} is not a flow counter table")
        return cls(path, flows, map_)

    @property
    def t0_ns(self) -> int:
        """CLOCK_REALTIME of scenario time 0; 0 before traffic starts."""
        return int(self._header["t0_ns"][0])

    @t0_ns.setter
    def t0_ns(self, value: int) -> None:
        self._header["t0_ns"] = value

    def reset(self) -> None:
        """Zero every counter and window; only while nobody writes."""
        self.totals[:] = np.zeros(len(self.totals), dtype=TOTALS)
        self.totals["owd_p95_ms"] = np.nan
        for half in self._windows.values():
            half["window"][:] = -1
            half["packets"][:] = 0
            half["bytes"][:] = 0

    def snapshot(self) -> npt.NDArray[np.void]:
        """A copy of `totals`, for differences between two moments."""
        return self.totals.copy()

    def add_to_windows(
        self,
        half: str,
        flow_ids: Int64Array,
        windows: Int64Array,
        packets: Int64Array,
        l2_bytes: Int64Array,
    ) -> None:
        """Add to (flow, window) pairs, which must be distinct; `half` is sent or received.

        A slot that still holds an older window starts again from zero.
        """
        table = self._windows[half]
        slots = windows % self.window_count
        stale = table["window"][flow_ids, slots] != windows
        if stale.any():
            where = (flow_ids[stale], slots[stale])
            table["packets"][where] = 0
            table["bytes"][where] = 0
            table["window"][where] = windows[stale]
        table["packets"][flow_ids, slots] += packets
        table["bytes"][flow_ids, slots] += l2_bytes

    def windows(self, half: str, first: int, count: int) -> tuple[Int64Array, Int64Array]:
        """(packets, L2 bytes), each [flow, count], of windows first..first+count-1.

        ValueError when more windows are asked for than the ring keeps.
        """
        if count > self.window_count:
            raise ValueError(f"{count} windows asked for, the ring keeps {self.window_count}")
        table = self._windows[half]
        wanted = np.arange(first, first + count, dtype=np.int64)
        slots = wanted % self.window_count
        current = table["window"][:, slots] == wanted
        packets: Int64Array = np.where(current, table["packets"][:, slots], 0)
        l2_bytes: Int64Array = np.where(current, table["bytes"][:, slots], 0)
        return packets, l2_bytes


def metadata_path(path: Path) -> Path:
    """Where the flows of the table at `path` are described."""
    return path.with_name(path.name + ".json")


def window_of(sent_ns: int, t0_ns: int) -> int:
    """Number of the 1 s window of scenario time in which a packet was sent."""
    return (sent_ns - t0_ns) // WINDOW_NS


def _table_bytes(flow_count: int, window_count: int) -> int:
    window_tables = 2 * len(_WINDOW_FIELDS) * flow_count * window_count * 8
    return _HEADER_BYTES + flow_count * TOTALS.itemsize + window_tables

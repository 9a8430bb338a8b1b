"""Every measured packet's delay, kept in a ring: flow, sequence, sent, one-way delay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Arrays of equal length, ordered by arrival."""

    flow_id: npt.NDArray[np.uint16]
    sequence: npt.NDArray[np.uint32]
    sent_ns: Int64Array
    owd_ns: Int64Array

    def __len__(self) -> int:
        return len(self.flow_id)

    def where(self, keep: npt.NDArray[np.bool_]) -> Samples:
        return Samples(
            self.flow_id[keep],
            self.sequence[keep],
            self.sent_ns[keep],
            self.owd_ns[keep],
        )

    def save(self, path: Path) -> None:
        np.savez(
            path,
            flow_id=self.flow_id,
            sequence=self.sequence,
            sent_ns=self.sent_ns,
            owd_ns=self.owd_ns,
        )

    @classmethod
    def load(cls, path: Path) -> Samples:
        with np.load(path) as stored:
            return cls(
                stored["flow_id"],
                stored["sequence"],
                stored["sent_ns"],
                stored["owd_ns"],
            )


class SampleRing:
    """The last `capacity` samples; memory is touched only as far as it is used."""

    def __init__(self, capacity: int = 3_000_000) -> None:
        self._capacity = capacity
        self._flow_id = np.zeros(capacity, dtype=np.uint16)
        self._sequence = np.zeros(capacity, dtype=np.uint32)
        self._sent_ns = np.zeros(capacity, dtype=np.int64)
        self._owd_ns = np.zeros(capacity, dtype=np.int64)
        self.count = 0
        """Samples ever added."""

    def add(
        self,
        flow_id: Int64Array,
        sequence: Int64Array,
        sent_ns: Int64Array,
        owd_ns: Int64Array,
    ) -> None:
        slots = (self.count + np.arange(len(flow_id))) % self._capacity
        self._flow_id[slots] = flow_id
        self._sequence[slots] = sequence
        self._sent_ns[slots] = sent_ns
        self._owd_ns[slots] = owd_ns
        self.count += len(flow_id)

    def since_count(self, count: int) -> Samples:
        """Samples added since `count` had been added (as far as the ring goes back)."""
        last = self.count
        first = max(count, last - self._capacity, 0)
        slots = np.arange(first, last) % self._capacity
        return Samples(
            self._flow_id[slots],
            self._sequence[slots],
            self._sent_ns[slots],
            self._owd_ns[slots],
        )

    def between(self, since_ns: int, until_ns: int) -> Samples:
        """Samples sent in [since, until); ValueError when the ring has overwritten some."""
        everything = self.since_count(0)
        if self.count > self._capacity and int(everything.sent_ns[0]) > since_ns:
            raise ValueError(
                f"delay samples older than {everything.sent_ns[0]} ns are overwritten; "
                f"the ring keeps {self._capacity}"
            )
        return everything.where((everything.sent_ns >= since_ns) & (everything.sent_ns < until_ns))

    def clear(self) -> None:
        self.count = 0

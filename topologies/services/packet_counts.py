"""Requests and replies as the hosts counted them, for the packet balance.

An instance counts in shared memory, a file each of service and host: the counts outlive its
process, so instances that were moved away or killed still stand in the sum.  Hosts
and not switches: when a service moves, Open vSwitch credits what it forwarded since it last
revalidated to the rules that hold now, so the switches count some requests twice or never.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from controller.contracts.run_folder import RunFolder

_SENT, _RECEIVED = 0, 1
_FILE_BYTES = 16


@dataclass(frozen=True)
class Datagrams:
    """Handed to the kernel by senders, and taken from it by receivers; a packet each."""

    sent: int = 0
    received: int = 0

    def __add__(self, other: Datagrams) -> Datagrams:
        return Datagrams(self.sent + other.sent, self.received + other.received)


class PacketCounts:
    """One instance's. One process writes at a time; anybody may read."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _FILE_BYTES)
            self._memory = mmap.mmap(descriptor, _FILE_BYTES)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._memory).cast("Q")

    def count_sent(self) -> None:
        self._words[_SENT] += 1

    def count_received(self) -> None:
        self._words[_RECEIVED] += 1

    def total(self) -> Datagrams:
        """Since the run began."""
        return Datagrams(self._words[_SENT], self._words[_RECEIVED])

    def close(self) -> None:
        self._words.release()
        self._memory.close()


def counts_path(run: RunFolder, service: str, host: str) -> Path:
    return run.path / f"service-{service}-{host}.packets"

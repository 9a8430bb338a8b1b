"""Service instances: who may serve (the lease), where they are called, what they answer.

A service has instances in several servers and exactly one that may answer.  Which
one is said by the service's lease: one 64-bit word (epoch, host) in shared memory.
An instance serves only while the word is its own, so an old instance refuses by
itself, whoever was killed in between; a move is one compare-and-swap of the word.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from controller.contracts.run_folder import RunFolder

if TYPE_CHECKING:  # instances are started in the middle of a run and have no use for schemas
    from controller.contracts.inventory import Inventory, Service

TRANSFER_TCP_PORT_BASE = 5800
"""In slice 0, one port a service: where an instance takes another's state."""
_WORD_BYTES = 8
_HOST_BITS = 16


class Phase(StrEnum):
    STANDBY = "standby"
    """Runs and may receive state; may not answer requests."""
    LIVE = "live"
    FROZEN = "frozen"
    """Its state no longer changes; requests wait."""
    RETIRED = "retired"
    """Another holds the lease; passes late requests on."""


@dataclass(frozen=True)
class Holder:
    """What a lease's word says: since which epoch which host (index in the inventory) serves."""

    epoch: int
    host_index: int

    @property
    def word(self) -> int:
        return self.epoch << _HOST_BITS | self.host_index

    @classmethod
    def of(cls, word: int) -> Holder:
        return cls(word >> _HOST_BITS, word & (1 << _HOST_BITS) - 1)


class Lease:
    """A service's lease. Reading is one aligned load; changing takes the file's lock."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._descriptor, _WORD_BYTES)
        self._words = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls, path: Path, holder: Holder) -> Lease:
        """Raises `FileExistsError`: a lease is made once a run."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, holder.word.to_bytes(_WORD_BYTES, "little"))
        finally:
            os.close(descriptor)
        return cls(path)

    def holder(self) -> Holder:
        return Holder.of(self._words[0])

    def swap(self, expected: Holder, new: Holder) -> bool:
        """Whether the word was `expected` and is `new` now; a killed caller leaves no lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if self._words[0] != expected.word:
                return False
            self._words[0] = new.word
            return True
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self._descriptor)


def lease_path(run: RunFolder, service: str) -> Path:
    return run.path / f"service-{service}.lease"


def instance_socket(run: RunFolder, service: str, host: str) -> Path:
    """Control of one instance: ops status, copy, switch_over, serving."""
    return run.path / f"service-{service}-{host}.sock"


def host_index(inventory: Inventory, host: str) -> int:
    return [h.name for h in inventory.hosts].index(host)


def transfer_tcp_port(inventory: Inventory, service: str) -> int:
    return TRANSFER_TCP_PORT_BASE + [s.name for s in inventory.services].index(service)


def infrastructure_ip(inventory: Inventory, host: str) -> str:
    """The host's own address in slice 0, over which state travels."""
    return next(a.ip for a in inventory.host(host).addresses if a.slice_id == 0)


def task_services(inventory: Inventory) -> list[Service]:
    """Services that are processes with state; the others are addresses of senders."""
    return [s for s in inventory.services if s.kind == "task"]

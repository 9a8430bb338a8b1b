"""What an instance of a task service is told at its start.

Taken from the inventory by who starts it: an instance starts in the middle of a run, where
loading the inventory's schema would cost it, and everybody beside it, more processor time
than the rest of its start.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from controller.contracts.services import host_index, infrastructure_ip, transfer_tcp_port

if TYPE_CHECKING:
    from controller.contracts.inventory import Inventory


@dataclass(frozen=True)
class InstanceOrder:
    """Where it listens and what it holds; fields that `Service` has, too, mean the same."""

    address: str
    port: int
    state_bytes: int
    pages_per_request: int
    work_ms: float
    transfer_mbps: float | None
    local_ip: str
    """Of its host in slice 0, over which state travels."""
    transfer_tcp_port: int
    host_index: int
    sessions: int

    @classmethod
    def of(cls, inventory: Inventory, name: str, host: str) -> InstanceOrder:
        service = next(s for s in inventory.services if s.name == name)
        return cls(
            address=service.address,
            port=service.port,
            state_bytes=service.state_bytes,
            pages_per_request=service.pages_per_request,
            work_ms=service.work_ms,
            transfer_mbps=service.transfer_mbps,
            local_ip=infrastructure_ip(inventory, host),
            transfer_tcp_port=transfer_tcp_port(inventory, name),
            host_index=host_index(inventory, host),
            sessions=len(inventory.users),
        )

    def written(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> InstanceOrder:
        """Raises `TypeError` for fields that are not these."""
        return cls(**json.loads(text))

"""What a change would do: flows, meters and queues between two states of the network. Pure.

Every command that changes the network shows its `--dry-run` by `network_diff`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.contracts.queue_tree import QueueRates
from controller.network_state import NetworkState
from controller.network_view import Network
from controller.queues import QueuesByInterface, queue_rates
from controller.reconcile import Change, difference
from controller.rules import compile_network
from controller.switch_program import SwitchProgram


@dataclass(frozen=True)
class Side:
    """One state of the network, as programs of switches and queues of ports."""

    network: Network
    state: NetworkState
    programs: Mapping[str, SwitchProgram]
    queues: QueuesByInterface

    @classmethod
    def of(cls, network: Network, state: NetworkState) -> Side:
        programs = compile_network(network, state)
        return cls(network, state, programs, queue_rates(network, state))


def switch_changes(before: Side, after: Side) -> dict[str, Change]:
    """Switch -> what turns it from one side into the other; only switches that differ."""
    found = {n: difference(before.programs[n], p) for n, p in after.programs.items()}
    return {name: change for name, change in found.items() if not change.is_empty}


def queue_changes(before: QueuesByInterface, after: QueuesByInterface) -> dict[str, Any]:
    """Interface -> queue id -> {before, after}, None where there is no queue; what differs."""
    found: dict[str, Any] = {}
    for interface, new in after.items():
        old = before.get(interface, {})
        differing = {
            str(i): {"before": rates_json(old.get(i)), "after": rates_json(new.get(i))}
            for i in sorted({*old, *new})
            if old.get(i) != new.get(i)
        }
        if differing:
            found[interface] = differing
    return found


def network_diff(before: Side, after: Side) -> dict[str, Any]:
    """{flows: {switch: ...}, meters: {switch: ...}, queues: {interface: ...}}."""
    return described(switch_changes(before, after), before, after)


def described(changes: Mapping[str, Change], before: Side, after: Side) -> dict[str, Any]:
    """`network_diff` of changes that are known already."""
    return Change.diff(changes.values(), queue_changes(before.queues, after.queues))


def rates_json(rates: QueueRates | None) -> dict[str, int] | None:
    if rates is None:
        return None
    return {
        "min_kbps": rates.min_kbps,
        "max_kbps": rates.max_kbps,
        "priority": rates.priority,
    }

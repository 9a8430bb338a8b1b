"""The program of a switch: inventory and state in, flows and meters out. Pure.

Rules grow as users × switches on their path plus slices × switches, never users².
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from controller.egress import egress_rules
from controller.errors import NetworkDescriptionError
from controller.failover import detour_rules, groups
from controller.forwarding import forward
from controller.function_chain import chain_rules
from controller.ip_versions import IP_VERSIONS
from controller.metering import slice_meters, user_meters
from controller.network_state import NetworkState
from controller.network_view import Network
from controller.pipeline import (
    ISOLATION,
    USER_METER,
    MatchFields,
    matched,
    miss_rules,
    of_slice,
    rule,
)
from controller.port_security import classify, port_security
from controller.switch_program import Flow, FlowKey, Kind, SwitchProgram


def compile_switch(network: Network, state: NetworkState, switch: str) -> SwitchProgram:
    """Everything `switch` should carry. Raises `NetworkDescriptionError`."""
    user_flows, user_limits = user_meters(network, state, switch)
    flows = [
        *_standing(network, switch),
        *user_flows,
        *forward(network, state, switch),
        *chain_rules(network, state, switch),
    ]
    return SwitchProgram(
        switch=switch,
        flows=_by_key(switch, flows),
        meters={**slice_meters(network, state, switch), **user_limits},
        groups=groups(network, switch),
    )


@lru_cache(maxsize=64)
def _standing(network: Network, switch: str) -> tuple[Flow, ...]:
    """The part that lives as long as the network's slices do, whoever is where."""
    return (
        *miss_rules(),
        *port_security(network, switch),
        *classify(network, switch),
        *isolation(network),
        *detour_rules(network, switch),
        *egress_rules(network, switch),
    )


def compile_attachments(network: Network, state: NetworkState, switch: str) -> SwitchProgram:
    """Only the part of the program that depends on where users are: what a handover changes."""
    user_flows, user_limits = user_meters(network, state, switch)
    flows = [
        *user_flows,
        *forward(network, state, switch),
        *chain_rules(network, state, switch),
    ]
    return SwitchProgram(switch, _by_key(switch, flows), user_limits)


def compile_network(
    network: Network, state: NetworkState, switches: Iterable[str] | None = None
) -> dict[str, SwitchProgram]:
    """Programs of the switches named, all by default."""
    names = network.switches if switches is None else switches
    return {name: compile_switch(network, state, name) for name in names}


@lru_cache(maxsize=4)
def isolation(network: Network) -> tuple[Flow, ...]:
    """Table 2: one rule a slice and IP version; one foot outside is dropped and counted."""
    return tuple(_isolation(network))


def _isolation(network: Network) -> Iterator[Flow]:
    for slice_id in network.slice_ids:
        here: MatchFields = {"metadata": matched(of_slice(slice_id))}
        for version in IP_VERSIONS:
            from_inside, to_inside = (
                version.sent_from_slice(slice_id),
                version.sent_to_slice(slice_id),
            )
            yield rule(ISOLATION, 200, {**here, **from_inside, **to_inside}, goto=USER_METER)
        yield rule(ISOLATION, 100, here, kind=Kind.VIOLATION, slice_id=slice_id)


def _by_key(switch: str, flows: Iterable[Flow]) -> dict[FlowKey, Flow]:
    by_key: dict[FlowKey, Flow] = {}
    for flow in flows:
        there = by_key.setdefault(flow.key, flow)
        if there is not flow and there != flow:
            raise NetworkDescriptionError(
                f"switch {switch}: two rules for table {flow.table_id}, {dict(flow.match)}"
            )
    return by_key

"""Steering a service's traffic through a network function: user -> function -> service.

One direction: what users send to the service's address.  On the function's switch all
of it goes to the function; what comes back from the function's port goes on to the
service.  The other switches only see to it that nothing reaches the service past the
function.  Not counted as entering or delivered: the packet is in the slice already.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.contracts.addressing import GATEWAY_MAC, slice_prefix
from controller.contracts.inventory import Host, Service, SwitchRole
from controller.ip_versions import IP_VERSIONS
from controller.network_state import ChainedFunction, NetworkState
from controller.network_view import Network
from controller.pipeline import (
    CLASSIFY,
    EGRESS,
    FORWARD,
    IPV4,
    PORT_SECURITY,
    MatchFields,
    both,
    egress,
    from_edge,
    matched,
    of_slice,
    rule,
)
from controller.switch_program import Flow, Kind

_TO_FUNCTION, _TO_SERVICE = 500, 600
"""Above every path of table 4 that knows no function."""


def chain_rules(network: Network, state: NetworkState, switch: str) -> Iterator[Flow]:
    """Tables 0, 4 and 5 of one switch, for every function."""
    services = {s.name: s for s in network.inventory.services}
    for function in state.functions.values():
        service = services[function.service]
        for name in dict.fromkeys(filter(None, [function.host, function.draining])):
            host = network.hosts[name]
            if host.switch == switch:
                yield _back_from(host, service)
                yield _handed_to(host, service)
        yield from _steered(network, state, switch, function, service)


def order(network: Network, function: ChainedFunction, service_host: str) -> list[str]:
    """Switches in which placing changes rules without a moment in which packets are lost."""
    at_function = network.hosts[function.host].switch
    at_service = network.hosts[service_host].switch
    before = [network.hosts[function.draining].switch] if function.draining else []
    return list(dict.fromkeys([at_function, network.core, at_service, *before]))


def _back_from(host: Host, service: Service) -> Flow:
    """A function may send what it was given: the slice's senders, this service only. Its
    DSCP is trusted as between switches; isolation then holds it to the slice."""
    first, _, _ = slice_prefix(service.slice_id).partition("/")
    match: MatchFields = {
        "in_port": host.port_no,
        "eth_src": host.mac,
        "eth_type": IPV4,
        "ipv4_src": f"{first}/255.255.0.0",
        "ipv4_dst": service.address,
    }
    return rule(PORT_SECURITY, 350, match, write=from_edge(False), goto=CLASSIFY)


def _handed_to(host: Host, service: Service) -> Flow:
    here = both(egress(host.port_no), of_slice(service.slice_id))
    actions = [
        ("set_field", "eth_src", GATEWAY_MAC),
        ("set_field", "eth_dst", host.mac),
        ("output", host.port_no),
    ]
    return rule(EGRESS, 100, {"metadata": matched(here)}, actions=actions)


def _steered(
    network: Network,
    state: NetworkState,
    switch: str,
    function: ChainedFunction,
    service: Service,
) -> Iterator[Flow]:
    at, target = network.hosts[function.host], network.hosts[state.service_host(service)]
    passed: list[int] = []
    """Ports from which packets come that have passed the function."""
    if function.draining and network.hosts[function.draining].switch == switch:
        passed.append(network.hosts[function.draining].port_no)
    towards_function: int | None = None
    if switch == at.switch:
        passed.append(at.port_no)
        towards_function = at.port_no
    elif switch == network.core:
        towards_function = network.cells_of_switch[at.switch][0].core_port
        if target.switch != at.switch:
            passed.append(towards_function)
    elif switch == target.switch:
        up_port = network.cells_of_switch[switch][0].up_port
        passed.append(up_port)
        towards_function = up_port
    match: MatchFields = {"eth_type": IPV4, "ipv4_dst": service.address}
    for port_no in passed:
        from_there: MatchFields = {**match, "in_port": port_no}
        onward = egress(_onward(network, switch, target))
        yield rule(FORWARD, _TO_SERVICE, from_there, write=onward, goto=EGRESS)
    if towards_function is not None:
        yield rule(FORWARD, _TO_FUNCTION, match, write=egress(towards_function), goto=EGRESS)
        # The function speaks IPv4 only: the other version must not find a way past it.
        other = IP_VERSIONS[1].sent_to(service.address)
        yield rule(FORWARD, _TO_SERVICE, other, kind=Kind.MISS, slice_id=service.slice_id)


def _onward(network: Network, switch: str, target: Host) -> int:
    if target.switch == switch:
        return target.port_no
    if network.switches[switch].role is SwitchRole.CORE:
        return network.cells_of_switch[target.switch][0].core_port
    return network.cells_of_switch[switch][0].up_port

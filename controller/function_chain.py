"""Steering a service's traffic through a network function, both ways, both IP versions.

Requests (to the service's address): on the function's switch all of it goes to the
function, on the core and on the service's switch too; what comes from where the
function is has passed it and goes on to the service.

Answers (from the service's address) begin at one port, the service's host's: on their
way from there to the function they are told by the port they come by; once they have
passed it, no rule here knows them and the paths of users apply.

Not counted as entering or delivered: the packet is in the slice already.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.contracts.addressing import GATEWAY_MAC
from controller.contracts.inventory import Host, Service, SwitchRole
from controller.ip_versions import IP_VERSIONS
from controller.network_state import ChainedFunction, NetworkState
from controller.network_view import Network
from controller.pipeline import (
    CLASSIFY,
    EGRESS,
    FORWARD,
    PORT_SECURITY,
    USER_METER,
    MatchFields,
    both,
    egress,
    from_edge,
    matched,
    of_slice,
    rule,
)
from controller.switch_program import Flow

_TO_FUNCTION, _ANSWERS, _TO_SERVICE = 500, 510, 600
"""Above every path of table 4 that knows no function."""
_UNMETERED = 200


def chain_rules(network: Network, state: NetworkState, switch: str) -> Iterator[Flow]:
    """Tables 0, 3, 4 and 5 of one switch, for every function."""
    services = {s.name: s for s in network.inventory.services}
    for function in state.functions.values():
        service = services[function.service]
        for name in dict.fromkeys(filter(None, [function.host, function.draining])):
            host = network.hosts[name]
            if host.switch == switch:
                yield from _back_from(host, service)
                yield _handed_to(host, service)
        yield from _requests(network, state, switch, function, service)
        yield from _answers(network, state, switch, function, service)


def order(network: Network, function: ChainedFunction, service_host: str) -> list[str]:
    """Switches in which placing changes rules without a moment in which packets are lost, or,
    when it moves, go past it; what is under way meets one change at most (see `Functions`)."""
    at_function = network.hosts[function.host].switch
    at_service = network.hosts[service_host].switch
    before = [network.hosts[function.draining].switch] if function.draining else []
    return list(dict.fromkeys([at_function, network.core, at_service, *before]))


def _back_from(host: Host, service: Service) -> Iterator[Flow]:
    """A function may send what it was given: between the slice and this service only. Its
    DSCP is trusted as between switches; isolation then holds it to the slice."""
    own: MatchFields = {"in_port": host.port_no, "eth_src": host.mac}
    for version in IP_VERSIONS:
        from_slice = version.sent_from_slice(service.slice_id)
        to_slice = version.sent_to_slice(service.slice_id)
        for priority, ends in (
            (350, {**from_slice, **version.sent_to(service.address)}),
            (360, {**to_slice, **version.sent_by(service.address)}),
        ):
            match = {**own, **ends}
            yield rule(PORT_SECURITY, priority, match, write=from_edge(False), goto=CLASSIFY)


def _handed_to(host: Host, service: Service) -> Flow:
    here = both(egress(host.port_no), of_slice(service.slice_id))
    actions = [
        ("set_field", "eth_src", GATEWAY_MAC),
        ("set_field", "eth_dst", host.mac),
        ("output", host.port_no),
    ]
    return rule(EGRESS, 100, {"metadata": matched(here)}, actions=actions)


def _requests(
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
    for version in IP_VERSIONS:
        match = version.sent_to(service.address)
        for port_no in passed:
            from_there: MatchFields = {**match, "in_port": port_no}
            onward = egress(_port_towards(network, switch, target))
            yield rule(FORWARD, _TO_SERVICE, from_there, write=onward, goto=EGRESS)
        if towards_function is not None:
            onward = egress(towards_function)
            yield rule(FORWARD, _TO_FUNCTION, match, write=onward, goto=EGRESS)


def _answers(
    network: Network,
    state: NetworkState,
    switch: str,
    function: ChainedFunction,
    service: Service,
) -> Iterator[Flow]:
    at, target = network.hosts[function.host], network.hosts[state.service_host(service)]
    for in_port, out_port in _unpassed(network, switch, at, target).items():
        for version in IP_VERSIONS:
            match: MatchFields = {"in_port": in_port, **version.sent_by(service.address)}
            yield rule(FORWARD, _ANSWERS, match, write=egress(out_port), goto=EGRESS)
            # A user's meter counts it when it has passed, and not twice on one switch.
            yield rule(USER_METER, _UNMETERED, match, goto=FORWARD)


def _unpassed(network: Network, switch: str, at: Host, target: Host) -> dict[int, int]:
    """Port by which answers come that have not passed the function yet -> port towards it."""
    if switch == target.switch:
        return {target.port_no: _port_towards(network, switch, at)}
    if at.switch == target.switch:
        return {}
    if switch == network.core:
        from_service = network.cells_of_switch[target.switch][0].core_port
        return {from_service: _port_towards(network, switch, at)}
    if switch == at.switch:
        return {network.cells_of_switch[switch][0].up_port: at.port_no}
    return {}


def _port_towards(network: Network, switch: str, host: Host) -> int:
    if host.switch == switch:
        return host.port_no
    if network.switches[switch].role is SwitchRole.CORE:
        return network.cells_of_switch[host.switch][0].core_port
    return network.cells_of_switch[switch][0].up_port

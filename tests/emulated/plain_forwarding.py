"""Plain forwarding for tests of the network itself: no slices, no controller.

The same paths as the real pipeline (users by their serving cell, everything else
over the core), one rule per destination, the gateway's ARP answered by rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from controller.contracts.addressing import GATEWAY_IP, GATEWAY_MAC
from controller.contracts.inventory import Cell, Host, Inventory, SwitchRole
from topologies.namespaces import run

_ARP_ANSWER = (
    "priority=100,arp,arp_tpa={ip},arp_op=1,actions="
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:{mac}->eth_src,"
    "load:2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],"
    "load:0x{mac_hex}->NXM_NX_ARP_SHA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
    "load:0x{ip_hex}->NXM_OF_ARP_SPA[],in_port"
)


def install(inventory: Inventory, rundir: Path) -> None:
    """Add the rules to every bridge; `rundir` is the OVS_RUNDIR."""
    for switch in inventory.switches:
        rules = "\n".join(_rules(inventory, switch.name, switch.role)) + "\n"
        socket = f"unix:{rundir / (switch.name + '.mgmt')}"
        run(["ovs-ofctl", "-O", "OpenFlow13", "add-flows", socket, "-"], stdin=rules)


def _rules(inventory: Inventory, switch: str, role: SwitchRole) -> Iterator[str]:
    octets = bytes(int(o) for o in GATEWAY_IP.split("."))
    yield _ARP_ANSWER.format(
        ip=GATEWAY_IP,
        ip_hex=octets.hex(),
        mac=GATEWAY_MAC,
        mac_hex=GATEWAY_MAC.replace(":", ""),
    )
    if role == SwitchRole.AIR:
        for host in inventory.hosts:
            if host.switch == switch:
                cell = _cell_of(inventory, host)
                yield f"priority=20,ip,in_port={host.port_no},actions=output:{cell.air_port}"
    for host in inventory.hosts:
        if role == SwitchRole.AIR and host.switch != switch:
            continue  # by the sender's cell, above
        for ip in _ips(inventory, host):
            yield f"priority=30,ip,nw_dst={ip},actions={_actions(inventory, switch, host)}"


def _ips(inventory: Inventory, host: Host) -> list[str]:
    own = [a.ip for a in host.addresses]
    return [*own, *(s.address for s in inventory.services if s.host == host.name)]


def _cell_of(inventory: Inventory, host: Host) -> Cell:
    """Serving cell of a user; the filler's sink is joined to the first cell only here."""
    for user in inventory.users:
        if user.host == host.name:
            return inventory.cell(user.cell_id)
    return inventory.cells[0]


def _actions(inventory: Inventory, switch: str, host: Host) -> str:
    if switch == host.switch:
        return f"set_field:{host.mac}->eth_dst,output:{host.port_no}"
    return f"output:{_next_port(inventory, switch, host)}"


def _next_port(inventory: Inventory, switch: str, host: Host) -> int:
    roles = {s.name: s.role for s in inventory.switches}
    at_air = roles[host.switch] == SwitchRole.AIR
    towards = _cell_of(inventory, host) if at_air else _cell_at(inventory, host.switch)
    if roles[switch] == SwitchRole.CORE:
        assert towards is not None
        return towards.core_port
    here = inventory.cell(switch)
    return here.down_port if at_air and towards == here else here.up_port


def _cell_at(inventory: Inventory, switch: str) -> Cell | None:
    return next((c for c in inventory.cells if c.switch == switch), None)

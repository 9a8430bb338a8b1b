"""The switches' configuration as ovs-vsctl transactions: bridges, ports, queue trees.

Pure: a plan in, arguments out.  Ports keep the numbers of the plan, bridges
their dpids; a port with a rate gets its QoS row here, once, with the fixed
queues, and afterwards only Queue rows of it change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.contracts.inventory import Port, Switch
from controller.contracts.queue_tree import fixed_queues, queue_row
from topologies.plan import Plan
from topologies.polling import creation_batches

CONTROLLER_RATE_PPS = 200
"""PACKET_INs a second at most: a flood must not drown the controller."""

BFD_INTERVAL_MS = 10


def transaction(
    plan: Plan,
    openflow_tcp_port: int,
    reservable_ratio: float,
    slicing: bool,
    datapath_type: str = "netdev",
) -> list[str]:
    """Arguments of one ovs-vsctl call that makes every switch of the plan.

    `datapath_type`: "netdev" (userspace) or "system" (kernel).
    """
    arguments = _bridges(plan, openflow_tcp_port, datapath_type)
    arguments += ["--", *_ports(plan.ports, plan)]
    trees = queue_trees(plan.ports, reservable_ratio, slicing)
    return [*arguments, "--", *trees] if trees else arguments


def transactions_in_order(
    plan: Plan, openflow_tcp_port: int, reservable_ratio: float, slicing: bool
) -> Iterator[list[str]]:
    """The same for the userspace datapath, as several calls: it then looks at the ports in the
    order in which packets pass them."""
    yield _bridges(plan, openflow_tcp_port, "netdev")
    for batch in creation_batches(plan.ports, plan.switches):
        yield _ports(batch, plan)
    yield queue_trees(plan.ports, reservable_ratio, slicing)


def _bridges(plan: Plan, openflow_tcp_port: int, datapath_type: str) -> list[str]:
    arguments: list[str] = []
    for switch in plan.switches:
        for command in _bridge(switch, openflow_tcp_port, datapath_type):
            arguments += ["--", *command]
    return arguments[1:]


def _ports(ports: Sequence[Port], plan: Plan) -> list[str]:
    arguments: list[str] = []
    for port in ports:
        arguments += ["--", *_port(port)]
        if port.interface in plan.watched:
            arguments += ["--", *_bfd(port)]
    return arguments[1:]


def queue_trees(ports: Sequence[Port], reservable_ratio: float, slicing: bool) -> list[str]:
    """Arguments of one ovs-vsctl call that gives these ports their queue trees anew."""
    arguments: list[str] = []
    for port in ports:
        if port.rate_kbps is not None:
            arguments += _qos(port, port.rate_kbps, reservable_ratio, slicing)
    return arguments[1:]


def hands_off(ports: Sequence[Port]) -> list[str]:
    """More arguments: Open vSwitch leaves these ports' qdiscs to somebody else.

    Otherwise it removes, when it starts again, what it finds on a port without QoS.
    """
    arguments = ["--", "--id=@hands_off", "create", "QoS", "type=linux-noop"]
    for port in ports:
        arguments += ["--", "set", "Port", port.interface, "qos=@hands_off"]
    return arguments


def _bridge(switch: Switch, openflow_tcp_port: int, datapath_type: str) -> Iterator[list[str]]:
    name = switch.name
    yield ["add-br", name]
    yield [
        "set", "Bridge", name,
        f"datapath_type={datapath_type}",
        "protocols=OpenFlow13",
        "fail_mode=secure",
        f"other_config:datapath-id={switch.dpid:016x}",
        f"other_config:hwaddr=02:01:00:00:{switch.dpid >> 8:02x}:{switch.dpid & 0xFF:02x}",
        "other_config:disable-in-band=true",
    ]  # fmt: skip
    yield controller_of(name, controller_target(openflow_tcp_port))


def controller_target(openflow_tcp_port: int) -> str:
    return f"tcp:127.0.0.1:{openflow_tcp_port}"


def controller_of(bridge: str, target: str) -> list[str]:
    """Arguments that give a bridge its controller, and no other."""
    return [
        "set-controller", bridge, target,
        "--", "set-fail-mode", bridge, "secure",
        # Back off 1 s at most (8 by default), notice a dead controller within 2 s.
        "--", "set", "Controller", bridge,
        "max_backoff=1000",
        "inactivity_probe=1000",
        "connection_mode=out-of-band",
        f"controller_rate_limit={CONTROLLER_RATE_PPS}",
        f"controller_burst_limit={CONTROLLER_RATE_PPS}",
    ]  # fmt: skip


def _port(port: Port) -> list[str]:
    return [
        "add-port", port.switch, port.interface,
        "--", "set", "Interface", port.interface, f"ofport_request={port.port_no}",
    ]  # fmt: skip


def _bfd(port: Port) -> list[str]:
    """A session with the other end of the wire; silence of three intervals is a failure."""
    return [
        "set", "Interface", port.interface,
        "bfd:enable=true",
        f"bfd:min_tx={BFD_INTERVAL_MS}",
        f"bfd:min_rx={BFD_INTERVAL_MS}",
    ]  # fmt: skip


def _qos(port: Port, rate_kbps: int, reservable_ratio: float, slicing: bool) -> list[str]:
    queues = fixed_queues(rate_kbps, reservable_ratio, slicing)
    reference = f"@qos_{port.interface}"
    arguments = [
        "--", "set", "Port", port.interface, f"qos={reference}",
        "--", f"--id={reference}", "create", "QoS", "type=linux-htb",
        f"other_config:max-rate={rate_kbps * 1000}",
        *(f"queues:{queue_id}={reference}_{queue_id}" for queue_id in queues),
    ]  # fmt: skip
    for queue_id, rates in queues.items():
        columns = [f"other_config:{key}={value}" for key, value in queue_row(rates).items()]
        arguments += ["--", f"--id={reference}_{queue_id}", "create", "Queue", *columns]
    return arguments

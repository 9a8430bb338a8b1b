"""The inventory of what was built: the plan plus the processes that live in the hosts.

This is all that the controller gets to know about the physical space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from controller.contracts.addressing import session_ip
from controller.contracts.inventory import (
    DEVICE,
    Cell,
    CellReservations,
    Host,
    Inventory,
    Reservation,
    Service,
    Session,
    User,
)
from controller.contracts.slices import INFRASTRUCTURE_SLICE_ID, TrafficClass
from topologies.datapath import Datapath
from topologies.errors import EmulationError
from topologies.plan import (
    AIR,
    Plan,
    plan_network,
    service_addresses,
    session_addresses,
)
from topologies.scenario.schema import ReservationSpec, Scenario

Policy = Literal["xapps", "model", "static", "none", "placebo"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
OPENFLOW_TCP_PORT = 6653
"""In the run's own namespace, so it clashes with nobody's."""
_DEFAULT_CEILING_FACTOR = 2.0


def describe(
    scenario: Scenario,
    plan: Plan,
    run_id: str,
    namespace: str,
    policy: Policy,
    pids: Mapping[str, int],
    serving_cell: Mapping[str, str],
    datapath: Datapath = Datapath.USERSPACE,
) -> Inventory:
    """`pids`: host name -> process in it; `serving_cell`: user -> cell at t = 0."""
    return Inventory(
        run_id=run_id,
        scenario=scenario.name,
        seed=scenario.seed,
        policy=policy,
        datapath=datapath.value,
        slicing=scenario.slicing,
        namespace=namespace,
        openflow_tcp_port=OPENFLOW_TCP_PORT,
        northbound_tcp_port=scenario.northbound_port,
        centre_delay_ms=scenario.centre.link.delay_ms,
        switches=plan.switches,
        ports=plan.ports,
        hosts=_hosts(scenario, plan, pids),
        cells=_cells(scenario, plan),
        users=_users(scenario, serving_cell),
        services=_services(scenario),
        slices=scenario.slices,
        bottlenecks=scenario.bottlenecks,
        initial_reservations=_initial(scenario, policy),
        static_reservations=_by_cell(scenario, scenario.static_reservations),
        reservable_ratio=scenario.reservable_ratio,
        handover=scenario.handover,
        twins=scenario.twins,
        xapps=scenario.xapps,
    )


def as_planned(
    scenario: Scenario,
    policy: Policy = "xapps",
    serving_cell: Mapping[str, str] | None = None,
    run_id: str = "planned",
) -> Inventory:
    """The inventory that a scenario would have: nothing is built, so every `pid` is 1.

    `serving_cell`: user -> cell; who is not in it is in the first.
    """
    plan = plan_network(scenario)
    first = scenario.access_points[0].name
    cells = {user.name: first for user in scenario.users} | dict(serving_cell or {})
    pids = {host.name: 1 for host in plan.hosts}
    return describe(scenario, plan, run_id, f"holon-{run_id}", policy, pids, cells)


def _hosts(scenario: Scenario, plan: Plan, pids: Mapping[str, int]) -> list[Host]:
    """In a host's `addresses`: its own; the collector's and the services' are not."""
    memory_bytes = {server.name: server.memory_bytes for server in scenario.servers}
    hosts = []
    for host in plan.hosts:
        port = plan.port_of_host(host.name)
        hosts.append(
            Host(
                name=host.name,
                kind=host.kind,
                pid=pids[host.name],
                interface=host.interface,
                mac=host.mac,
                addresses=list(host.addresses),
                switch=port.switch,
                port_no=port.port_no,
                memory_bytes=memory_bytes.get(host.name),
            )
        )
    return hosts


def _cells(scenario: Scenario, plan: Plan) -> list[Cell]:
    return [
        Cell(
            cell_id=ap.name,
            kind=ap.kind,
            switch=ap.name,
            down_port=plan.port(ap.name, AIR).port_no,
            up_port=plan.port(ap.name, scenario.core).port_no,
            core_port=plan.port(scenario.core, ap.name).port_no,
            air_port=plan.port(AIR, ap.name).port_no,
            edge=ap.edge,
            position_m=ap.position_m,
            down_kbps=round(ap.down_mbps * 1000),
            up_kbps=round(ap.up_mbps * 1000),
        )
        for ap in scenario.access_points
    ]


def _users(scenario: Scenario, serving_cell: Mapping[str, str]) -> list[User]:
    by_id = {s.slice_id: s for s in scenario.slices}
    users = []
    for index, spec in enumerate(scenario.users):
        sessions = [
            Session(slice_id=a.slice_id, s_nssai=by_id[a.slice_id].s_nssai, ip=a.ip)
            for a in session_addresses(scenario, index)
        ]
        users.append(
            User(
                ue_id=spec.name,
                kind=spec.type,
                host=spec.name,
                infrastructure_ip=session_ip(INFRASTRUCTURE_SLICE_ID, index),
                sessions=sessions,
                cell_id=serving_cell[spec.name],
                handover=spec.handover,
                device=spec.own_device,
            )
        )
    return users


def _services(scenario: Scenario) -> list[Service]:
    addresses = service_addresses(scenario)
    return [
        Service(
            name=spec.name,
            slice_id=addresses[spec.name].slice_id,
            address=addresses[spec.name].ip,
            port=spec.port,
            protocol=spec.protocol,
            traffic_class=spec.traffic_class,
            host=spec.host,
            candidates=list(spec.candidates),
            kind=spec.kind,
            state_bytes=spec.state_bytes if spec.kind == "task" else 0,
            work_ms=spec.work_ms,
            pages_per_request=spec.pages_per_request,
            transfer_mbps=spec.transfer_mbps,
            users=_asking(scenario, spec.name),
            places=_places(scenario, spec.name),
        )
        for spec in scenario.services
    ]


def _asking(scenario: Scenario, service: str) -> list[str]:
    asking = [u for r in scenario.requests if r.service == service for u in r.users]
    return list(dict.fromkeys(asking))


def _places(scenario: Scenario, service: str) -> list[str]:
    found = []
    for spec in scenario.requests:
        if spec.service == service:
            found += [service, *spec.alternatives]
            found += [DEVICE] if spec.device_work_ms is not None else []
    return list(dict.fromkeys(found))


def _initial(scenario: Scenario, policy: Policy) -> list[CellReservations]:
    """What stands before the first decision: nothing with `none`, all there is with `static`."""
    if policy == "none":
        return []
    if policy == "static":
        if not scenario.static_reservations:
            raise EmulationError(
                f"scenario {scenario.name} has no static_reservations: policy static needs them"
            )
        return _by_cell(scenario, scenario.static_reservations)
    return _by_cell(scenario, scenario.initial_reservations)


def _by_cell(scenario: Scenario, specs: Sequence[ReservationSpec]) -> list[CellReservations]:
    cells = dict.fromkeys(spec.access_point for spec in specs)
    return [
        CellReservations(
            cell_id=cell_id,
            reservations=[
                _reservation(scenario, spec) for spec in specs if spec.access_point == cell_id
            ],
        )
        for cell_id in cells
    ]


def _reservation(scenario: Scenario, spec: ReservationSpec) -> Reservation:
    """A ceiling not given is the guarantee for real-time, twice it (within the link) else."""
    slice_ = next(s for s in scenario.slices if s.name == spec.slice)
    link_mbps = next(a.down_mbps for a in scenario.access_points if a.name == spec.access_point)
    ceiling_mbps = spec.max_mbps
    if ceiling_mbps is None:
        real_time = slice_.default_class == TrafficClass.REAL_TIME
        factor = 1.0 if real_time else _DEFAULT_CEILING_FACTOR
        ceiling_mbps = min(factor * spec.min_mbps, link_mbps)
    return Reservation(
        slice_id=slice_.slice_id,
        traffic_class=slice_.default_class,
        min_kbps=round(spec.min_mbps * 1000),
        max_kbps=round(ceiling_mbps * 1000),
    )

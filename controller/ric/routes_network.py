"""Routes that show the network: users, slices, cells, services, topology."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from controller.contracts.addressing import ipv6_of
from controller.contracts.slices import Slice
from controller.ric.documents import CellDocument, ServiceDocument, SliceDocument, UeDocument
from controller.ric.gate import TheRic, reading
from controller.ric.responses import json_response
from controller.ric.state import Ric

router = APIRouter(tags=["network"], dependencies=[Depends(reading)])


def ue_documents(ric: Ric) -> list[dict[str, Any]]:
    attachments = ric.enforcer.attachments()
    return [
        {
            "ue_id": user.ue_id,
            "kind": user.kind,
            "cell_id": attachments[user.ue_id],
            "sessions": [
                {
                    "s_nssai": session.s_nssai.model_dump(),
                    "ip": session.ip,
                    "ipv6": ipv6_of(session.ip),
                }
                for session in user.sessions
            ],
        }
        for user in ric.inventory.users
    ]


def slice_document(ric: Ric, slice_: Slice) -> dict[str, Any]:
    reserved = [
        {
            "cell_id": cell.cell_id,
            "traffic_class": r.traffic_class.value,
            "min_kbps": r.min_kbps,
            "max_kbps": r.max_kbps,
        }
        for cell in ric.inventory.cells
        for r in ric.enforcer.reservations(cell.cell_id)
        if r.slice_id == slice_.slice_id
    ]
    return {
        "s_nssai": slice_.s_nssai.model_dump(),
        "name": slice_.name,
        "sla": slice_.sla.model_dump(),
        "reserved": reserved,
        "cells": [c.cell_id for c in ric.inventory.cells if slice_.covers(c.cell_id)],
        "slice_id": slice_.slice_id,
        "default_class": slice_.default_class.value,
        "users": [
            user.ue_id
            for user in ric.inventory.users
            if any(session.slice_id == slice_.slice_id for session in user.sessions)
        ],
        "user_max_mbps": slice_.user_max_mbps,
    }


def cell_documents(ric: Ric) -> list[dict[str, Any]]:
    attachments = ric.enforcer.attachments()
    return [
        {
            "cell_id": cell.cell_id,
            "kind": cell.kind,
            "edge": cell.edge,
            "capacity_kbps": cell.down_kbps,
            "reservable_kbps": round(cell.down_kbps * ric.inventory.reservable_ratio),
            "reserved_kbps": sum(r.min_kbps for r in ric.enforcer.reservations(cell.cell_id)),
            "users": sorted(ue for ue, cell_id in attachments.items() if cell_id == cell.cell_id),
            "position_m": cell.position_m,
        }
        for cell in ric.inventory.cells
    ]


def service_documents(ric: Ric) -> list[dict[str, Any]]:
    """The filler's services are no slice's that users see, so they are left out."""
    slices = {s.slice_id: s for s in ric.inventory.slices}
    hosts = ric.enforcer.service_hosts()
    return [
        {
            "name": service.name,
            "s_nssai": slices[service.slice_id].s_nssai.model_dump(),
            "host": hosts.get(service.name, service.host),
            "candidates": list(dict.fromkeys([service.host, *service.candidates])),
            "kind": service.kind,
            "state_bytes": service.state_bytes,
            "transfer_mbps": service.transfer_mbps,
            "users": service.users,
            "places": {u: ric.user_decisions.place_of(u, service.name) for u in service.users},
            "address": service.address,
            "ipv6": ipv6_of(service.address),
            "port": service.port,
            "protocol": service.protocol,
            "traffic_class": service.traffic_class.value,
        }
        for service in ric.inventory.services
        if service.slice_id in slices
    ]


def topology_document(ric: Ric) -> dict[str, Any]:
    inventory = ric.inventory
    switches = {switch.name for switch in inventory.switches}
    links = [
        {
            "from": port.switch,
            "to": port.peer,
            "port_no": port.port_no,
            "interface": port.interface,
            "rate_kbps": port.rate_kbps,
            "delay_ms": port.delay_ms,
            "between_switches": port.peer in switches,
        }
        for port in inventory.ports
    ]
    return {
        "run_id": inventory.run_id,
        "scenario": inventory.scenario,
        "policy": inventory.policy,
        "datapath": inventory.datapath,
        "switches": [switch.model_dump(mode="json") for switch in inventory.switches],
        "hosts": [
            {"name": host.name, "kind": host.kind, "switch": host.switch}
            for host in inventory.hosts
        ],
        "cells": [cell.cell_id for cell in inventory.cells],
        "links": links,
        "bottlenecks": inventory.bottlenecks,
    }


@router.get("/ues", response_model=list[UeDocument])
async def list_ues(ric: TheRic) -> Response:
    return json_response(ue_documents(ric))


@router.get("/slices", response_model=list[SliceDocument])
async def list_slices(ric: TheRic) -> Response:
    return json_response([slice_document(ric, s) for s in ric.inventory.slices])


@router.get("/cells", response_model=list[CellDocument])
async def list_cells(ric: TheRic) -> Response:
    return json_response(cell_documents(ric))


@router.get("/services", response_model=list[ServiceDocument])
async def list_services(ric: TheRic) -> Response:
    return json_response(service_documents(ric))


@router.get("/topology")
async def show_topology(ric: TheRic) -> Response:
    return json_response(topology_document(ric))

"""Inventories for tests of the RIC: two cells with an edge each, two slices, three users."""

from __future__ import annotations

from typing import Any

from controller.contracts.addressing import CENTRE_IP, edge_ip, session_ip
from controller.contracts.inventory import Inventory

SLICES: list[dict[str, Any]] = [
    {
        "name": "video",
        "slice_id": 1,
        "s_nssai": {"sst": 1, "sd": "000001"},
        "sla": {"guaranteed_mbps": 12, "delay": {"percentile": 95, "bound_ms": 100}},
        "default_class": "elastic",
    },
    {
        "name": "control",
        "slice_id": 2,
        "s_nssai": {"sst": 2, "sd": "000002"},
        "sla": {"guaranteed_mbps": 4, "loss_ratio": 0.01},
        "default_class": "real_time",
    },
]
VIDEO = {"sst": 1, "sd": "000001"}
CONTROL = {"sst": 2, "sd": "000002"}
USERS = [("ue1", "ap1", [1]), ("ue2", "ap1", [2]), ("ue3", "ap2", [1, 2])]
CAPACITY_KBPS = 20_000


def ric_inventory(**changes: Any) -> Inventory:
    """Capacity 20 Mbit/s a cell, 18 reservable; video holds 8-20, control 2. Keywords replace."""
    document: dict[str, Any] = {
        "run_id": "ric-test",
        "scenario": "ric-test",
        "seed": 7,
        "policy": "static",
        "datapath": "userspace",
        "slicing": True,
        "namespace": "none",
        "openflow_tcp_port": 6653,
        "northbound_tcp_port": 8080,
        "centre_delay_ms": 2.0,
        "switches": [
            {"name": name, "dpid": dpid, "role": "access_point"}
            for dpid, name in enumerate(("ap1", "ap2"), 1)
        ],
        "ports": [],
        "hosts": [
            _host("edge1", "edge", edge_ip(0)),
            _host("edge2", "edge", edge_ip(1)),
            _host("centre", "centre", CENTRE_IP),
            *(_host(ue_id, "ue", session_ip(0, i)) for i, (ue_id, _, _) in enumerate(USERS)),
        ],
        "cells": [_cell("ap1", "edge1", 0), _cell("ap2", "edge2", 100)],
        "users": [
            {
                "ue_id": ue_id,
                "kind": "phone",
                "host": ue_id,
                "infrastructure_ip": session_ip(0, index),
                "sessions": [
                    {
                        "slice_id": s,
                        "s_nssai": SLICES[s - 1]["s_nssai"],
                        "ip": session_ip(s, index),
                    }
                    for s in slice_ids
                ],
                "cell_id": cell_id,
            }
            for index, (ue_id, cell_id, slice_ids) in enumerate(USERS)
        ],
        "services": [
            _service("stream", 1, "elastic", 5001),
            _service("bulk", 1, "best_effort", 5002),
            _service("commands", 2, "real_time", 5003),
            _service("filler", 15, "best_effort", 5004),
        ],
        "slices": SLICES,
        "bottlenecks": ["ap1", "ap2"],
        "initial_reservations": [
            {
                "cell_id": cell_id,
                "reservations": [
                    _reservation(1, "elastic", 8000, CAPACITY_KBPS),
                    _reservation(2, "real_time", 2000, 2000),
                ],
            }
            for cell_id in ("ap1", "ap2")
        ],
        "static_reservations": [],
        "reservable_ratio": 0.9,
        "handover": {},
        "twins": {"report_period_ms": 500, "history_length": 20},
        "xapps": [],
    }
    return Inventory.model_validate({**document, **changes})


def _host(name: str, kind: str, ip: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "pid": 1,
        "interface": f"{name}-eth0",
        "mac": "02:00:00:00:00:01",
        "addresses": [{"slice_id": 0, "ip": ip}],
        "switch": "ap1",
        "port_no": 1,
    }


def _cell(cell_id: str, edge: str, x_m: float) -> dict[str, Any]:
    return {
        "cell_id": cell_id,
        "kind": "sbs",
        "switch": cell_id,
        "down_port": 1,
        "up_port": 2,
        "core_port": 1,
        "air_port": 1,
        "edge": edge,
        "position_m": (x_m, 0),
        "down_kbps": CAPACITY_KBPS,
        "up_kbps": CAPACITY_KBPS,
    }


def _service(name: str, slice_id: int, traffic_class: str, port: int) -> dict[str, Any]:
    return {
        "name": name,
        "slice_id": slice_id,
        "address": f"10.{slice_id}.200.{port - 5000}",
        "port": port,
        "protocol": "udp",
        "traffic_class": traffic_class,
        "host": "edge1",
        "candidates": [],
    }


def _reservation(slice_id: int, traffic_class: str, min_kbps: int, max_kbps: int) -> dict[str, Any]:
    return {
        "slice_id": slice_id,
        "traffic_class": traffic_class,
        "min_kbps": min_kbps,
        "max_kbps": max_kbps,
    }

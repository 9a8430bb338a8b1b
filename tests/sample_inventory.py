"""A small scenario and its inventory for tests that need both without building a network.

Two slices (1 video, 2 control), two users, one edge server, one cell. Every host may
live in one of two namespaces: pass the pid that stands for the users' side (the filler's
sink too) and the one for the servers' side (the filler's source too).
"""

from __future__ import annotations

from typing import Any

from controller.contracts.addressing import edge_ip, host_mac, service_ip, session_ip
from controller.contracts.inventory import Inventory
from topologies.scenario.schema import Scenario

SLICES: list[dict[str, Any]] = [
    {
        "name": "video",
        "slice_id": 1,
        "s_nssai": {"sst": 1, "sd": "000001"},
        "sla": {
            "guaranteed_mbps": 6,
            "delay": {"percentile": 95, "bound_ms": 100},
            "loss_ratio": 0.02,
        },
    },
    {
        "name": "control",
        "slice_id": 2,
        "s_nssai": {"sst": 2, "sd": "000002"},
        "sla": {
            "guaranteed_mbps": 2,
            "delay": {"percentile": 95, "bound_ms": 10},
            "loss_ratio": 0.001,
        },
        "default_class": "real_time",
    },
]
USERS = {"ue1": 1, "ue2": 2}
SERVICES = [
    ("stream", 1, "elastic", 5001, "udp"),
    ("commands", 2, "real_time", 5002, "udp"),
    ("probe-video", 1, "elastic", 5101, "udp"),
    ("probe-control", 2, "real_time", 5102, "udp"),
    ("files", 1, "elastic", 5201, "tcp"),
]
SLICE_NAMES = {1: "video", 2: "control"}


def sample_scenario(**changes: Any) -> Scenario:
    """Two paced flows, four probe flows, a filler; keywords replace top-level keys."""
    document: dict[str, Any] = {
        "name": "two-hosts",
        "description": "For tests.",
        "seed": 1,
        "duration_s": 10,
        "warmup_s": 1,
        "access_points": [
            {
                "name": "ap1",
                "kind": "sbs",
                "position_m": [0, 0],
                "tx_power_dbm": 30,
                "down_mbps": 20,
                "up_mbps": 20,
                "edge": "edge1",
            }
        ],
        "servers": [{"name": "edge1", "kind": "edge", "attach": "ap1"}],
        "slices": SLICES,
        "users": [
            {
                "name": name,
                "type": "phone",
                "slices": [SLICE_NAMES[slice_id]],
                "mobility": {"kind": "static", "position_m": [10, 0]},
            }
            for name, slice_id in USERS.items()
        ],
        "services": [
            {
                "name": name,
                "slice": SLICE_NAMES[slice_id],
                "traffic_class": traffic_class,
                "host": "edge1",
                "port": port,
                "protocol": protocol,
            }
            for name, slice_id, traffic_class, port, protocol in SERVICES
        ],
        "traffic": [
            {
                "name": "stream",
                "service": "stream",
                "users": ["ue1"],
                "demand": {"shape": "constant", "mbps": 8},
            },
            {
                "name": "commands",
                "service": "commands",
                "users": ["ue2"],
                "packet_bytes": 400,
                "demand": {"shape": "constant", "mbps": 2},
            },
        ],
        "probes": [
            {"service": "probe-video", "users": ["ue1"], "rate_pps": 50},
            {"service": "probe-control", "users": ["ue2"], "rate_pps": 100},
        ],
        "background": {"rate_ratio": 1.0},
        "bottlenecks": ["ap1"],
    }
    return Scenario.model_validate({**document, **changes})


def sample_inventory(user_pid: int = 1, server_pid: int = 1, shared: bool = False) -> Inventory:
    """The inventory that a network of `sample_scenario` would have.

    `shared`: hosts of a side live in one namespace, so each has all the side's addresses.
    """
    users = [
        {
            "ue_id": name,
            "kind": "phone",
            "host": name,
            "infrastructure_ip": session_ip(0, index),
            "sessions": [
                {
                    "slice_id": slice_id,
                    "s_nssai": SLICES[slice_id - 1]["s_nssai"],
                    "ip": session_ip(slice_id, index),
                }
            ],
            "cell_id": "ap1",
        }
        for index, (name, slice_id) in enumerate(USERS.items())
    ]
    user_side = [
        (0, session_ip(0, 0)),
        (1, session_ip(1, 0)),
        (0, session_ip(0, 1)),
        (2, session_ip(2, 1)),
        (15, session_ip(15, 0)),
    ]
    server_side = [(0, edge_ip(0)), (15, service_ip(15, 0))]
    if shared:
        addresses = {name: user_side for name in ("ue1", "ue2", "bg-sink")}
        services = [(s, service_ip(s, index)) for index, (_, s, *_) in enumerate(SERVICES)]
        addresses |= {"edge1": server_side, "bg-src": [*server_side, *services]}
    else:
        addresses = {
            "ue1": user_side[0:2],
            "ue2": user_side[2:4],
            "bg-sink": user_side[4:],
            "edge1": server_side[:1],
            "bg-src": server_side[1:],
        }
    kinds = {"ue1": "ue", "ue2": "ue", "edge1": "edge"}
    hosts = [
        {
            "name": name,
            "kind": kinds.get(name, "background"),
            "pid": server_pid if name in ("edge1", "bg-src") else user_pid,
            "interface": "servers0" if name in ("edge1", "bg-src") else "users0",
            "mac": host_mac(1 if name in ("edge1", "bg-src") else 0),
            "addresses": [{"slice_id": s, "ip": ip} for s, ip in own],
            "switch": "air",
            "port_no": index + 1,
        }
        for index, (name, own) in enumerate(addresses.items())
    ]
    cell = {
        "cell_id": "ap1",
        "kind": "sbs",
        "switch": "ap1",
        "down_port": 1,
        "up_port": 2,
        "core_port": 1,
        "air_port": 1,
        "edge": "edge1",
        "position_m": (0, 0),
        "down_kbps": 20_000,
        "up_kbps": 20_000,
    }
    return Inventory.model_validate(
        {
            "run_id": "two-hosts",
            "scenario": "two-hosts",
            "seed": 1,
            "policy": "static",
            "datapath": "userspace",
            "slicing": True,
            "namespace": "none",
            "openflow_tcp_port": 6653,
            "northbound_tcp_port": 8080,
            "centre_delay_ms": 0,
            "switches": [],
            "ports": [],
            "hosts": hosts,
            "cells": [cell],
            "users": users,
            "services": [
                {
                    "name": name,
                    "slice_id": slice_id,
                    "address": service_ip(slice_id, index),
                    "port": port,
                    "protocol": protocol,
                    "traffic_class": traffic_class,
                    "host": "edge1",
                    "candidates": [],
                }
                for index, (name, slice_id, traffic_class, port, protocol) in enumerate(SERVICES)
            ],
            "slices": SLICES,
            "bottlenecks": ["ap1"],
            "initial_reservations": [
                {
                    "cell_id": "ap1",
                    "reservations": [
                        {
                            "slice_id": 1,
                            "traffic_class": "elastic",
                            "min_kbps": 6000,
                            "max_kbps": 20_000,
                        },
                        {
                            "slice_id": 2,
                            "traffic_class": "real_time",
                            "min_kbps": 2000,
                            "max_kbps": 20_000,
                        },
                    ],
                }
            ],
            "static_reservations": [],
            "handover": {},
            "twins": {},
            "xapps": [],
        }
    )

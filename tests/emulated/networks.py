"""Scenario documents for tests of the network itself."""

from __future__ import annotations

from typing import Any

DOWN_MBPS, UP_MBPS, CLOUD_MBPS, BACKHAUL_MBPS = 20.0, 12.0, 30.0, 40.0
CLOUD_DELAY_MS, CENTRE_DELAY_MS = 10.0, 2.0


def two_cells(**changes: Any) -> dict[str, Any]:
    """Two access points, an edge, a cloud behind a slow far link, a user in each cell."""
    document = {
        "name": "two-cells",
        "description": "Rates and delays of every kind of link.",
        "access_points": [
            {
                "name": "ap1", "kind": "sbs", "position_m": [0, 0], "tx_power_dbm": 30,
                "down_mbps": DOWN_MBPS, "up_mbps": UP_MBPS, "edge": "edge1",
            },
            {
                "name": "ap2", "kind": "mbs", "position_m": [500, 0], "tx_power_dbm": 43,
                "down_mbps": 100, "up_mbps": 100, "edge": "edge1",
                "backhaul": {"rate_mbps": BACKHAUL_MBPS},
            },
        ],
        "servers": [
            {"name": "edge1", "kind": "edge", "attach": "ap1"},
            {
                "name": "cloud", "kind": "cloud", "attach": "core",
                "link": {"delay_ms": CLOUD_DELAY_MS, "rate_mbps": CLOUD_MBPS},
            },
        ],
        "centre": {"link": {"delay_ms": CENTRE_DELAY_MS}},
        "slices": [
            {
                "name": "video", "slice_id": 1, "s_nssai": {"sst": 1},
                "sla": {"guaranteed_mbps": 5}, "default_class": "elastic",
            },
            {
                "name": "control", "slice_id": 2, "s_nssai": {"sst": 2},
                "sla": {"guaranteed_mbps": 1}, "default_class": "real_time",
            },
        ],
        "users": [
            {
                "name": "ue1", "type": "phone", "slices": ["video", "control"],
                "mobility": {"kind": "static", "position_m": [10, 0]},
            },
            {
                "name": "ue2", "type": "sensor", "slices": ["video"],
                "mobility": {"kind": "static", "position_m": [490, 0]},
            },
        ],
        "services": [
            {
                "name": "stream", "slice": "video", "traffic_class": "elastic",
                "host": "edge1", "candidates": ["edge1", "cloud"], "port": 5001,
            },
            {
                "name": "task", "slice": "control", "traffic_class": "real_time",
                "host": "cloud", "port": 5002,
            },
        ],
        "background": {},
        "bottlenecks": ["ap1"],
        "initial_reservations": [
            {"access_point": "ap1", "slice": "video", "min_mbps": 8},
            {"access_point": "ap1", "slice": "control", "min_mbps": 2},
        ],
    }  # fmt: skip
    return {**document, **changes}


def three_slices() -> dict[str, Any]:
    """`two_cells` with a user in each of three slices and a service of each class in the first."""

    def user(name: str, slice_name: str, x_m: int) -> dict[str, Any]:
        mobility = {"kind": "static", "position_m": [x_m, 0]}
        return {"name": name, "type": "phone", "slices": [slice_name], "mobility": mobility}

    def service(name: str, slice_name: str, traffic_class: str, port: int) -> dict[str, Any]:
        return {
            "name": name, "slice": slice_name, "traffic_class": traffic_class,
            "host": "edge1", "candidates": ["edge1"], "port": port,
        }  # fmt: skip

    document = two_cells()
    iot = {
        "name": "iot", "slice_id": 3, "s_nssai": {"sst": 3},
        "sla": {"guaranteed_mbps": 1}, "default_class": "best_effort",
    }  # fmt: skip
    classes = ("control", "real_time", "elastic", "best_effort")
    services = [
        service(f"video-{name.replace('_', '-')}", "video", name, 5100 + index)
        for index, name in enumerate(classes)
    ]
    services.append(service("task", "control", "real_time", 5002))
    services.append(service("sensors", "iot", "best_effort", 5003))
    return {
        **document,
        "slices": [*document["slices"], iot],
        "users": [
            user("ue1", "video", 10), user("ue2", "control", 20), user("ue3", "iot", 490),
        ],
        "services": services,
    }  # fmt: skip

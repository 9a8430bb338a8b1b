"""The network as the xApp reads it: edges, cells, and how long a way takes. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Place = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    cell_id: str
    edge: str
    place_m: Place


@dataclass(frozen=True)
class Service:
    """A task service of the moment. `transfer_mbps` None: as fast as it goes; `took_s`,
    `wire_bytes`: of its newest migration, None before the first."""

    name: str
    host: str
    candidates: tuple[str, ...]
    users: tuple[str, ...]
    state_bytes: int
    transfer_mbps: float | None
    took_s: float | None = None
    wire_bytes: int | None = None


@dataclass(frozen=True)
class Network:
    """`rtt_ms`: (cell, server) -> there and back by configured delays, on the quickest way."""

    cells: Mapping[str, Cell]
    rtt_ms: Mapping[tuple[str, str], float]

    def edge_of(self, cell_id: str) -> str:
        return self.cells[cell_id].edge


def network_of(cells: Sequence[Mapping[str, Any]], topology: Mapping[str, Any]) -> Network:
    """From the API's documents `cells` and `topology`; the switch of a cell has its name."""
    found = {}
    for document in cells:
        x_m, y_m = document["position_m"]
        cell_id = str(document["cell_id"])
        found[cell_id] = Cell(cell_id, str(document["edge"]), (float(x_m), float(y_m)))
    neighbours: dict[str, dict[str, float]] = {}
    for link in topology["links"]:
        neighbours.setdefault(link["from"], {})[link["to"]] = float(link["delay_ms"])
        neighbours.setdefault(link["to"], {}).setdefault(link["from"], float(link["delay_ms"]))
    air = {s["name"] for s in topology["switches"] if s["role"] == "air"}
    servers = [h["name"] for h in topology["hosts"] if h["kind"] in ("edge", "cloud")]
    rtt_ms: dict[tuple[str, str], float] = {}
    for cell_id in found:
        delay_ms = _delays(neighbours, cell_id, air)
        rtt_ms |= {(cell_id, s): 2 * delay_ms[s] for s in servers if s in delay_ms}
    return Network(found, rtt_ms)


def _delays(
    neighbours: Mapping[str, Mapping[str, float]], start: str, closed: set[str]
) -> dict[str, float]:
    """Shortest ways from `start`; what is `closed` (the air) forwards for nobody."""
    found: dict[str, float] = {}
    waiting = [(0.0, start)]
    while waiting:
        delay_ms, place = heapq.heappop(waiting)
        if place in found or place in closed:
            continue
        found[place] = delay_ms
        for other, further_ms in neighbours.get(place, {}).items():
            heapq.heappush(waiting, (delay_ms + further_ms, other))
    return found


def services_of(documents: Sequence[Mapping[str, Any]]) -> dict[str, Service]:
    """Task services that somebody asks and that may run in more than one place."""
    found = {}
    for d in documents:
        if d["kind"] == "task" and d["users"] and len(d["candidates"]) > 1:
            found[str(d["name"])] = Service(
                str(d["name"]),
                str(d["host"]),
                tuple(d["candidates"]),
                tuple(d["users"]),
                int(d["state_bytes"]),
                d["transfer_mbps"],
            )
    return found

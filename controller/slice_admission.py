"""Admission control: what radio links and backhaul can still promise, with the numbers. Pure.

A promise is a guaranteed rate (L2) on a cell's downlink.  It fits where all promises
together stay within `reservable_ratio` of the link.  Nothing is oversubscribed,
real-time least of all: its ceiling is its guarantee.  Backhaul links have no
reservations; slices share them in proportion to their SLAs' guaranteed rates, so what
counts is that each promise fits its share, the newcomer's and those made before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.contracts.inventory import Cell, SwitchRole
from controller.contracts.slices import BACKGROUND_SLICE_ID
from controller.network_state import NetworkState
from controller.network_view import Network
from controller.queues import link_shares


@dataclass(frozen=True)
class Room:
    """One link and what a slice asks of it, kbit/s. `promised`: to others, by slice name."""

    link: str
    asked_kbps: int
    reservable_kbps: int
    link_kbps: int
    promised: Mapping[str, int] = field(default_factory=dict)
    share_kbps: int | None = None
    """The slice's part of a link that is shared by promise (None: by reservation)."""

    @property
    def left_kbps(self) -> int:
        """What nobody was promised; below 0 where too much was promised already."""
        if self.share_kbps is not None:
            return self.share_kbps
        return self.reservable_kbps - sum(self.promised.values())

    @property
    def fits(self) -> bool:
        return self.asked_kbps <= max(0, self.left_kbps)

    def words(self) -> str:
        """`sbs1: asked 6.0 Mbit/s, 2.3 left of 8.6 reservable, promised: embb 4.2, urllc 2.1`."""
        asked = f"{self.link}: asked {_mbps(self.asked_kbps)} Mbit/s, {_mbps(self.left_kbps)} left"
        of = f"of {_mbps(self.reservable_kbps)} reservable"
        if self.share_kbps is not None:
            return f"{asked}: its share by promise {of}"
        held = ", ".join(f"{name} {_mbps(kbps)}" for name, kbps in self.promised.items())
        return f"{asked} {of}, promised: {held or 'nothing'}"

    def as_json(self) -> dict[str, Any]:
        return {
            "link": self.link,
            "fits": self.fits,
            "asked_kbps": self.asked_kbps,
            "left_kbps": self.left_kbps,
            "reservable_kbps": self.reservable_kbps,
            "link_kbps": self.link_kbps,
            "promised_kbps": dict(self.promised),
            "share_kbps": self.share_kbps,
        }


def rooms(network: Network, after: NetworkState, slice_id: int) -> list[Room]:
    """For a slice in the network as it would be: its cells' downlinks, then their backhaul."""
    found = []
    for cell in network.cells.values():
        if network.covers(cell.cell_id, slice_id):
            found.append(_downlink(network, after, cell, slice_id))
            found += _backhaul(network, after, cell, slice_id)
    return found


def newly_overfull(
    before: Network, held: NetworkState, network: Network, after: NetworkState
) -> list[Room]:
    """Backhaul links on which a promise made before fitted its share, and would no longer."""
    found = []
    for slice_id in held.slices.keys() & after.slices.keys():
        for cell in network.cells.values():
            if before.covers(cell.cell_id, slice_id) and network.covers(cell.cell_id, slice_id):
                was = _backhaul(before, held, cell, slice_id)
                is_now = _backhaul(network, after, cell, slice_id)
                both = zip(was, is_now, strict=True)
                found += [new for old, new in both if old.fits and not new.fits]
    return found


def _downlink(network: Network, after: NetworkState, cell: Cell, slice_id: int) -> Room:
    held = after.reservations.get(cell.cell_id, {}).values()
    promised: dict[str, int] = {}
    for r in held:
        if r.slice_id != slice_id and r.min_kbps > 0:
            name = slice_name(network, r.slice_id)
            promised[name] = promised.get(name, 0) + r.min_kbps
    return Room(
        link=cell.cell_id,
        asked_kbps=sum(r.min_kbps for r in held if r.slice_id == slice_id),
        reservable_kbps=round(cell.down_kbps * network.inventory.reservable_ratio),
        link_kbps=cell.down_kbps,
        promised=promised,
    )


def _backhaul(network: Network, after: NetworkState, cell: Cell, slice_id: int) -> Iterator[Room]:
    """The core's port towards the cell, where that has a rate."""
    of_core = (s.name for s in network.switches.values() if s.role is SwitchRole.CORE)
    ports = network.ports.get(next(of_core, ""), ())
    port = next((p for p in ports if p.port_no == cell.core_port), None)
    if port is None or port.rate_kbps is None:
        return
    held = after.reservations.get(cell.cell_id, {}).values()
    shares = link_shares(network, port.rate_kbps)
    yield Room(
        link=f"{port.switch}-{cell.switch}",
        asked_kbps=sum(r.min_kbps for r in held if r.slice_id == slice_id),
        reservable_kbps=round(port.rate_kbps * network.inventory.reservable_ratio),
        link_kbps=port.rate_kbps,
        share_kbps=sum(kbps for key, kbps in shares.items() if key[0] == slice_id),
    )


def slice_name(network: Network, slice_id: int) -> str:
    if slice_id in network.slices:
        return network.slices[slice_id].name
    return "background" if slice_id == BACKGROUND_SLICE_ID else f"slice {slice_id}"


def _mbps(kbps: int) -> str:
    return f"{kbps / 1000:.1f}" if kbps % 100 == 0 else f"{kbps / 1000:.3g}"

"""Meters: which exist on a switch, at what rate, and the rules of table 3.

Every live (slice, class) of a cell has a meter each way, reserved or not, so that
a decision only changes rates and never touches a flow.  Both stand before the
radio link: downlink on the cell's switch, uplink on the air, in `egress`
(forwarding.py).  So no metered packet is delivered on the same switch, where its
delivery would be counted even if the meter drops it.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.contracts.inventory import Cell, Reservation, SwitchRole
from controller.contracts.queue_tree import LEAST_RATE_KBPS
from controller.contracts.slices import dscp_of
from controller.ip_versions import IP_VERSIONS
from controller.network_state import NetworkState, PairKey
from controller.network_view import Network
from controller.pipeline import (
    FORWARD,
    USER_METER,
    MatchFields,
    matched,
    of_slice,
    rule,
)
from controller.switch_program import Direction, Flow, Meter, MeterUse

BURST_MS = 50
"""Of the meter's rate: what a paced sender's scheduler may bunch together."""
LEAST_BURST_KBIT = 120
"""Ten full frames: a slow meter must pass whole packets."""
_CODES = 64
_USER_METERS_FROM = 8192
"""Leaves room for the slice meters of 64 cells."""
_OF_USER = 32
"""Meter ids per user: 16 slices, two directions."""


def slice_meters(network: Network, state: NetworkState, switch: str) -> dict[int, Meter]:
    """Of all (cell, slice, class) that the cell covers: up on the air, down on its switch."""
    if not network.inventory.slicing:
        return {}
    direction, cells = Direction.DOWN, list(network.cells_of_switch[switch])
    if network.switches[switch].role is SwitchRole.AIR:
        direction, cells = Direction.UP, list(network.cells.values())
    found = [
        _slice_meter(network, state, c, k, direction)
        for c in cells
        for k in network.pairs_of(c.cell_id)
    ]
    return {meter.meter_id: meter for meter in found}


def slice_meter_id(network: Network, cell: Cell, key: PairKey, direction: Direction) -> int:
    """Stable: position of the cell, DSCP, direction."""
    position = list(network.cells).index(cell.cell_id)
    code = position * _CODES + dscp_of(*key)
    return 1 + 2 * code + (direction is Direction.UP)


def ceiling_kbps(cell: Cell, reservation: Reservation | None) -> int:
    """Downlink rate limit of a pair: its reservation's, else the whole cell."""
    if reservation is None:
        return cell.down_kbps
    return max(reservation.max_kbps, LEAST_RATE_KBPS)


def _slice_meter(
    network: Network, state: NetworkState, cell: Cell, key: PairKey, direction: Direction
) -> Meter:
    reservation = state.reservations.get(cell.cell_id, {}).get(key)
    down = direction is Direction.DOWN
    rate_kbps = ceiling_kbps(cell, reservation) if down else cell.up_kbps
    use = MeterUse(cell.cell_id, key[0], key[1], direction)
    return _meter(slice_meter_id(network, cell, key, direction), rate_kbps, use)


def _meter(meter_id: int, rate_kbps: int, use: MeterUse) -> Meter:
    burst_kbit = max(LEAST_BURST_KBIT, rate_kbps * BURST_MS // 1000)
    return Meter(meter_id, rate_kbps, burst_kbit, use)


def user_meters(
    network: Network, state: NetworkState, switch: str
) -> tuple[list[Flow], dict[int, Meter]]:
    """Table 3: users of slices with a limit; up on the air, down at each carrying cell.
    A share (decision `schedule`) limits downlink only."""
    if not network.inventory.slicing:
        return [], {}
    flows: list[Flow] = []
    meters: dict[int, Meter] = {}
    on_air = network.switches[switch].role is SwitchRole.AIR
    direction = Direction.UP if on_air else Direction.DOWN
    for cell_id, ue_id in _metered_here(network, state, switch, on_air):
        for session in network.users[ue_id].sessions:
            limit_kbps = _limit_kbps(network, state, ue_id, session.slice_id, cell_id)
            if limit_kbps is None:
                continue
            meter_id = _user_meter_id(network, ue_id, session.slice_id, direction)
            use = MeterUse(cell_id, session.slice_id, None, direction, ue_id)
            meters[meter_id] = _meter(meter_id, limit_kbps, use)
            matches: list[MatchFields] = [v.sent_to(session.ip) for v in IP_VERSIONS]
            if on_air:
                port_no = network.hosts[network.users[ue_id].host].port_no
                matches = [{"in_port": port_no, "metadata": matched(of_slice(session.slice_id))}]
            flows += [
                rule(USER_METER, 100, match, meter_id=meter_id, goto=FORWARD) for match in matches
            ]
    return flows, meters


def _limit_kbps(
    network: Network, state: NetworkState, ue_id: str, slice_id: int, cell_id: str
) -> int | None:
    """The lower of the slice's limit and the user's share; the air (cell \"\") knows no shares."""
    limits = []
    if (limit_mbps := network.slices[slice_id].user_max_mbps) is not None:
        limits.append(round(limit_mbps * 1000))
    ratio = state.shares.get(slice_id, {}).get(ue_id)
    if ratio is not None and cell_id:
        rate_kbps = slice_rate_kbps(network, state, network.cells[cell_id], slice_id)
        limits.append(max(LEAST_RATE_KBPS, round(ratio * rate_kbps)))
    return min(limits, default=None)


def slice_rate_kbps(network: Network, state: NetworkState, cell: Cell, slice_id: int) -> int:
    """What all classes of a slice together may send in a cell, downlink."""
    held = state.reservations.get(cell.cell_id, {})
    pairs = [key for key in network.pairs_of(cell.cell_id) if key[0] == slice_id]
    return min(cell.down_kbps, sum(ceiling_kbps(cell, held.get(key)) for key in pairs))


def share_kbps(network: Network, state: NetworkState, ue_id: str, slice_id: int) -> int | None:
    """The limit of a user in the cell that serves it; None: it has none."""
    return _limit_kbps(network, state, ue_id, slice_id, state.serving_cell(ue_id))


def _metered_here(
    network: Network, state: NetworkState, switch: str, on_air: bool
) -> Iterator[tuple[str, str]]:
    """(cell_id, ue_id) of users metered on this switch; on the air the cell is \"\"."""
    if on_air:
        yield from (("", ue_id) for ue_id in network.users)
        return
    here = {c.cell_id for c in network.cells_of_switch[switch]}
    for ue_id, attachment in state.attachments.items():
        for cell_id in sorted(attachment.carried & here):
            yield cell_id, ue_id


def _user_meter_id(network: Network, ue_id: str, slice_id: int, direction: Direction) -> int:
    position = network.user_index[ue_id] * _OF_USER + 2 * slice_id
    return _USER_METERS_FROM + position + (direction is Direction.UP)

"""What each slice got and had reserved in each cell, window by window. Pure.

Downlink L2 rates of paced flows and probes (TCP is not counted by us), attributed to the
cell that served the user at the middle of the window; the filler belongs to its own cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topologies.results.evidence import Attachment, ReservationChange
from topologies.results.reserved import reserved_kbps_by_window
from topologies.traffic.counters import WINDOW_NS
from topologies.traffic.engine import Measurements

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellSlice:
    """Mbit/s in each window, L2."""

    cell_id: str
    slice_id: int
    offered_mbps: FloatArray
    delivered_mbps: FloatArray
    reserved_mbps: FloatArray


def cell_slices(
    measured: Measurements,
    attachments: Sequence[Attachment],
    changes: Sequence[ReservationChange],
    cells: Sequence[str],
    slice_ids: Sequence[int],
) -> list[CellSlice]:
    """One for each cell and slice, cells first."""
    edges_ns = measured.start_ns + WINDOW_NS * np.arange(measured.window_count + 1)
    serving = {
        f.flow_id: _serving(attachments, f.ue_id, edges_ns[:-1] + WINDOW_NS // 2)
        for f in measured.flows
        if f.ue_id
    }
    return [
        CellSlice(
            cell_id=cell,
            slice_id=slice_id,
            offered_mbps=_rate(measured, measured.sent_bytes, serving, cell, slice_id),
            delivered_mbps=_rate(measured, measured.received_bytes, serving, cell, slice_id),
            reserved_mbps=reserved_kbps_by_window(changes, cell, slice_id, edges_ns) / 1000,
        )
        for cell in cells
        for slice_id in slice_ids
    ]


def _serving(
    attachments: Sequence[Attachment], ue_id: str, moments_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.str_]:
    """The user's cell at each moment; '' before its first attachment."""
    own = sorted((a for a in attachments if a.ue_id == ue_id), key=lambda a: a.at_ns)
    cells = np.array(["", *(a.cell_id for a in own)])
    return cells[np.searchsorted([a.at_ns for a in own], moments_ns, side="right")]


def _rate(
    measured: Measurements,
    l2_bytes: npt.NDArray[np.int64],
    serving: dict[int, npt.NDArray[np.str_]],
    cell: str,
    slice_id: int,
) -> FloatArray:
    total = np.zeros(measured.window_count)
    for flow in measured.flows:
        if flow.slice_id != slice_id or flow.direction != "down" or flow.kind == "tcp":
            continue
        if flow.cell_id:
            here = np.full(measured.window_count, flow.cell_id == cell)
        else:
            here = serving[flow.flow_id] == cell
        total += np.where(here, l2_bytes[flow.flow_id], 0)
    return total * 8 / 1e6

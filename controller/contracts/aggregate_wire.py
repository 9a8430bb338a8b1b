"""Aggregates on the wire (VL4): what a cell's window costs is a few tens of bytes.

A datagram is a version byte and one or more aggregates.  An aggregate is a row of
varints (LEB128; signed ones zigzag): cell (its place in the inventory), period, window,
times in microseconds relative to the window's end, users, then the slices as two sets
of bits: those it speaks of, and of these the ones with users or demand, which alone
have numbers.  The trace id is not sent: both ends derive it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from controller.contracts.inventory import Cell
from controller.contracts.twin_messages import CellAggregate, SliceDemand

VERSION = 1
MAX_DATAGRAM_BYTES = 1400
SLICE_STEPS = {"users": 1.0, "demand_kbps": 0.01, "goodput_kbps": 0.01, "loss_ratio": 1e-6}
"""Numbers of a busy slice, in this order, and what one step of each is."""
DELAY_STEP_MS = 0.01
"""Of the number after them, which is one more than the delay in steps; 0: no delay known."""
_MAX_VARINT_BYTES = 10
_MAX_SLICE_ID = 15


class BadAggregate(ValueError):
    """No datagram of this version; the message says where."""


class UnknownCell(BadAggregate):
    """Of a cell that the inventory does not have."""


def trace_id_of(cell_id: str, window: int, completed_at_ns: int) -> str:
    """32 hexadecimal digits, the same at both ends; microseconds count."""
    text = f"{cell_id} {window} {completed_at_ns // 1000}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def encode(aggregates: Sequence[CellAggregate], cells: Sequence[Cell]) -> list[bytes]:
    """As few datagrams as hold them all.  `cells`: the inventory's."""
    index = {cell.cell_id: i for i, cell in enumerate(cells)}
    datagrams: list[bytearray] = []
    for aggregate in aggregates:
        part = _encoded(aggregate, index[aggregate.cell_id])
        if not datagrams or len(datagrams[-1]) + len(part) > MAX_DATAGRAM_BYTES:
            datagrams.append(bytearray([VERSION]))
        datagrams[-1] += part
    return [bytes(d) for d in datagrams]


def decode(datagram: bytes, cells: Sequence[Cell]) -> list[CellAggregate]:
    """Raises `BadAggregate`; numbers may still be ones that nobody can have measured."""
    if not datagram or datagram[0] != VERSION:
        raise BadAggregate(f"not of version {VERSION}")
    reader = _Reader(datagram, 1)
    aggregates = [_decoded(reader, cells)]
    while reader.is_more():
        aggregates.append(_decoded(reader, cells))
    return aggregates


def _encoded(aggregate: CellAggregate, cell_index: int) -> bytearray:
    ended_ns = (aggregate.window + 1) * aggregate.period_ms * 1_000_000
    completed_us = aggregate.completed_at_ns // 1000
    out = bytearray()
    for number in (
        cell_index,
        aggregate.period_ms,
        aggregate.window,
        _zigzag(completed_us - ended_ns // 1000),
        _zigzag(aggregate.sent_at_ns // 1000 - completed_us),
        aggregate.users_reported,
        aggregate.users_expected,
        _bits(d.slice_id for d in aggregate.slices),
    ):
        _append(out, number)
    busy = sorted((d for d in aggregate.slices if _is_busy(d)), key=lambda d: d.slice_id)
    _append(out, _bits(d.slice_id for d in busy))
    for demand in busy:
        for name, step in SLICE_STEPS.items():
            _append(out, round(getattr(demand, name) / step))
        delay_ms = demand.owd_p95_ms
        _append(out, 0 if delay_ms is None else 1 + round(delay_ms / DELAY_STEP_MS))
    return out


def _decoded(reader: _Reader, cells: Sequence[Cell]) -> CellAggregate:
    cell_index, period_ms, window = reader.number(), reader.number(), reader.number()
    if cell_index >= len(cells):
        raise UnknownCell(f"cell {cell_index} of {len(cells)}")
    cell = cells[cell_index]
    ended_us = (window + 1) * period_ms * 1000
    completed_us = ended_us + reader.signed()
    sent_us = completed_us + reader.signed()
    users_reported, users_expected = reader.number(), reader.number()
    listed, busy = reader.number(), reader.number()
    if busy & ~listed or listed >> (_MAX_SLICE_ID + 1):
        raise BadAggregate(f"slices {listed:b}, busy {busy:b}")
    return CellAggregate(
        trace_id=trace_id_of(cell.cell_id, window, completed_us * 1000),
        edge=cell.edge,
        cell_id=cell.cell_id,
        window=window,
        period_ms=period_ms,
        completed_at_ns=completed_us * 1000,
        sent_at_ns=sent_us * 1000,
        users_reported=users_reported,
        users_expected=users_expected,
        slices=[
            _demand(i, reader if busy >> i & 1 else None)
            for i in range(_MAX_SLICE_ID + 1)
            if listed >> i & 1
        ],
    )


def _demand(slice_id: int, reader: _Reader | None) -> SliceDemand:
    """None: nobody there asks for anything."""
    numbers: dict[str, Any] = dict.fromkeys(SLICE_STEPS, 0)
    delay_ms = None
    if reader is not None:
        for name, step in SLICE_STEPS.items():
            numbers[name] = reader.number() if step == 1 else round(reader.number() * step, 6)
        steps = reader.number()
        delay_ms = round((steps - 1) * DELAY_STEP_MS, 6) if steps else None
    return SliceDemand(slice_id=slice_id, owd_p95_ms=delay_ms, **numbers)


def _is_busy(demand: SliceDemand) -> bool:
    return demand.users > 0 or demand.demand_kbps > 0 or demand.owd_p95_ms is not None


def _bits(slice_ids: Any) -> int:
    return sum(1 << slice_id for slice_id in slice_ids)


def _zigzag(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _append(out: bytearray, number: int) -> None:
    if number < 0:
        raise ValueError(f"{number} in an aggregate; nothing there is below 0")
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


class _Reader:
    """Varints of a datagram, one after the other; `BadAggregate` when it ends within one."""

    def __init__(self, datagram: bytes, start: int) -> None:
        self._datagram = datagram
        self._at = start

    def is_more(self) -> bool:
        return self._at < len(self._datagram)

    def number(self) -> int:
        number = 0
        for place in range(_MAX_VARINT_BYTES):
            if self._at >= len(self._datagram):
                raise BadAggregate(f"cut off at byte {self._at}")
            byte = self._datagram[self._at]
            self._at += 1
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return number
        raise BadAggregate(f"a number of more than {_MAX_VARINT_BYTES} bytes before {self._at}")

    def signed(self) -> int:
        number = self.number()
        return -(number + 1 >> 1) if number & 1 else number >> 1

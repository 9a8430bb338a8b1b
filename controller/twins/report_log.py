"""The newest reports of one user, packed: about 60 bytes each instead of 800 of JSON.

A report is a row of numbers and a shape: everything else it says (names, flags,
settings), which other reports share, also those of other users.  Rows of one shape
are packed together (`report_block`).  Immutable; no clock, no sockets.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from controller.contracts.twin_messages import FlowReport, UserReport
from controller.twins.report_block import pack, unpack

BLOCK_REPORTS = 8
"""Rows wait unpacked until there are so many of one shape."""
TAIL_ROWS_MAX = 4 * BLOCK_REPORTS
"""Rows of rare shapes do not wait for ever."""
FLOW_NUMBERS = ("demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")
OPTIONAL_NUMBERS = (
    "rsrq_db", "snr_db", "cqi", "down_kbps", "up_kbps", "heading_deg", "odometer_m", "operations",
)  # fmt: skip
_WHOLE_NUMBERS = {"cqi", "operations"}
_TIMES = struct.Struct("<2q")


class Shape(NamedTuple):
    """What a report says besides numbers; equal shapes are one object (`_SHAPES`)."""

    ue_kind: str
    cell_id: str
    period_ms: int
    settings_version: int
    batch_reports: int
    rsrp_cells: tuple[str, ...]
    has_position: bool
    has_speed: bool
    others: tuple[str, ...]
    """Those of `OPTIONAL_NUMBERS` that it has."""
    flows: tuple[tuple[str, int, bool], ...]
    """Service, slice, up; numbers `FLOW_NUMBERS` each, no delay as NaN."""


_SHAPES: dict[tuple[Any, ...], Shape] = {}
_SHAPES_MAX = 10_000


class Row(NamedTuple):
    """One report: sequence, time of measurement, then doubles in the shape's order."""

    shape: Shape
    numbers: bytes

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.numbers[:8], "little")


@dataclass(frozen=True, slots=True)
class Block:
    """`count` rows of one shape, in the order they came; `first` and `last`: their sequences."""

    shape: Shape
    count: int
    first: int
    last: int
    packed: bytes


_shape_fields = attrgetter("kind", "cell_id", "period_ms", "settings_version", "batch_reports")
_optional_numbers = attrgetter(*OPTIONAL_NUMBERS)
_flow_names = attrgetter("service", "slice_id", "up")
_flow_numbers = attrgetter(*FLOW_NUMBERS)
_NO_OPTIONAL_NUMBERS = (None,) * len(OPTIONAL_NUMBERS)


def row_of(report: UserReport) -> Row:
    rsrp_dbm, place_m, speed_mps = report.rsrp_dbm, report.position_m, report.speed_mps
    numbers: list[Any] = [*rsrp_dbm.values()]
    if place_m is not None:
        numbers += place_m
    if speed_mps is not None:
        numbers.append(speed_mps)
    others: tuple[str, ...] = ()
    if (optional := _optional_numbers(report)) != _NO_OPTIONAL_NUMBERS:
        said = {n: v for n, v in zip(OPTIONAL_NUMBERS, optional, strict=True) if v is not None}
        others = tuple(said)
        numbers += said.values()
    for flow in report.flows:
        numbers += _flow_numbers(flow)
        if numbers[-1] is None:
            numbers[-1] = math.nan
    # Equal to the shape that is known already, nearly always, and cheaper to make.
    said_besides = (
        *_shape_fields(report),
        tuple(rsrp_dbm),
        place_m is not None,
        speed_mps is not None,
        others,
        tuple(map(_flow_names, report.flows)),
    )
    shape = _SHAPES.get(said_besides) or _new_shape(Shape(*said_besides))
    pack_row = _packed(len(numbers))
    return Row(shape, pack_row(report.sequence, report.measured_at_ns, *numbers))


def _new_shape(shape: Shape) -> Shape:
    if len(_SHAPES) > _SHAPES_MAX:
        _SHAPES.clear()  # those in use live on in their rows
    return _SHAPES.setdefault(shape, shape)


@lru_cache(maxsize=1024)
def _packed(double_count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<2q{double_count}d").pack


def row_of_zeros(shape: Shape) -> Row:
    """Of a report of that shape: what attributes there are depends on nothing else."""
    return Row(shape, _TIMES.pack(1, 0) + bytes(8 * _doubles(shape)))


def report_of(ue_id: str, row: Row) -> UserReport:
    """The report that the row was made of."""
    shape = row.shape
    sequence, measured_at_ns = _TIMES.unpack_from(row.numbers)
    doubles = (len(row.numbers) - _TIMES.size) // 8
    left = iter(struct.unpack_from(f"<{doubles}d", row.numbers, _TIMES.size))
    rsrp_dbm = {cell_id: next(left) for cell_id in shape.rsrp_cells}
    position_m = (next(left), next(left)) if shape.has_position else None
    speed_mps = next(left) if shape.has_speed else None
    others: dict[str, Any] = {name: next(left) for name in shape.others}
    for name in _WHOLE_NUMBERS & others.keys():
        others[name] = int(others[name])
    return UserReport(
        ue_id=ue_id,
        kind=shape.ue_kind,
        sequence=sequence,
        window=measured_at_ns // (shape.period_ms * 1_000_000) - 1,
        measured_at_ns=measured_at_ns,
        period_ms=shape.period_ms,
        cell_id=shape.cell_id,
        rsrp_dbm=rsrp_dbm,
        position_m=position_m,
        speed_mps=speed_mps,
        **others,
        flows=[_flow_of(names, left) for names in shape.flows],
        settings_version=shape.settings_version,
        batch_reports=shape.batch_reports,
    )


def _flow_of(names: tuple[str, int, bool], left: Iterator[float]) -> FlowReport:
    service, slice_id, up = names
    numbers: dict[str, Any] = {name: next(left) for name in FLOW_NUMBERS}
    if math.isnan(numbers["owd_p95_ms"]):
        numbers["owd_p95_ms"] = None
    return FlowReport(service=service, slice_id=slice_id, up=up, **numbers)


class ReportLog:
    """At most the newest `length`; `tail` waits to be packed, in the order of arrival."""

    __slots__ = ("_packed_count", "blocks", "length", "tail", "ue_id")

    def __init__(
        self,
        ue_id: str,
        length: int,
        blocks: tuple[Block, ...] = (),
        tail: tuple[Row, ...] = (),
        packed_count: int = 0,
    ) -> None:
        """`packed_count`: reports in `blocks`.  No dataclass: one is made with every report."""
        self.ue_id, self.length = ue_id, length
        self.blocks, self.tail = blocks, tail
        self._packed_count = packed_count

    def appended(self, row: Row, length: int) -> ReportLog:
        """With one more report, the newest; at most `length` of them are kept."""
        blocks, tail, count = self.blocks, (*self.tail, row), self._packed_count
        if len(tail) >= BLOCK_REPORTS:
            shape, same_count = Counter([id(r.shape) for r in tail]).most_common(1)[0]
            if same_count >= BLOCK_REPORTS or len(tail) > TAIL_ROWS_MAX:
                block = _block([r for r in tail if id(r.shape) == shape])
                blocks, count = (*blocks, block), count + block.count
                tail = tuple([r for r in tail if id(r.shape) != shape])
        # Blocks are dropped whole, when there are `length` newer reports without them.
        while blocks and count + len(tail) - blocks[0].count >= length:
            last = blocks[0].last
            newer = tuple([r for r in tail if r.sequence > last])
            if len(newer) + sum(b.count for b in blocks[1:] if b.first > last) < length:
                break  # a row of a rare shape waits in the tail, or a block began before
            count -= blocks[0].count
            blocks, tail = blocks[1:], newer
        if not blocks and len(tail) > length:
            tail = tail[len(tail) - length :]
        return ReportLog(self.ue_id, length, blocks, tail, count)

    def __len__(self) -> int:
        return min(self.length, len(self.tail) + self._packed_count)

    def __iter__(self) -> Iterator[bytes]:
        """Each report as JSON."""
        return map(_as_json, self.reports())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReportLog) and self.rows() == other.rows()

    __hash__ = None  # type: ignore[assignment]

    def rows(self) -> list[Row]:
        """Oldest first."""
        rows = list(self.tail)
        for block in self.blocks:
            rows += _rows(block)
        return sorted(rows, key=lambda row: row.sequence)[-self.length :]

    def reports(self, last: int | None = None) -> list[UserReport]:
        """The newest `last` (all: None), oldest first."""
        rows = self.rows()
        return [report_of(self.ue_id, row) for row in (rows if last is None else rows[-last:])]

    def sequences(self) -> list[int]:
        return [row.sequence for row in self.rows()]


def log_of(ue_id: str, reports: Iterable[UserReport], length: int) -> ReportLog:
    """Of these reports the newest, each sequence number once."""
    rows = {report.sequence: row_of(report) for report in reports}
    log = ReportLog(ue_id, length)
    for sequence in sorted(rows)[-length:]:
        log = log.appended(rows[sequence], length)
    return log


def document_of(report: UserReport) -> dict[str, Any]:
    """As JSON has it, without what the report does not say."""
    document = report.model_dump(mode="json")
    return {name: value for name, value in document.items() if value is not None}


def _as_json(report: UserReport) -> bytes:
    return orjson.dumps(document_of(report))


def _block(rows: Sequence[Row]) -> Block:
    """Of one shape."""
    sequences = rows[0].sequence, rows[-1].sequence
    return Block(rows[0].shape, len(rows), *sequences, pack([row.numbers for row in rows]))


def _rows(block: Block) -> list[Row]:
    shape = block.shape
    return [Row(shape, row) for row in unpack(block.packed, block.count, _doubles(shape))]


def _doubles(shape: Shape) -> int:
    radio = len(shape.rsrp_cells) + len(shape.others)
    return radio + 2 * shape.has_position + shape.has_speed + len(FLOW_NUMBERS) * len(shape.flows)

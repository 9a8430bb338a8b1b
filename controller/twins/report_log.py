"""The newest reports of one user, packed: about 50 bytes each instead of 800 of JSON.

A report is a row of numbers and a shape: everything else it says (names, flags,
settings), which other reports share, also those of other users.  In the log a row is a
record of `record_layout`.  Immutable; no clock, no sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from controller.contracts.twin_messages import FlowReport, UserReport
from controller.twins.record_layout import TIMES, Layout, row_packer, widened

FLOW_NUMBERS = ("demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms")
"""The last one only where the shape says so."""
OPTIONAL_NUMBERS = (
    "rsrq_db", "snr_db", "cqi", "down_kbps", "up_kbps", "heading_deg", "odometer_m", "operations",
)  # fmt: skip
_WHOLE_NUMBERS = {"cqi", "operations"}


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
    """Service, slice, up; numbers `FLOW_NUMBERS` each."""
    without_delay: tuple[int, ...]
    """Flows (their index) that have no delay."""


_SHAPES: dict[tuple[Any, ...], Shape] = {}
_SHAPES_MAX = 10_000


class Row(NamedTuple):
    """One report: sequence, time of measurement, then doubles in the shape's order."""

    shape: Shape
    numbers: bytes

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.numbers[:8], "little")


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
    without_delay: tuple[int, ...] = ()
    for index, flow in enumerate(report.flows):
        numbers += _flow_numbers(flow)
        if numbers[-1] is None:
            numbers.pop()
            without_delay += (index,)
    # Equal to the shape that is known already, nearly always, and cheaper to make.
    said_besides = (
        *_shape_fields(report),
        tuple(rsrp_dbm),
        place_m is not None,
        speed_mps is not None,
        others,
        tuple(map(_flow_names, report.flows)),
        without_delay,
    )
    shape = _SHAPES.get(said_besides) or _new_shape(Shape(*said_besides))
    pack_row = row_packer(len(numbers))
    return Row(shape, pack_row(report.sequence, report.measured_at_ns, *numbers))


def _new_shape(shape: Shape) -> Shape:
    if len(_SHAPES) > _SHAPES_MAX:
        _SHAPES.clear()  # those in use live on in their rows
    return _SHAPES.setdefault(shape, shape)


def row_of_zeros(shape: Shape) -> Row:
    """Of a report of that shape: what attributes there are depends on nothing else."""
    return Row(shape, TIMES.pack(1, 0) + bytes(8 * doubles_of(shape)))


def report_of(ue_id: str, row: Row) -> UserReport:
    """The report that the row was made of."""
    shape = row.shape
    sequence, measured_at_ns = TIMES.unpack_from(row.numbers)
    doubles = (len(row.numbers) - TIMES.size) // 8
    left = iter(struct.unpack_from(f"<{doubles}d", row.numbers, TIMES.size))
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
        flows=[
            _flow_of(names, left, index not in shape.without_delay)
            for index, names in enumerate(shape.flows)
        ],
        settings_version=shape.settings_version,
        batch_reports=shape.batch_reports,
    )


def _flow_of(names: tuple[str, int, bool], left: Iterator[float], has_delay: bool) -> FlowReport:
    service, slice_id, up = names
    said = FLOW_NUMBERS if has_delay else FLOW_NUMBERS[:-1]
    return FlowReport(service=service, slice_id=slice_id, up=up, **{n: next(left) for n in said})


class Form:
    """How a record is read: of which shape it is, in which layout."""

    __slots__ = ("layout", "record_bytes", "shape")

    def __init__(self, shape: Shape, layout: Layout) -> None:
        self.shape, self.layout = shape, layout
        self.record_bytes = _FORM_BYTES + layout.record_bytes

    def row(self, record: bytes) -> Row:
        return Row(self.shape, self.layout.row(record))


_FORM_BYTES = 2
"""At the head of a record: the place of its form in the log's."""
FORMS_MORE = 4
"""When a log has so many more (or half as many more) than it needed, it looks which it needs."""
_LAYOUTS: dict[tuple[object, ...], Layout] = {}
"""By columns: for all rows so far."""
_FORMS: dict[int, Form] = {}
"""Of new records, by their shape's identity; older ones live on in their logs."""


def _packed(row: Row) -> tuple[Form, bytes]:
    form = _FORMS.get(id(row.shape))
    if form is not None and (record := form.layout.packed(row.numbers)) is not None:
        return form, record
    columns = _columns(row.shape)
    layout = _LAYOUTS.get(columns)
    record = layout.packed(row.numbers) if layout is not None else None
    if layout is None or record is None:
        layout = _LAYOUTS[columns] = widened(layout, row.numbers)
        record = layout.packed(row.numbers)
        assert record is not None
    if len(_FORMS) > _SHAPES_MAX:
        _FORMS.clear()
    form = _FORMS[id(row.shape)] = Form(row.shape, layout)
    return form, record


class ReportLog:
    """The newest `length`: records one after the other, oldest first."""

    __slots__ = ("_count", "_forms", "_look_at", "_records", "length", "ue_id")

    def __init__(self, ue_id: str, length: int) -> None:
        """No dataclass: one is made with every report."""
        self.ue_id, self.length = ue_id, length
        self._records = b""
        self._count = 0
        self._forms: tuple[Form, ...] = ()
        """Of the records, by the number at their head."""
        self._look_at = FORMS_MORE

    def appended(self, row: Row, length: int) -> ReportLog:
        """With one more report, the newest; at most `length` of them are kept."""
        form, packed = _packed(row)
        after = ReportLog(self.ue_id, length)
        after._count = min(length, self._count + 1)
        after._look_at, known = self._look_at, self._forms
        kept = self._records[self._begin_of(self._count + 1 - length) :]
        if form not in known:
            if len(known) >= self._look_at:
                kept, known = _in_use(kept, known)
                after._look_at = len(known) + max(FORMS_MORE, len(known) // 2)
            known = (*known, form)
        after._forms = known
        after._records = kept + known.index(form).to_bytes(_FORM_BYTES, "little") + packed
        return after

    def _begin_of(self, index: int) -> int:
        """Where the record is; where they end when there are no more than `index`."""
        place = 0
        for _ in range(min(index, self._count)):
            place += self._forms[_form_number(self._records, place)].record_bytes
        return place

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """Each report as JSON."""
        return map(_as_json, self.reports())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReportLog) and self.rows() == other.rows()

    __hash__ = None  # type: ignore[assignment]

    @property
    def packed_bytes(self) -> int:
        return len(self._records)

    @property
    def forms(self) -> tuple[Form, ...]:
        return self._forms

    def rows(self, last: int | None = None) -> list[Row]:
        """The newest `last` (all: None), oldest first."""
        begin = 0 if last is None else self._begin_of(self._count - last)
        return rows_in(self._records[begin:], self._forms)

    def parts(self) -> tuple[bytes, tuple[Form, ...]]:
        """Its records, and their forms by the number at a record's head."""
        return _in_use(self._records, self._forms)

    def reports(self, last: int | None = None) -> list[UserReport]:
        """The newest `last` (all: None), oldest first."""
        return [report_of(self.ue_id, row) for row in self.rows(last)]

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


def _form_number(records: bytes, place: int) -> int:
    return records[place] | records[place + 1] << 8


def rows_in(records: bytes, forms: tuple[Form, ...]) -> list[Row]:
    """IndexError for a form that there is not, ValueError for a record that is cut off."""
    rows = []
    for place, end, number in _records(records, forms):
        if end > len(records):
            raise ValueError(f"a record of {end - place} bytes, {len(records) - place} are left")
        rows.append(forms[number].row(records[place + _FORM_BYTES : end]))
    return rows


def _records(records: bytes, forms: tuple[Form, ...]) -> Iterator[tuple[int, int, int]]:
    """Begin, end, number of the form."""
    place = 0
    while place < len(records):
        number = _form_number(records, place)
        end = place + forms[number].record_bytes
        yield place, end, number
        place = end


def _in_use(records: bytes, forms: tuple[Form, ...]) -> tuple[bytes, tuple[Form, ...]]:
    """The same records; of the forms those they are of."""
    found = list(_records(records, forms))
    used = sorted({number for _, _, number in found})
    numbered = {number: place.to_bytes(_FORM_BYTES, "little") for place, number in enumerate(used)}
    parts = [numbered[number] + records[place + _FORM_BYTES : end] for place, end, number in found]
    return b"".join(parts), tuple(forms[number] for number in used)


def _columns(shape: Shape) -> tuple[object, ...]:
    """What its numbers are; not whose, nor in which cell."""
    return (
        len(shape.rsrp_cells), shape.has_position, shape.has_speed, shape.others,
        len(shape.flows), shape.without_delay,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def doubles_of(shape: Shape) -> int:
    radio = len(shape.rsrp_cells) + len(shape.others)
    of_flows = len(FLOW_NUMBERS) * len(shape.flows) - len(shape.without_delay)
    return radio + 2 * shape.has_position + shape.has_speed + of_flows

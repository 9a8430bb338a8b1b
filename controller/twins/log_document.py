"""A log of reports as JSON, for another edge: its records as they are, and how to read them.

60 reports are 4 kB, compressed; as JSON each they are 8, which a twin on the move would put in
front of the next one's.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from controller.contracts.twin_messages import UserReport
from controller.twins.record_layout import Layout
from controller.twins.report_log import Form, ReportLog, Shape, doubles_of, report_of, rows_in

COLUMNS_MAX = 1000


def log_document(log: ReportLog) -> dict[str, Any]:
    records, forms = log.parts()
    return {
        "forms": [
            {
                "shape": form.shape._asdict(),
                "steps": form.layout.steps,
                "bases": form.layout.bases,
                "bits": form.layout.bits,
            }
            for form in forms
        ],
        "records": base64.b64encode(records).decode(),
    }


def reports_in(ue_id: str, document: Mapping[str, Any]) -> list[UserReport]:
    """Oldest first.  ValueError, TypeError or LookupError for what is no such log."""
    try:
        forms = tuple(map(_form, document["forms"]))
        records = base64.b64decode(document["records"], validate=True)
        return [report_of(ue_id, row) for row in rows_in(records, forms)]
    except (struct.error, ArithmeticError, StopIteration, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _form(said: Mapping[str, Any]) -> Form:
    fields = {name: _frozen(value) for name, value in said["shape"].items()}
    shape, layout = Shape(**fields), Layout(said["steps"], said["bases"], said["bits"])
    if not len(layout.steps) == doubles_of(shape) <= COLUMNS_MAX:
        raise ValueError(f"{len(layout.steps)} columns, {doubles_of(shape)} in its shape")
    return Form(shape, layout)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

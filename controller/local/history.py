"""Questions to the histories of an edge's user twins, answered where they are kept.

Only the answer travels: a filtered or aggregated series, or rows of a table.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from controller.contracts.inventory import Inventory
from controller.contracts.rpc import Handler
from controller.twins.level_one import UserTwin, history_documents
from controller.twins.report_values import attributes_in, rows_of, samples_of
from controller.twins.series import Query, answer

if TYPE_CHECKING:
    from controller.local.service import LocalController


def series_of(twin: UserTwin, query: Query) -> dict[str, Any]:
    """`points`, and what is known when there is no such attribute in the history at all."""
    reports = history_documents(twin, max(1, len(twin.history)))
    samples = samples_of(reports, query.attribute)
    known = attributes_in(reports[-1]) if reports and not samples else []
    return {"points": answer(samples, query), "recorded": bool(samples), "known": known}


def user_rows(twin: UserTwin, inventory: Inventory, since_ns: int) -> list[dict[str, Any]]:
    """Rows (`UserRow`) of what was measured since, for every slice of the user."""
    own = {s.slice_id for s in inventory.user(twin.ue_id).sessions}
    slices = [s for s in inventory.slices if s.slice_id in own]
    reports = history_documents(twin, len(twin.history)) if twin.history else []
    return [
        asdict(row)
        for report in reports
        if report["measured_at_ns"] >= since_ns
        for row in rows_of(report, slices)
    ]


def history_operations(controller: LocalController, inventory: Inventory) -> dict[str, Handler]:
    def twin_of(ue_id: str) -> UserTwin:
        if ue_id not in controller.twins:
            raise LookupError(f"no twin of {ue_id!r} at {controller.edge}")
        return controller.twins[ue_id]

    def series(ue_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return series_of(twin_of(ue_id), Query(**query))

    def rows(ue_id: str, since_ns: int = 0) -> list[dict[str, Any]]:
        return user_rows(twin_of(ue_id), inventory, since_ns)

    return {"series": series, "rows": rows}

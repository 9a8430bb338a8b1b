"""Routes of a slice's life: create, show, change, cover, terminate. All take `dry_run`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from controller.contracts.live_slices import RateMbps, SliceSpec, SliceUpdate
from controller.ric.documents import SliceChangeDocument, SliceDocument
from controller.ric.errors import Conflict
from controller.ric.gate import Operator, Reader, TheRic
from controller.ric.responses import json_response
from controller.ric.routes_network import slice_document
from controller.ric.state import Ric

router = APIRouter(tags=["slices"])

DryRun = Annotated[
    bool, Query(description="Only say what would change: flows, meters, queues; and admission")
]
SLICE = "By name, S-NSSAI (`1-000001`) or slice_id"


async def _change(ric: Ric, document: dict[str, Any], dry_run: bool, status: int = 200) -> Response:
    if not ric.progress.ready:
        raise Conflict("slices are not installed yet", "wait until /api/v1/health says ready")
    made = await ric.slices.change(document, "operator", dry_run)
    return json_response(made.document(), status)


@router.post("/slices", response_model=SliceChangeDocument, status_code=201)
async def create_slice(
    ric: TheRic, _: Operator, spec: SliceSpec, dry_run: DryRun = False
) -> Response:
    """Admitted, enforced and confirmed by every switch, or refused with the numbers (409).

    With `dry_run` the status is 200.
    """
    intent = {"kind": "slice.create", "slice": spec.model_dump(mode="json", exclude_unset=True)}
    return await _change(ric, intent, dry_run, 200 if dry_run else 201)


@router.get("/slices/{slice_ref}", response_model=SliceDocument)
async def show_slice(ric: TheRic, _: Reader, slice_ref: str) -> Response:
    slice_id = ric.slices.slice_id(slice_ref)
    return json_response(slice_document(ric, ric.inventory.slice(slice_id)))


@router.patch("/slices/{slice_ref}", response_model=SliceChangeDocument)
async def change_slice(
    ric: TheRic, _: Operator, slice_ref: str, changes: SliceUpdate, dry_run: DryRun = False
) -> Response:
    """Resize (`reservations` or `sla`), change SLA, members, user limit, coverage."""
    asked = changes.model_dump(mode="json", exclude_unset=True)
    slice_id = ric.slices.slice_id(slice_ref)
    intent = {"kind": "slice.update", "slice_id": slice_id, "changes": asked}
    return await _change(ric, intent, dry_run)


@router.delete("/slices/{slice_ref}", response_model=SliceChangeDocument)
async def terminate_slice(
    ric: TheRic, _: Operator, slice_ref: str, dry_run: DryRun = False
) -> Response:
    """Returns its meters, queues, rules and addresses."""
    slice_id = ric.slices.slice_id(slice_ref)
    return await _change(ric, {"kind": "slice.terminate", "slice_id": slice_id}, dry_run)


@router.put("/slices/{slice_ref}/cells/{cell_id}", response_model=SliceChangeDocument)
async def cover_cell(
    ric: TheRic,
    _: Operator,
    slice_ref: str,
    cell_id: str,
    min_mbps: RateMbps | None = None,
    max_mbps: RateMbps | None = None,
    dry_run: DryRun = False,
) -> Response:
    """Add the slice to an access point; without rates it gets what its SLA guarantees."""
    intent = {
        "kind": "slice.cover",
        "slice_id": ric.slices.slice_id(slice_ref),
        "cell_id": cell_id,
        "min_mbps": min_mbps,
        "max_mbps": max_mbps,
    }
    return await _change(ric, intent, dry_run)


@router.delete("/slices/{slice_ref}/cells/{cell_id}", response_model=SliceChangeDocument)
async def uncover_cell(
    ric: TheRic, _: Operator, slice_ref: str, cell_id: str, dry_run: DryRun = False
) -> Response:
    """Take the slice off an access point: its packets are dropped there, and counted."""
    slice_id = ric.slices.slice_id(slice_ref)
    intent = {"kind": "slice.uncover", "slice_id": slice_id, "cell_id": cell_id}
    return await _change(ric, intent, dry_run)

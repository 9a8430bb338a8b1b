"""Routes of twin models: the documents, what VL6 changed, and a user's settings as they are now.

Changing them is the decision `configure_twin`.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from controller.contracts.twin_models import Override, TwinModel, TwinSettings
from controller.ric.errors import NotFound
from controller.ric.gate import Reader, TheRic
from controller.ric.responses import json_response

router = APIRouter(tags=["twin models"])


@router.get("/twin-models", response_model=list[TwinModel])
async def list_models(ric: TheRic, _: Reader) -> Response:
    models = ric.twin_control.models.values()
    return json_response([m.model_dump(mode="json") for m in models])


@router.get("/twin-models/overrides", response_model=list[Override])
async def list_overrides(ric: TheRic, _: Reader) -> Response:
    """From the first to the latest; a user's count more than an edge's, a slice's, a type's."""
    overrides = ric.twin_control.overrides
    return json_response([o.model_dump(mode="json", exclude_defaults=True) for o in overrides])


@router.get("/twin-models/settings/{ue_id}", response_model=TwinSettings)
async def show_settings(ric: TheRic, _: Reader, ue_id: str) -> Response:
    user = next((u for u in ric.inventory.users if u.ue_id == ue_id), None)
    if user is None:
        raise NotFound(f"unknown user {ue_id!r}", "see /api/v1/ues")
    settings = ric.twin_control.settings(user, ric.enforcer.attachments()[ue_id])
    return json_response(settings.model_dump(mode="json"))


@router.get("/twin-models/{type_}", response_model=TwinModel)
async def show_model(ric: TheRic, _: Reader, type_: str) -> Response:
    models = ric.twin_control.models
    if type_ not in models:
        raise NotFound(f"no twin model of type {type_!r}", f"types: {', '.join(sorted(models))}")
    return json_response(models[type_].model_dump(mode="json"))

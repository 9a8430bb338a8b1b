"""Routes of the twin budget, and of who is represented: what is wanted, and what it costs."""

from __future__ import annotations

from fastapi import APIRouter, Response

from controller.contracts.twin_budget import Represented, TwinBudget
from controller.ric.gate import Operator, Reader, TheRic
from controller.ric.responses import json_response

router = APIRouter(tags=["twin models"])


@router.get("/twin-budget")
async def show_budget(ric: TheRic, caller: Reader) -> Response:
    """What may be spent, and what is: bytes on the wire and processor, per edge and in all."""
    ric.access.require_all(caller, "the twin budget")
    return json_response(ric.budget.document())


@router.put("/twin-budget")
async def set_budget(ric: TheRic, caller: Operator, budget: TwinBudget) -> Response:
    """Kept until it is deleted, also over a restart; users' periods follow within seconds."""
    await ric.budget.set_budget(budget, caller.name)
    return json_response(ric.budget.document())


@router.delete("/twin-budget")
async def delete_budget(ric: TheRic, caller: Operator) -> Response:
    """Twin models are again as documents and overrides say."""
    await ric.budget.set_budget(None, caller.name)
    return json_response(ric.budget.document())


@router.get("/twin-representatives")
async def show_representatives(ric: TheRic, caller: Reader) -> Response:
    ric.access.require_all(caller, "who is represented")
    return json_response(ric.budget.representatives())


@router.put("/twin-representatives")
async def set_representatives(ric: TheRic, caller: Operator, wanted: Represented) -> Response:
    """So many users of each edge stand for the others, chosen anew every few seconds."""
    await ric.budget.represent(wanted, caller.name)
    return json_response(ric.budget.representatives())


@router.delete("/twin-representatives")
async def delete_representatives(ric: TheRic, caller: Operator) -> Response:
    """Everybody stands for themselves."""
    await ric.budget.represent(None, caller.name)
    return json_response(ric.budget.representatives())

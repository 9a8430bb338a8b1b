"""Routes of what-if: fork the twins, predict, compare, apply, and see how wrong it was."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from controller.contracts.decisions import DecisionRecord
from controller.contracts.slices import Strict
from controller.ric.errors import Conflict, Malformed, NotFound, Unreachable
from controller.ric.gate import Operator, TheRic, WholeReader
from controller.ric.responses import json_response
from controller.ric.state import Ric
from controller.whatif.service import Fork, TooManyForks, UnknownFork, WrongState
from controller.whatif.strategies import Strategy, StrategyError
from controller.whatif.worker import WorkerFailed

router = APIRouter(tags=["whatif"])

Horizon = Annotated[float, Field(ge=1, le=60, allow_inf_nan=False)]
Result = TypeVar("Result")


class ForkRequest(Strict):
    """`name` is for people; the strategy's kind when empty."""

    name: Annotated[str, Field(max_length=64)] = ""
    strategy: Strategy


class HorizonRequest(Strict):
    horizon_s: Horizon = 5.0


class ApplyRequest(HorizonRequest):
    """`dry_run`: the guard's verdicts and the differences, nothing changed."""

    dry_run: bool = False


class CompareRequest(Strict):
    """Empty `fork_ids`: all that still follow the live network."""

    fork_ids: Annotated[list[str], Field(max_length=64)] = []
    horizon_s: Horizon = 5.0


class ForkDocument(BaseModel):
    """A fork: `windows_behind` counts twin windows since its prediction was made."""

    fork_id: str
    name: str
    state: str
    strategy: dict[str, Any]
    created_at_ns: int
    predicted_at_ns: int | None
    windows_behind: int | None
    prediction: dict[str, Any] | None
    decisions: list[dict[str, Any]]
    comparison: dict[str, Any] | None


class AppliedDocument(BaseModel):
    fork: ForkDocument
    decisions: list[DecisionRecord]


def document(ric: Ric, fork: Fork) -> dict[str, Any]:
    return fork.document(ric.whatif.mirror.newest_window)


def existing(ric: Ric, fork_id: str) -> Fork:
    try:
        return ric.whatif.get(fork_id)
    except UnknownFork as error:
        known = ", ".join(f.fork_id for f in ric.whatif.forks()) or "none yet"
        raise NotFound(str(error.args[0]), f"forks: {known}") from None


async def answered(work: Awaitable[Result]) -> Result:
    """What can go wrong with a prediction, as the API's own errors."""
    try:
        return await work
    except StrategyError as error:
        raise Malformed(str(error)) from None
    except WrongState as error:
        raise Conflict(str(error), "fork again") from None
    except WorkerFailed as error:
        raise Unreachable(str(error)) from None
    except ValueError as error:
        raise Conflict(str(error), "wait until every cell has reported") from None


@router.get("/whatif", response_model=list[ForkDocument])
async def list_forks(ric: TheRic, _: WholeReader) -> Response:
    return json_response([document(ric, fork) for fork in ric.whatif.forks()])


@router.post("/whatif", response_model=ForkDocument, status_code=201)
async def fork(ric: TheRic, _: Operator, request: ForkRequest) -> Response:
    """An instance of the network with a strategy of its own, in step with the live one."""
    try:
        made = ric.whatif.fork(request.name, request.strategy)
    except StrategyError as error:
        raise Malformed(str(error)) from None
    except TooManyForks as error:
        raise Conflict(str(error), "delete some") from None
    except ValueError as error:
        raise Conflict(str(error), "wait until every cell has reported") from None
    return json_response(document(ric, made), 201)


@router.post("/whatif/compare", response_model=list[ForkDocument])
async def compare(ric: TheRic, _: WholeReader, request: CompareRequest) -> Response:
    """Predicts all of them from one and the same moment; the best first."""
    forks: Sequence[Fork] = [existing(ric, fork_id) for fork_id in request.fork_ids]
    forks = forks or [f for f in ric.whatif.forks() if f.state == "following"]
    await answered(ric.whatif.predict(forks, request.horizon_s))
    ranked = sorted(
        (f for f in forks if f.prediction is not None),
        key=lambda f: -f.prediction.score if f.prediction else 0.0,
    )
    return json_response([document(ric, fork) for fork in ranked])


@router.get("/whatif/{fork_id}", response_model=ForkDocument)
async def show_fork(ric: TheRic, _: WholeReader, fork_id: str) -> Response:
    return json_response(document(ric, existing(ric, fork_id)))


@router.post("/whatif/{fork_id}/predict", response_model=ForkDocument)
async def predict(ric: TheRic, _: WholeReader, fork_id: str, request: HorizonRequest) -> Response:
    """From the newest twins, unless the fork was applied already."""
    found = existing(ric, fork_id)
    await answered(ric.whatif.predict([found], request.horizon_s))
    return json_response(document(ric, found))


@router.post("/whatif/{fork_id}/apply", response_model=AppliedDocument)
async def apply(ric: TheRic, _: Operator, fork_id: str, request: ApplyRequest) -> Response:
    """Its strategy as decisions through the guard; scored when the horizon has passed."""
    found = existing(ric, fork_id)
    records = await answered(ric.whatif.apply(found, request.horizon_s, request.dry_run))
    decisions = [record.model_dump(mode="json") for record in records]
    return json_response({"fork": document(ric, found), "decisions": decisions})


@router.delete("/whatif/{fork_id}", response_model=ForkDocument)
async def delete_fork(ric: TheRic, _: Operator, fork_id: str) -> Response:
    """The live network stays as it is."""
    existing(ric, fork_id)
    return json_response(document(ric, ric.whatif.delete(fork_id)))

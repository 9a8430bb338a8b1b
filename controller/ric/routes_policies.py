"""Routes of A1 policies, at O-RAN's paths; changes are the operator's, answers xApps'."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response

from controller.ric.errors import Forbidden, Malformed
from controller.ric.gate import AnyCaller, Operator, TheRic, WholeReader
from controller.ric.policies import PolicyReply, PolicyType, PolicyTypeId
from controller.ric.responses import json_response

router = APIRouter(tags=["policies"])
replies = APIRouter(tags=["policies"])

TypeId = Annotated[PolicyTypeId, Path(alias="policy_type_id")]
InstanceId = Annotated[str, Path(alias="policy_instance_id", pattern=r"^[A-Za-z0-9._-]{1,100}$")]
Payload = Annotated[dict[str, Any], Body()]


@router.get("/healthcheck")
async def healthcheck(_: WholeReader) -> Response:
    return json_response({"status": "ok"})


@router.get("/policytypes")
async def list_types(ric: TheRic, _: WholeReader) -> Response:
    return json_response(sorted(ric.policies.types))


@router.get("/policytypes/{policy_type_id}")
async def show_type(ric: TheRic, _: WholeReader, type_id: TypeId) -> Response:
    return json_response(ric.policies.type(type_id).model_dump(mode="json"))


@router.put("/policytypes/{policy_type_id}", status_code=201)
async def put_type(ric: TheRic, caller: Operator, type_id: TypeId, wanted: PolicyType) -> Response:
    """201 when it is new, else 200; 409 for another schema while there are policies of it."""
    if wanted.policy_type_id != type_id:
        raise Malformed(f"the document's policy_type_id is {wanted.policy_type_id}, not {type_id}")
    is_new = ric.policies.put_type(wanted)
    ric.audit.note("policy type", caller.name, policy_type_id=type_id)
    return json_response(wanted.model_dump(mode="json"), 201 if is_new else 200)


@router.delete("/policytypes/{policy_type_id}")
async def delete_type(ric: TheRic, caller: Operator, type_id: TypeId) -> Response:
    ric.policies.delete_type(type_id)
    ric.audit.note("policy type deleted", caller.name, policy_type_id=type_id)
    return json_response({"policy_type_id": type_id})


@router.get("/policytypes/{policy_type_id}/policies")
async def list_policies(ric: TheRic, _: WholeReader, type_id: TypeId) -> Response:
    ric.policies.type(type_id)
    return json_response(ric.policies.instance_ids(type_id))


@router.get("/policytypes/{policy_type_id}/policies/{policy_instance_id}")
async def show_policy(
    ric: TheRic, _: WholeReader, type_id: TypeId, instance_id: InstanceId
) -> Response:
    """The payload, as it was put."""
    return json_response(ric.policies.get(type_id, instance_id).payload)


@router.put("/policytypes/{policy_type_id}/policies/{policy_instance_id}", status_code=201)
async def put_policy(
    ric: TheRic, caller: Operator, type_id: TypeId, instance_id: InstanceId, payload: Payload
) -> Response:
    """Told to every xApp that handles the type; what they made of it: `.../status`."""
    is_new = ric.policies.put(type_id, instance_id, payload)
    ric.audit.note("policy", caller.name, policy=f"{type_id}/{instance_id}", payload=payload)
    return json_response(payload, 201 if is_new else 200)


@router.delete("/policytypes/{policy_type_id}/policies/{policy_instance_id}")
async def delete_policy(
    ric: TheRic, caller: Operator, type_id: TypeId, instance_id: InstanceId
) -> Response:
    ric.policies.delete(type_id, instance_id)
    ric.audit.note("policy deleted", caller.name, policy=f"{type_id}/{instance_id}")
    return json_response({"policy_type_id": type_id, "policy_instance_id": instance_id})


@router.get("/policytypes/{policy_type_id}/policies/{policy_instance_id}/status")
async def policy_status(
    ric: TheRic, _: WholeReader, type_id: TypeId, instance_id: InstanceId
) -> Response:
    return json_response(ric.policies.status(type_id, instance_id))


@replies.post("/policy-replies")
async def reply(ric: TheRic, caller: AnyCaller, said: PolicyReply) -> Response:
    """Of an xApp to what the stream told it."""
    if caller.is_operator or caller.name != said.handler_id:
        raise Forbidden(f"{caller.name} may not answer as {said.handler_id!r}")
    ric.policies.reply(said)
    return json_response({"accepted": True})

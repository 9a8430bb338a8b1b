"""A1 policies: what the operator wants of xApps, and what these say of it.

A type has a schema, an instance a payload that fits it.  Each xApp whose descriptor names the
type is told over the stream (`kind=policy`) and answers; an instance is enforced when every
running one said so of its newest payload.  What is enforced is nobody's guess: an answer to
an older payload, or of an xApp that ended since, counts no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from pydantic import Field
from referencing import Registry
from referencing.exceptions import Unresolvable

from controller.contracts.slices import Strict
from controller.ric.errors import Conflict, Malformed, NotFound
from controller.ric.stream import Event
from controller.whole_file import replace_whole

PolicyTypeId = Annotated[int, Field(ge=1, le=2**31 - 1)]
INSTANCES_MAX = 200
"""Fewer than a stream holds for who begins to listen."""

Operation = Literal["CREATE", "UPDATE", "DELETE"]


class PolicyType(Strict):
    """`create_schema`: JSON Schema of payloads; references stay within it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=2000)] = ""
    policy_type_id: PolicyTypeId
    create_schema: dict[str, Any]


class PolicyReply(Strict):
    """Of an xApp (`handler_id`) to what it was told; `revision`: which payload it is about."""

    policy_type_id: PolicyTypeId
    policy_instance_id: Annotated[str, Field(min_length=1, max_length=100)]
    handler_id: str
    status: Literal["OK", "ERROR", "DELETED"]
    revision: Annotated[int, Field(ge=1)]
    reason: Annotated[str, Field(max_length=500)] = ""


@dataclass
class Policy:
    """`revision` grows with every payload, also over a deletion; replies by xApp."""

    payload: Any
    revision: int
    replies: dict[str, PolicyReply] = field(default_factory=dict)


class Policies:
    """`handlers` names the running xApps that handle a type."""

    def __init__(
        self,
        path: Path,
        handlers: Callable[[int], list[str]],
        publish: Callable[[Event], None],
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._publish = publish
        self.types: dict[int, PolicyType] = {}
        self._policies: dict[tuple[int, str], Policy] = {}
        self._revision = 0
        self.alarm: str | None = None
        if path.exists():
            self._restore(orjson.loads(path.read_bytes()))

    # -- types --------------------------------------------------------------------

    def put_type(self, wanted: PolicyType) -> bool:
        """Whether it is new.  `Conflict` for another schema while there are instances."""
        known = self.types.get(wanted.policy_type_id)
        if known is not None and known.create_schema != wanted.create_schema:
            self._require_unused(wanted.policy_type_id)
        _judged(wanted.create_schema, None)
        self.types[wanted.policy_type_id] = wanted
        self._keep()
        return known is None

    def type(self, type_id: int) -> PolicyType:
        if type_id not in self.types:
            known = ", ".join(map(str, sorted(self.types))) or "none"
            raise NotFound(f"unknown policy type {type_id}", f"policy types: {known}")
        return self.types[type_id]

    def delete_type(self, type_id: int) -> None:
        self.type(type_id)
        self._require_unused(type_id)
        del self.types[type_id]
        self._keep()

    def _require_unused(self, type_id: int) -> None:
        if used := self.instance_ids(type_id):
            raise Conflict(f"policy type {type_id} has instances: {', '.join(used)}",
                           "delete these first")  # fmt: skip

    # -- instances ----------------------------------------------------------------

    def instance_ids(self, type_id: int) -> list[str]:
        return sorted(instance for known, instance in self._policies if known == type_id)

    def put(self, type_id: int, instance_id: str, payload: Any) -> bool:
        """Whether it is new; `Malformed` when the payload does not fit the type's schema."""
        _judged(self.type(type_id).create_schema, payload)
        is_new = (type_id, instance_id) not in self._policies
        if is_new and len(self._policies) >= INSTANCES_MAX:
            raise Conflict(f"there are {INSTANCES_MAX} policies already", "delete some first")
        self._revision += 1
        policy = Policy(payload, self._revision)
        self._policies[type_id, instance_id] = policy
        self._keep()
        self._publish(_event("CREATE" if is_new else "UPDATE", type_id, instance_id, policy))
        return is_new

    def get(self, type_id: int, instance_id: str) -> Policy:
        self.type(type_id)
        if (type_id, instance_id) not in self._policies:
            known = ", ".join(self.instance_ids(type_id)) or "none"
            raise NotFound(f"unknown policy {instance_id!r} of type {type_id}",
                           f"policies: {known}")  # fmt: skip
        return self._policies[type_id, instance_id]

    def delete(self, type_id: int, instance_id: str) -> None:
        policy = self.get(type_id, instance_id)
        del self._policies[type_id, instance_id]
        self._keep()
        self._publish(_event("DELETE", type_id, instance_id, policy))

    # -- xApps --------------------------------------------------------------------

    def standing(self) -> list[Event]:
        """What an xApp that begins to listen is told."""
        return [
            _event("CREATE", type_id, instance_id, policy)
            for (type_id, instance_id), policy in sorted(
                self._policies.items(), key=lambda held: held[1].revision
            )
        ]

    def reply(self, said: PolicyReply) -> None:
        """Of a policy or a payload that is gone meanwhile it changes nothing."""
        policy = self._policies.get((said.policy_type_id, said.policy_instance_id))
        if policy is not None and said.revision == policy.revision:
            policy.replies[said.handler_id] = said

    def forget(self, handler_id: str) -> None:
        """Its process ended: it enforces nothing."""
        for policy in self._policies.values():
            policy.replies.pop(handler_id, None)

    def status(self, type_id: int, instance_id: str) -> dict[str, Any]:
        """`enforceStatus` and why."""
        policy, handlers = self.get(type_id, instance_id), self._handlers(type_id)
        against = [] if handlers else [f"no running xApp handles policy type {type_id}"]
        for name in handlers:
            said = policy.replies.get(name)
            if said is None:
                against.append(f"{name} has not answered")
            elif said.status != "OK":
                against.append(f"{name}: {said.reason or said.status}")
        by = f"enforced by {', '.join(handlers)}"
        return {
            "enforceStatus": "NOT_ENFORCED" if against else "ENFORCED",
            "enforceReason": "; ".join(against) or by,
        }

    # -- kept ---------------------------------------------------------------------

    def _keep(self) -> None:
        content = {
            "revision": self._revision,
            "types": [t.model_dump(mode="json") for t in self.types.values()],
            "policies": [
                {"type": t, "id": i, "payload": p.payload, "revision": p.revision}
                for (t, i), p in self._policies.items()
            ],
        }
        try:
            replace_whole(self._path, orjson.dumps(content))
            self.alarm = None
        except OSError as error:
            self.alarm = f"{self._path.name}: {error.strerror}; forgotten at a restart"

    def _restore(self, kept: Mapping[str, Any]) -> None:
        self._revision = kept["revision"]
        self.types = {t["policy_type_id"]: PolicyType(**t) for t in kept["types"]}
        self._policies = {
            (p["type"], p["id"]): Policy(p["payload"], p["revision"]) for p in kept["policies"]
        }


def _event(operation: Operation, type_id: int, instance_id: str, policy: Policy) -> Event:
    return {
        "kind": "policy",
        "id": f"{type_id}/{instance_id}",
        "operation": operation,
        "policy_type_id": type_id,
        "policy_instance_id": instance_id,
        "revision": policy.revision,
        "payload": policy.payload,
    }


def _judged(schema: dict[str, Any], payload: Any) -> None:
    """Raises `Malformed` for a schema that is none; unless `payload` is None, also for one
    that does not fit.  Nothing is fetched for a reference."""
    validator = validator_for(schema)
    try:
        validator.check_schema(schema)
        if payload is not None:
            validator(schema, registry=Registry()).validate(payload)
    except SchemaError as error:
        raise Malformed(f"create_schema: {error.message}", "a JSON Schema is right") from None
    except ValidationError as error:
        place = ".".join(map(str, error.absolute_path)) or "payload"
        raise Malformed(f"{place}: {error.message}", "see the policy type's schema") from None
    except Unresolvable as error:
        raise Malformed(f"create_schema: {error} is not in it", "use #/$defs/...") from None

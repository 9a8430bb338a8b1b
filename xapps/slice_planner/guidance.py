"""A1 policies of the planner: an operator's margins and floors while they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from holon_xapp import PolicyEvent, SettingsError
from planner import Policy

POLICY_TYPE_ID = 20200
"""Its schema: policy-type.json. Every field of it is one of `planner.Policy`."""


class Answering(Protocol):
    """The part of `Xapp` that policies need."""

    def answer(self, policy: PolicyEvent, status: str = "OK", reason: str = "") -> None: ...


class Guidance:
    """One policy at a time over the xApp's own settings; `adopt` gets what holds from now on."""

    def __init__(self, settings: Mapping[str, Any], adopt: Callable[[Policy], None]) -> None:
        self._settings = settings
        self._adopt = adopt
        self._standing: str | None = None

    def on_policy(self, xapp: Answering, event: PolicyEvent) -> None:
        """Adopt it and say so; ERROR when another stands or its values do not go together."""
        name = event.policy_instance_id
        if event.operation == "DELETE":
            if name == self._standing:
                self._standing = None
                self._adopt(Policy.from_config(self._settings))
            xapp.answer(event, "DELETED")
        elif self._standing not in (None, name):
            xapp.answer(event, "ERROR", f"policy {self._standing} stands; delete it first")
        else:
            try:
                wanted = Policy.from_config({**self._settings, **event.payload})
            except SettingsError as error:
                xapp.answer(event, "ERROR", str(error))
                return
            self._standing = name
            self._adopt(wanted)
            xapp.answer(event)

"""Twin model control (VL6) at the centre: what was changed, told to every local controller.

The overrides stand in the run folder too, so that a restarted local controller or
RIC goes on with them.  Local controllers tell the users' agents, over the network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, User
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_models import (
    Override,
    Subject,
    TwinModel,
    TwinModelError,
    TwinSettings,
    combined,
    load_models,
    model_of,
    resolve,
)
from controller.ric.errors import Malformed, NotFound

TELL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Configured:
    """What became of one change; `confirmations` by edge."""

    confirmations: list[Confirmation] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)
    hops_ns: dict[str, int] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


class TwinControl:
    """The overrides of a run.  `alarm`: what could not be kept, or None."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self.models: dict[str, TwinModel] = load_models()
        self.alarm: str | None = None
        self._path = run.twin_overrides
        self._inventory = inventory
        self._edge_of_cell = {c.cell_id: c.edge for c in inventory.cells}
        edges = sorted(set(self._edge_of_cell.values()))
        self._edges = {e: AsyncConnection(run.local_controller_socket(e)) for e in edges}
        self.overrides: list[Override] = []
        if self._path.exists():
            self.overrides = [
                Override.model_validate(o) for o in orjson.loads(self._path.read_bytes())
            ]

    def settings(self, user: User, cell_id: str) -> TwinSettings:
        """The user's model as it is now at its serving cell's edge."""
        return self._resolve(user, self._edge_of_cell[cell_id], self.overrides)

    def _resolve(self, user: User, edge: str, overrides: Iterable[Override]) -> TwinSettings:
        twins = self._inventory.twins
        subject = Subject(
            ue_id=user.ue_id,
            type=user.kind,
            s_nssais=tuple(str(s.s_nssai) for s in user.sessions),
            edge=edge,
        )
        model = model_of(self.models, user.kind)
        return resolve(model, subject, overrides, twins.report_period_ms, twins.history_length)

    def check(self, override: Override) -> None:
        """Raises `NotFound` for a scope or attribute of nobody, `Malformed` for what cannot be."""
        known = {
            "type": sorted(self.models),
            "s_nssai": sorted(str(s.s_nssai) for s in self._inventory.slices),
            "edge": sorted(self._edges),
            "ue_id": [u.ue_id for u in self._inventory.users],
        }
        for name, values in known.items():
            wanted = getattr(override, name)
            if wanted is not None and wanted not in values:
                raise NotFound(f"unknown {name} {wanted!r}", f"known: {', '.join(values[:20])}")
        attributes = {a for model in self.models.values() for a in model.attributes}
        changes = override.changes
        named = {*changes.precision, *changes.attribute_period_ms, *changes.predicted}
        for attribute in sorted({*named, *changes.readers} - attributes):
            raise NotFound(
                f"no twin model has an attribute {attribute!r}",
                f"attributes: {', '.join(sorted(attributes))}",
            )
        try:
            after = combined(self.overrides, override)
            for user in self._inventory.users:
                for edge in self._edges:
                    self._resolve(user, edge, after)
        except TwinModelError as error:
            raise Malformed(str(error)) from None

    async def configure(self, override: Override, dry_run: bool) -> Configured:
        after = combined(self.overrides, override)
        before = next((o for o in self.overrides if o.scope == override.scope), None)
        diff = {
            "twin_models": {
                override.scope: {
                    "before": before.changes.model_dump(mode="json", exclude_defaults=True)
                    if before
                    else {},
                    "after": after[-1].changes.model_dump(mode="json", exclude_defaults=True),
                }
            }
        }
        if dry_run:
            return Configured(diff=diff)
        self.overrides = after
        self._keep()
        documents = [o.model_dump(mode="json", exclude_defaults=True) for o in after]
        told = await asyncio.gather(*(self._tell(edge, documents) for edge in self._edges))
        return Configured(list(told), diff)

    async def _tell(self, edge: str, overrides: list[dict[str, Any]]) -> Confirmation:
        try:
            answer = await self._edges[edge].call("configure", TELL_TIMEOUT_S, overrides=overrides)
        except RpcError as error:  # it reads the run folder's file when it is back
            return Confirmation(switch=edge, confirmed=False, detail=str(error))
        return Confirmation(switch=edge, confirmed=True, detail=f"{answer['users_told']} users")

    def _keep(self) -> None:
        """A full disk must not stop control: the change holds until somebody restarts."""
        content = [o.model_dump(mode="json", exclude_defaults=True) for o in self.overrides]
        unfinished = self._path.with_suffix(".new")
        try:
            unfinished.write_bytes(orjson.dumps(content))
            os.replace(unfinished, self._path)
            self.alarm = None
        except OSError as error:
            self.alarm = f"{self._path.name}: {error.strerror}; twin models fall back at a restart"

    def close(self) -> None:
        for edge in self._edges.values():
            edge.close()

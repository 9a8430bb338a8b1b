"""Twin model control (VL6) at the centre: what was changed, told to every local controller.

The overrides stand in the run folder too, so that a restarted local controller or
RIC goes on with them.  Local controllers tell the users' agents, over the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller.contracts.decisions import Confirmation
from controller.contracts.inventory import Inventory, User
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.contracts.slice_twins import (
    SLICE_TYPE,
    SliceTwinSettings,
    check_of_slices,
    is_of_slices,
    resolve_slice,
)
from controller.contracts.twin_models import (
    Changes,
    Layer,
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
from controller.whole_file import replace_whole

TELL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Configured:
    """What became of one change; `confirmations` by edge."""

    confirmations: list[Confirmation] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)
    hops_ns: dict[str, int] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


class TwinControl:
    """The overrides of a run.  `alarm`: what could not be kept, or None.

    `on_change` is called when they changed, before local controllers are told.
    """

    on_change: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self.models: dict[str, TwinModel] = load_models()
        self.alarm: str | None = None
        self._path = run.twin_overrides
        self._inventory = inventory
        self._edge_of_cell = {c.cell_id: c.edge for c in inventory.cells}
        edges = sorted(set(self._edge_of_cell.values()))
        self._edges = {e: AsyncConnection(run.local_controller_socket(e)) for e in edges}
        self._slices: dict[str, SliceTwinSettings] = {}
        self.overrides: list[Override] = []
        if self._path.exists():
            self.overrides = [
                Override.model_validate(o) for o in orjson.loads(self._path.read_bytes())
            ]

    def settings(
        self, user: User, cell_id: str, overrides: Iterable[Override] | None = None
    ) -> TwinSettings:
        """The user's model as it is now, or with these overrides, at its serving cell's edge."""
        said = self.overrides if overrides is None else overrides
        return self._resolve(user, self._edge_of_cell[cell_id], said)

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

    def slice_settings(self, s_nssai: str) -> SliceTwinSettings:
        found = self._slices.get(s_nssai)
        if found is None:
            twins = self._inventory.twins
            found = self._slices[s_nssai] = resolve_slice(
                self.models[SLICE_TYPE],
                s_nssai,
                self.overrides,
                twins.report_period_ms,
                twins.history_length,
            )
        return found

    def check(self, overrides: Sequence[Override]) -> None:
        """Raises `NotFound` for a scope or attribute of nobody, `Malformed` for what cannot be."""
        after = self.overrides
        for override in overrides:
            self._check_scope(override)
            self._check_attributes(override)
            after = combined(after, override)
        try:
            for override in overrides:
                if is_of_slices(override):
                    check_of_slices(override.changes, self._inventory.twins.report_period_ms)
            if not all(is_of_slices(o) for o in overrides):
                self._check_users(after)
        except TwinModelError as error:
            raise Malformed(str(error)) from None

    def _check_users(self, after: Sequence[Override]) -> None:
        """Raises `TwinModelError`."""
        by_id = {u.ue_id: u for u in self._inventory.users}
        edge = min(self._edges)
        stands_for = {u.ue_id: self._resolve(u, edge, after).represented_by for u in by_id.values()}
        for user in by_id.values():
            for other in self._edges:
                self._resolve(user, other, after)
            representative = stands_for[user.ue_id]
            if representative is None:
                continue
            if representative not in by_id or representative == user.ue_id:
                raise TwinModelError(f"{representative!r} cannot represent {user.ue_id}")
            if stands_for[representative] is not None:
                raise TwinModelError(
                    f"{representative} is represented by {stands_for[representative]} itself"
                )

    def _check_scope(self, override: Override) -> None:
        slices = sorted(str(s.s_nssai) for s in self._inventory.slices)
        known = {
            "type": sorted(self.models),
            "s_nssai": slices,
            "slice_twin": slices,
            "edge": sorted(self._edges),
            "ue_id": [u.ue_id for u in self._inventory.users],
        }
        for name, values in known.items():
            wanted = getattr(override, name)
            if wanted is not None and wanted not in values:
                raise NotFound(f"unknown {name} {wanted!r}", f"known: {', '.join(values[:20])}")

    def _check_attributes(self, override: Override) -> None:
        if is_of_slices(override):
            models = [self.models[SLICE_TYPE]]
        elif override.type is not None:
            models = [self.models[override.type]]
        else:
            models = [m for m in self.models.values() if m.type != SLICE_TYPE]
        attributes = {a for model in models for a in model.attributes}
        changes = override.changes
        named = {*changes.precision, *changes.attribute_period_ms, *changes.predicted}
        for attribute in sorted({*named, *changes.readers} - attributes):
            raise NotFound(
                f"no twin of {override.scope} has an attribute {attribute!r}",
                f"attributes: {', '.join(sorted(attributes))}",
            )

    async def configure(self, overrides: Sequence[Override], dry_run: bool) -> Configured:
        """All of them or, when one edge does not confirm, all of them too: it will read them."""
        after = self.overrides
        for override in overrides:
            after = combined(after, override)
        diff = {
            "twin_models": {
                override.scope: {
                    "before": _said_of(self.overrides, override.scope),
                    "after": _said_of(after, override.scope),
                }
                for override in overrides
            }
        }
        if dry_run:
            return Configured(diff=diff)
        return Configured(await self._change(after), diff)

    async def withdraw(self, layer: Layer) -> list[Confirmation]:
        """All that the testbed said by itself under this name."""
        return await self._change([o for o in self.overrides if o.layer is not layer])

    async def _change(self, after: list[Override]) -> list[Confirmation]:
        self.overrides = after
        self._slices.clear()
        self._keep()
        self.on_change()
        documents = [o.model_dump(mode="json", exclude_defaults=True) for o in after]
        return list(await asyncio.gather(*(self._tell(edge, documents) for edge in self._edges)))

    async def _tell(self, edge: str, overrides: list[dict[str, Any]]) -> Confirmation:
        try:
            answer = await self._edges[edge].call("configure", TELL_TIMEOUT_S, overrides=overrides)
        except RpcError as error:  # it reads the run folder's file when it is back
            return Confirmation(switch=edge, confirmed=False, detail=str(error))
        return Confirmation(switch=edge, confirmed=True, detail=f"{answer['users_told']} users")

    def _keep(self) -> None:
        """A full disk must not stop control: the change holds until somebody restarts."""
        content = [o.model_dump(mode="json", exclude_defaults=True) for o in self.overrides]
        try:
            replace_whole(self._path, orjson.dumps(content))
            self.alarm = None
        except OSError as error:
            self.alarm = f"{self._path.name}: {error.strerror}; twin models fall back at a restart"

    def close(self) -> None:
        for edge in self._edges.values():
            edge.close()


def _said_of(overrides: Iterable[Override], scope: str) -> dict[str, Any]:
    changes = next((o.changes for o in overrides if o.scope == scope), None)
    return _document(changes) if changes else {}


def _document(changes: Changes) -> dict[str, Any]:
    return changes.model_dump(mode="json", exclude_defaults=True)

"""The keeper of the twin budget and of who is represented: measures, decides, tells.

Every few seconds each local controller says what its twins have cost; what that means for
settings is `controller/twins/spending.py`'s question.  Settings are changed by decisions of
`twin-budget` and `twin-representation` through the pipeline, like anybody's.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from controller.audit import Audit
from controller.contracts.decisions import Action, DecisionRequest, Verdict
from controller.contracts.inventory import Inventory
from controller.contracts.rpc import AsyncConnection, RpcError
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_budget import EdgeSpent, Represented, TwinBudget
from controller.contracts.twin_models import Layer
from controller.ric.attempts import Decided
from controller.ric.errors import RicError
from controller.ric.neighbours import local_controllers
from controller.ric.payers import COARSE, Payers, said_by_budget
from controller.ric.spending_window import SpendingWindow
from controller.ric.twin_control import TwinControl
from controller.twins.spending import (
    TOTAL_TOLERANCE_RATIO,
    Measured,
    Payer,
    Setting,
    SpendingState,
    rate_bytes_per_s,
    spent,
)
from controller.twins.twin import Twin
from controller.whole_file import replace_whole

log = logging.getLogger(__name__)

STEP_S = 2.0
SPENDING_STEPS = 2
"""Settings are looked at in every second step: a change must show before the next."""
CLUSTER_STEPS = 5
ASK_TIMEOUT_S = 2.0


class Cells(Protocol):
    @property
    def cells(self) -> Mapping[str, Twin]: ...


class BudgetKeeper:
    """`decide`: the pipeline, as one of the testbed's own."""

    def __init__(
        self,
        run: RunFolder,
        inventory: Inventory,
        control: TwinControl,
        level_two: Cells,
        audit: Audit,
        decide: Callable[[DecisionRequest], Awaitable[Decided]],
    ) -> None:
        self._path = run.twin_budget
        self._control = control
        self._audit = audit
        self._decide = decide
        self._edges: dict[str, AsyncConnection] = local_controllers(run, inventory)
        self._payers = Payers(inventory, control, level_two)
        self._numbers = itertools.count(1)
        self._state = SpendingState()
        self.window = SpendingWindow()
        self.budget: TwinBudget | None = inventory.twins.budget
        self.represented: Represented | None = None
        self._unkept: str | None = None
        self._trouble: str | None = None
        if self._path.exists():
            kept = orjson.loads(self._path.read_bytes())
            self.budget = TwinBudget.model_validate(kept["budget"]) if kept["budget"] else None
            if kept["represented"]:
                self.represented = Represented.model_validate(kept["represented"])

    # -- what is wanted -----------------------------------------------------------

    async def set_budget(self, budget: TwinBudget | None, who: str) -> None:
        self.budget, self._state = budget, SpendingState()
        self._wanted("twin budget", who, budget)
        if budget is None:
            await self._control.withdraw(Layer.BUDGET)
        else:
            await self._spend()

    async def represent(self, represented: Represented | None, who: str) -> None:
        self.represented = represented
        self._wanted("twin representation", who, represented)
        if represented is None:
            await self._control.withdraw(Layer.REPRESENTATION)
        else:
            await self._represent()

    def _wanted(self, event: str, who: str, wanted: TwinBudget | Represented | None) -> None:
        self._trouble = None
        self._audit.note(event, who, wanted=wanted.model_dump(mode="json") if wanted else None)
        content = {
            "budget": self.budget.model_dump(mode="json") if self.budget else None,
            "represented": self.represented.model_dump(mode="json") if self.represented else None,
        }
        try:
            replace_whole(self._path, orjson.dumps(content))
            self._unkept = None
        except OSError as error:  # as for overrides: control goes on, until a restart
            self._unkept = f"{self._path.name}: {error.strerror}; forgotten at a restart"

    @property
    def alarm(self) -> str | None:
        """What could not be kept, or cannot be met."""
        return self._unkept or self._trouble

    # -- the loop -----------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        for step in itertools.count(1):
            await asyncio.sleep(STEP_S)
            try:
                await self._measure()
                if self.represented is not None and step % CLUSTER_STEPS == 0:
                    await self._represent()
                if self.budget is not None and step % SPENDING_STEPS == 0:
                    await self._spend()
            except RicError as error:
                self._trouble = f"twin budget: {error.message}"
                log.warning("%s", self._trouble)

    async def _measure(self) -> None:
        answers = await asyncio.gather(
            *(edge.call("spending", ASK_TIMEOUT_S) for edge in self._edges.values()),
            return_exceptions=True,
        )
        for edge, answer in zip(self._edges, answers, strict=True):
            if isinstance(answer, RpcError):
                self.window.silent(edge)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self.window.add(EdgeSpent.model_validate(answer))

    async def _spend(self) -> None:
        if self.budget is None or not self.window.is_known:
            return
        payers = self._payers.of(self.window, self._state)
        if not payers:
            return
        measured = self.window.measured({p.ue_id for p in payers})
        self._state, settings = spent(self.budget, self._state, payers, measured)
        self._trouble = _too_little(self.budget, payers, settings, measured)
        now = said_by_budget(self._control.overrides)
        own = {p.ue_id: p.own_ms for p in payers}
        groups: dict[Setting, list[str]] = {}
        for ue_id, setting in settings.items():
            if now.get(ue_id, Setting(own[ue_id])) != setting:
                groups.setdefault(setting, []).append(ue_id)
        for setting, ue_ids in groups.items():
            is_own = all(setting == Setting(own[u]) for u in ue_ids)
            await self._configure(Layer.BUDGET, ue_ids, {} if is_own else _changes(setting))
        if groups:
            self.window.changed(time.monotonic_ns())

    async def _represent(self) -> None:
        wanted = self.represented
        if wanted is None:
            return
        stands_for: dict[str, str | None] = {}
        for edge in self._edges.values():
            try:
                found = await edge.call("clusters", ASK_TIMEOUT_S, **wanted.model_dump())
            except RpcError:  # its users stay as they are
                continue
            stands_for |= {u: None if u == other else other for u, other in found.items()}
        now = {
            o.ue_id: o.changes.represented_by
            for o in self._control.overrides
            if o.layer is Layer.REPRESENTATION and o.ue_id is not None
        }
        groups: dict[str | None, list[str]] = {}
        for ue_id, other in stands_for.items():
            if now.get(ue_id) != other:
                groups.setdefault(other, []).append(ue_id)
        # First who stands for itself again: nobody is represented by somebody who is.
        for other in sorted(groups, key=lambda o: o is not None):
            changes = {} if other is None else {
                "represented_by": other, "period_ms": wanted.period_ms,
            }  # fmt: skip
            await self._configure(Layer.REPRESENTATION, groups[other], changes)

    async def _configure(self, layer: Layer, ue_ids: list[str], changes: dict[str, Any]) -> None:
        request = DecisionRequest(
            trace_id=f"{layer}-{next(self._numbers)}",
            xapp=layer,
            action=Action.CONFIGURE_TWIN,
            target={"ue_ids": sorted(ue_ids)},
            parameters={"reset": True, **changes},
        )
        record = (await self._decide(request)).record
        if record.verdict is not Verdict.APPLIED:
            log.warning("%s: %s", layer, record.reason)

    # -- what is shown --------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        settings = said_by_budget(self._control.overrides)
        return {
            "budget": self.budget.model_dump(mode="json") if self.budget else None,
            **self.window.document(),
            "users": [
                {
                    "ue_id": user.ue_id,
                    "bytes_per_s": round(self.window.user_bytes_per_s(user.ue_id), 1),
                    "weight": round(self._payers.weight(user), 5),
                    "period_ms": settings[user.ue_id].period_ms if user.ue_id in settings else None,
                    "coarse": user.ue_id in settings and settings[user.ue_id].is_coarse,
                }
                for user in self.window.users()
            ],
        }

    def representatives(self) -> dict[str, Any]:
        clusters: dict[str, list[str]] = {}
        for o in self._control.overrides:
            if o.changes.represented_by is not None and o.ue_id is not None:
                clusters.setdefault(o.changes.represented_by, []).append(o.ue_id)
        return {
            "represented": self.represented.model_dump(mode="json") if self.represented else None,
            "clusters": [
                {"representative": r, "stands_for": sorted(users)}
                for r, users in sorted(clusters.items())
            ],
        }

    def close(self) -> None:
        for edge in self._edges.values():
            edge.close()


def _changes(setting: Setting) -> dict[str, Any]:
    return {"period_ms": setting.period_ms, **(COARSE if setting.is_coarse else {})}


def _too_little(
    budget: TwinBudget, payers: Sequence[Payer], settings: Mapping[str, Setting], measured: Measured
) -> str | None:
    """One line when even everybody's longest period costs more."""
    if any(settings[p.ue_id].period_ms < p.longest_ms for p in payers):
        return None
    periods = {p.ue_id: settings[p.ue_id].period_ms for p in payers}
    least = rate_bytes_per_s(payers, periods) + measured.other_bytes_per_s
    if least <= budget.bytes_per_s * (1 + TOTAL_TOLERANCE_RATIO):
        return None
    return f"twin budget: {budget.bytes_per_s:g} bytes/s cannot be kept, about {least:.0f} is least"

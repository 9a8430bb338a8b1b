"""Twin model control at an edge (VL6): each user's settings, told to its agent over the network.

A report says by which settings it was made; when they are not the current ones the
agent is told again, so lost datagrams, restarts and handovers need no memory.  Users
whose model says `poll` are asked every period, new ones at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

import orjson

from controller.contracts.addressing import AGENT_UDP_PORT
from controller.contracts.inventory import Inventory
from controller.contracts.slice_twins import SLICE_TYPE, SliceTwinSettings, all_due, resolve_slice
from controller.contracts.slices import Slice
from controller.contracts.twin_messages import SliceDemand, UserReport
from controller.contracts.twin_models import (
    AgentSettings,
    Override,
    Subject,
    TwinModel,
    TwinSettings,
    Upload,
    agent_settings,
    load_models,
    model_of,
    resolve,
)

GREETING_PERIOD_S = 0.1
"""Users without a twin are asked that often: a twin stands well within 0.5 s of attaching."""
POLL_STAGGER_RATIO = 0.4
_POLL = orjson.dumps({"poll": True})
_GOLDEN_RATIO = 0.6180339887498949

Send = Callable[[bytes, tuple[str, int]], object]


def read_overrides(path: Path) -> list[Override]:
    """What the RIC keeps in the run folder; none when it never changed a model."""
    try:
        return [Override.model_validate(o) for o in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        return []


def _said_of_users(overrides: Iterable[Override]) -> dict[str, tuple[object, ...]]:
    """What overrides of one user only say, by user: equal where they resolve to the same."""
    found: dict[str, tuple[object, ...]] = {}
    for o in sorted(overrides, key=lambda o: o.rank):
        if o.ue_id is not None:
            found[o.ue_id] = (*found.get(o.ue_id, ()), o.rank, o.changes.model_dump_json())
    return found


class ModelControl:
    """`is_here` says which users this edge serves now; `send` raises OSError when it cannot."""

    def __init__(
        self,
        inventory: Inventory,
        edge: str,
        overrides: Iterable[Override],
        send: Send,
        is_here: Callable[[str], bool],
        models: dict[str, TwinModel] | None = None,
    ) -> None:
        self._models = load_models() if models is None else models
        self._twins = inventory.twins
        self._users = {u.ue_id: u for u in inventory.users}
        self._order = {u.ue_id: i for i, u in enumerate(inventory.users)}
        self._edge = edge
        self._overrides = list(overrides)
        self._said_of = _said_of_users(self._overrides)
        self._send = send
        self._is_here = is_here
        self._settings: dict[str, tuple[TwinSettings, AgentSettings]] = {}
        self._slices = inventory.slices
        self._of_slices: dict[int, SliceTwinSettings] | None = None
        self._shared: dict[tuple[object, ...], tuple[TwinSettings, AgentSettings]] = {}
        self._polls: dict[str, asyncio.TimerHandle] = {}
        self.counts: Counter[str] = Counter()

    def settings(self, ue_id: str) -> TwinSettings:
        return self._resolved(ue_id)[0]

    def _resolved(self, ue_id: str) -> tuple[TwinSettings, AgentSettings]:
        found = self._settings.get(ue_id)
        if found is None:
            user = self._users[ue_id]
            subject = Subject(
                ue_id=ue_id,
                type=user.kind,
                s_nssais=tuple(str(s.s_nssai) for s in user.sessions),
                edge=self._edge,
            )
            # 10 kB of documents: users of whom the same is said share them.
            key = (subject.type, subject.s_nssais, self._said_of.get(ue_id))
            found = self._shared.get(key)
            if found is None:
                found = self._shared[key] = self._resolve(subject)
            self._settings[ue_id] = found
        return found

    def _resolve(self, subject: Subject) -> tuple[TwinSettings, AgentSettings]:
        settings = resolve(
            model_of(self._models, subject.type),
            subject,
            self._overrides,
            self._twins.report_period_ms,
            self._twins.history_length,
        )
        return settings, agent_settings(settings)

    def configure(self, overrides: Iterable[Override]) -> dict[str, int]:
        """Replaces all overrides; users here are told at once.  Answers how many were."""
        self._overrides = list(overrides)
        self._said_of = _said_of_users(self._overrides)
        self._of_slices = None
        before = {ue_id: agent.version for ue_id, (_, agent) in self._settings.items()}
        self._settings.clear()
        self._shared.clear()
        changed = [
            ue_id
            for ue_id in self._users
            if self._is_here(ue_id) and self._resolved(ue_id)[1].version != before.get(ue_id)
        ]
        for ue_id in changed:
            self._tell(ue_id)
        return {"users_told": len(changed)}

    # -- slices ---------------------------------------------------------------

    def keep_slices(self, slices: Sequence[Slice]) -> None:
        """Exactly these live now."""
        self._slices = list(slices)
        self._of_slices = None

    def slices_due(self, demands: Sequence[SliceDemand], window: int) -> list[SliceDemand]:
        """The entries of an aggregate that the slices' twins want, as exactly as they want."""
        if self._of_slices is None:
            self._of_slices = {
                s.slice_id: resolve_slice(
                    model_of(self._models, SLICE_TYPE),
                    str(s.s_nssai),
                    self._overrides,
                    self._twins.report_period_ms,
                    self._twins.history_length,
                )
                for s in self._slices
            }
        return all_due(demands, self._of_slices, window)

    # -- users ----------------------------------------------------------------

    def heard(self, report: UserReport) -> None:
        """Of every accepted report: an agent of other settings is put right."""
        if report.settings_version != self._resolved(report.ue_id)[1].version:
            self._tell(report.ue_id)

    def look_after(self, ue_ids: Iterable[str], known: Container[str]) -> None:
        """Users here who are not `known` by a twin: their settings, and a poll that makes one.

        Who is to be polled is from now on; nothing it sends by itself would start that.
        """
        for ue_id in ue_ids:
            if ue_id not in known:
                self._tell(ue_id)
                self._say(ue_id, _POLL)
            settings = self.settings(ue_id)
            if settings.upload is Upload.POLL and ue_id not in self._polls:
                self._schedule_poll(ue_id, settings)

    def _tell(self, ue_id: str) -> None:
        _, agent = self._resolved(ue_id)
        self.counts["settings_sent"] += 1
        self._say(ue_id, orjson.dumps({"settings": agent.model_dump(mode="json")}))

    def _say(self, ue_id: str, payload: bytes) -> None:
        try:
            self._send(payload, (self._users[ue_id].infrastructure_ip, AGENT_UDP_PORT))
        except OSError:  # it is said again with the next report
            self.counts["send_errors"] += 1
        else:
            self.counts["orders"] += 1
            self.counts["order_bytes"] += len(payload)

    # -- polls ----------------------------------------------------------------

    def _schedule_poll(self, ue_id: str, settings: TwinSettings) -> None:
        period_ns = settings.period_ms * 1_000_000
        share = (self._order[ue_id] * _GOLDEN_RATIO) % 1.0 * POLL_STAGGER_RATIO
        now_ns = time.time_ns()
        due_ns = (now_ns // period_ns + 1) * period_ns + round(share * period_ns)
        loop = asyncio.get_running_loop()
        self._polls[ue_id] = loop.call_later((due_ns - now_ns) / 1e9, self._poll, ue_id)

    def _poll(self, ue_id: str) -> None:
        del self._polls[ue_id]
        settings = self.settings(ue_id)
        if settings.upload is not Upload.POLL or not self._is_here(ue_id):
            return
        self.counts["polls"] += 1
        self._say(ue_id, _POLL)
        self._schedule_poll(ue_id, settings)

    def close(self) -> None:
        for timer in self._polls.values():
            timer.cancel()

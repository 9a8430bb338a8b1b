"""The RIC's parts, put together once at start; routes and ops work on them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.audit import AppendOnlyLog, Audit
from controller.contracts.decisions import DecisionRequest, Effect
from controller.contracts.inventory import Inventory, User
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_models import TwinSettings
from controller.network_state import shaped
from controller.ric.access import Access
from controller.ric.attempts import Applied, Clock, Decided
from controller.ric.callers import Tokens, operator_token
from controller.ric.channels import Channels
from controller.ric.decision_log import DecisionLog
from controller.ric.decisions import Pipeline
from controller.ric.effects import CounterPoller, EffectWatch
from controller.ric.enforcing import Enforcing
from controller.ric.forecasting import SliceForecasts
from controller.ric.intents import HandoverIntent, MigrateIntent, ReserveIntent, SliceIntent
from controller.ric.judgement import UserEvidence
from controller.ric.link_effect import LinkWatch
from controller.ric.measurement import CounterSample
from controller.ric.migration_effect import MigrationJudge, offload_window
from controller.ric.neighbours import HandoverNotices, UserTwins
from controller.ric.observation import Centre
from controller.ric.placebo import Placebo
from controller.ric.policies import Policies
from controller.ric.presence import WatchedPresence
from controller.ric.rehearsal import whatif_of
from controller.ric.request_effects import RequestWatch
from controller.ric.schedule_effect import ScheduleWatch
from controller.ric.service_loads import ServiceLoads
from controller.ric.shared_data import SharedData, Snapshot
from controller.ric.slice_strategies import StrategyBook
from controller.ric.slices import SliceLife
from controller.ric.stream import Event
from controller.ric.tables import flush_tables
from controller.ric.twin_budget import BudgetKeeper
from controller.ric.twin_control import TwinControl
from controller.ric.user_decisions import UserDecisions, watched_schedule
from controller.ric.user_intents import (
    AdaptLinkIntent,
    MigrateTwinIntent,
    OffloadIntent,
    ScheduleIntent,
)
from controller.ric.user_stream import UserTwinFeed
from controller.ric.xapp_versions import XappVersions
from controller.ric.xapps import Xapps
from controller.store.sdl import Sdl


@dataclass
class Progress:
    """`ready`: slices are installed.  `deployed`: the scenario's xApps run, or stand in
    `problems`: what did not work, one line by where."""

    ready: bool = False
    deployed: bool = False
    problems: dict[str, str] = field(default_factory=dict)
    started_at_ns: int = field(default_factory=time.time_ns)


class Ric:
    """Owns the parts and connects them; holds no rule of its own."""

    def __init__(
        self,
        run: RunFolder,
        inventory: Inventory,
        enforcer: Enforcing,
        store: Sdl,
        clock: Clock | None = None,
    ) -> None:
        self.run = run
        self.enforcer = enforcer
        self.progress = Progress()
        self.tokens = Tokens(operator_token(run.token))
        self._decision_lines = AppendOnlyLog(run.results / "decisions.jsonl")
        self._audit_lines = AppendOnlyLog(run.results / "audit.jsonl")
        self.audit = Audit(self._audit_lines)
        enforcer.on_repair(self._repaired)
        self.twin_control = TwinControl(run, inventory)
        self.centre = Centre(inventory, enforcer.reservations, self.twin_control.slice_settings)
        self.twin_control.on_change = self.centre.models_changed
        self.decisions = DecisionLog(self._decision_lines)
        self.slices = SliceLife(run, enforcer, self.audit, self._slices_changed)
        self.user_decisions = UserDecisions(run, inventory, enforcer)
        self.access = Access(
            inventory, self.audit, self._settings_of, self.twin_control.slice_settings
        )
        self.pipeline = Pipeline(
            inventory,
            enforcer,
            self.decisions,
            self.audit,
            self.centre.traces,
            self._applied,
            clock=clock,
            slices=self.slices,
            users=self.user_decisions,
            twins=self.twin_control,
        )
        self.budget = BudgetKeeper(
            run, inventory, self.twin_control, self.centre.level_two, self.audit, self._decide
        )
        self.notices = HandoverNotices(run, inventory)
        self.user_twins = UserTwins(run, inventory)
        self.user_feed = UserTwinFeed(self._changed_users, self.centre.stream)
        self.effects = EffectWatch(self._judged, self._user_evidence)
        self.schedules = ScheduleWatch(self._judged, enforcer.user_limit_kbps)
        self.migrations = MigrationJudge(inventory, enforcer.attachments())
        self.requests = RequestWatch(self.notices.requests, self._judged)
        self.links = LinkWatch(self.user_decisions.radio_port, self._judged)
        self.poller = CounterPoller(self.read_counters, self._counted)
        self.xapps = Xapps(run, inventory, self.tokens, self.audit, self._xapp_ended)
        self.policies = Policies(run.policies, self.xapps.handlers, self._publish)
        self.versions = XappVersions(self.xapps)
        self.whatif = whatif_of(self)
        capacity_kbps = {c.cell_id: float(c.down_kbps) for c in inventory.cells}
        self.forecasts = SliceForecasts(capacity_kbps, self.centre.forecast)
        self.centre.stream.listeners.append(self.forecasts.observe)
        self.strategies = StrategyBook(inventory)
        self.service_loads = ServiceLoads(run, inventory, self.centre.level_two.apply_services)
        self.shared = SharedData(store, self._snapshot)
        self.channels = Channels(store)
        self.placebo = Placebo(inventory.seed) if inventory.policy == "placebo" else None

    @property
    def inventory(self) -> Inventory:
        """What the emulation built, with the slices of the moment."""
        return self.enforcer.inventory

    def _snapshot(self) -> Snapshot:
        """What is published in the shared data layer, as it is now."""
        twins, xapps = self.centre.level_two, self.xapps.documents()
        strategies = {
            str(s.s_nssai): self.strategies.methods(s.slice_id, xapps)
            for s in self.inventory.slices
        }
        return [*twins.slices.values(), *twins.cells.values()], strategies, xapps

    def _settings_of(self, user: User) -> TwinSettings:
        return self.twin_control.settings(user, self.enforcer.attachments()[user.ue_id])

    async def _decide(self, request: DecisionRequest) -> Decided:
        return await self.pipeline.decide(request, trusted=True)

    async def read_counters(self) -> CounterSample:
        return await self.enforcer.sample()

    async def _counted(self, sample: CounterSample) -> None:
        self.centre.count(sample)
        self.whatif.count(sample)
        await self.effects.on_sample(sample)
        self.schedules.on_sample(sample)
        await self.requests.advance(time.time_ns())
        await self.links.advance()

    async def _user_evidence(self, ue_id: str, confirmed_ns: int) -> UserEvidence | None:
        return await self.user_twins.evidence(ue_id, confirmed_ns, self.enforcer.attachments())

    def with_strategy(self, ue_id: str, twin: dict[str, Any]) -> dict[str, Any]:
        """A user's twin with what was decided about the user, if there was anything to decide."""
        places = self.user_decisions.places(ue_id)
        return {**twin, "strategy": {"offloading": places}} if places else twin

    async def _changed_users(self, since_ns: int) -> dict[str, dict[str, Any]]:
        changed = await self.user_twins.changed(since_ns)
        return {ue_id: self.with_strategy(ue_id, twin) for ue_id, twin in changed.items()}

    def _xapp_ended(self, name: str) -> None:
        self.centre.stream.close(name)
        self.policies.forget(name)

    def _slices_changed(self) -> None:
        self.centre.keep_slices(self.inventory)
        self.access.keep(self.inventory)
        for cell in self.inventory.cells:
            self.show_reservations(cell.cell_id)

    def _applied(self, applied: Applied) -> None:
        record, intent = applied.record, applied.intent
        confirmed_ns = record.hops_ns["confirmed"]
        if isinstance(intent, ReserveIntent):
            changed = {c.slice_id for c in intent.changes}
            self.strategies.note(record, changed, confirmed_ns)
            for slice_id, kbps in intent.predicted_kbps.items():
                self.centre.predict(intent.cell_id, slice_id, kbps, record.xapp, confirmed_ns)
        if not self.pipeline.replayed:
            self._follow(applied, confirmed_ns)
        self._publish_decision(record.decision_id)

    def _follow(self, applied: Applied, confirmed_ns: int) -> None:
        """What was enforced is shown, told to others, and watched for its effect."""
        record, intent = applied.record, applied.intent
        if isinstance(intent, ReserveIntent):
            self.show_reservations(intent.cell_id)
            self.effects.watch_reservation(
                record.decision_id,
                intent.cell_id,
                applied.before.reservations if applied.before else {},
                [shaped(change) for change in intent.changes],
                record.hops_ns["guarded"],
                confirmed_ns,
            )
        elif isinstance(intent, SliceIntent):
            self._watch_slice(record.decision_id, intent, confirmed_ns)
        elif isinstance(intent, ScheduleIntent):
            self.schedules.watch(watched_schedule(record, intent))
        elif isinstance(intent, OffloadIntent):
            self.requests.watch(intent.target, offload_window(record))
        elif isinstance(intent, AdaptLinkIntent):
            self.links.watch(record)
        elif isinstance(intent, MigrateTwinIntent):
            # Its confirmation is the reading of what arrived.
            self._judged(record.decision_id, Effect.VERIFIED, {})
        elif isinstance(intent, MigrateIntent):
            self.requests.watch(intent.target, self.migrations.window(record))
        elif isinstance(intent, HandoverIntent):
            self.migrations.whereabouts.moved(intent.ue_id, intent.cell_id, confirmed_ns)
            self.links.end(intent.ue_id, "handed over before its link could be measured")
            self.notices.announce(intent.ue_id, intent.cell_id)
            self.effects.watch_handover(
                record.decision_id, intent.ue_id, intent.cell_id, confirmed_ns
            )

    def _repaired(self, kind: str, where: str, detail: str) -> None:
        self.audit.note("repair", "enforcement", kind=kind, where=where, detail=detail)

    def _watch_slice(self, decision_id: str, intent: SliceIntent, confirmed_ns: int) -> None:
        slice_id = self.slices.slice_id(str(intent.s_nssai))
        cells = intent.cells or frozenset(c.cell_id for c in self.inventory.cells)
        self.effects.watch_presence(
            WatchedPresence(decision_id, slice_id, cells, intent.wanted, confirmed_ns)
        )

    def _judged(self, decision_id: str, effect: Effect, detail: dict[str, Any]) -> None:
        self.decisions.judge(decision_id, effect, detail)
        self._publish_decision(decision_id)

    def add_detail(self, decision_id: str, name: str, detail: dict[str, Any]) -> None:
        """More of a decision's effect, once it is judged."""
        record = self.decisions.get(decision_id)
        if record is not None and record.effect is not Effect.PENDING:
            self.decisions.add_detail(decision_id, name, detail)
            self._publish_decision(decision_id)

    def _publish_decision(self, decision_id: str) -> None:
        record = self.decisions.get(decision_id)
        if record is not None:
            self._publish({"kind": "decision", "id": decision_id, **record.model_dump(mode="json")})

    def _publish(self, event: Event) -> None:
        self.centre.stream.publish(event, time.time_ns())

    def show_reservations(self, cell_id: str) -> None:
        """The enforced reservations into the twins."""
        reservations = self.enforcer.reservations(cell_id)
        self.centre.level_two.apply_reservations(cell_id, reservations, time.time_ns())

    def alarms(self) -> list[str]:
        """What is wrong right now, one line each."""
        xapps = self.xapps.documents()
        failed = [f"xApp {x['xapp_name']} {x['reason']}" for x in xapps if x["state"] == "failed"]
        listed = {x["descriptor_dir"] for x in xapps}
        # What is listed was deployed by hand since, or failed in its own words.
        refused = [line for where, line in self.progress.problems.items() if where not in listed]
        lines = (self._decision_lines, self._audit_lines)
        control = (self.twin_control, self.slices, self.budget, self.policies)
        keepers = (*lines, self.poller, self.shared, *control)
        ours = [keeper.alarm for keeper in keepers if keeper.alarm is not None]
        return [*failed, *refused, *self.enforcer.alarms(), *ours]

    @property
    def lost_lines(self) -> int:
        return self._decision_lines.lost_lines + self._audit_lines.lost_lines

    def status(self) -> dict[str, Any]:
        """Answer of the op `status`."""
        return {
            "ready": self.progress.ready,
            "deployed": self.progress.deployed,
            "problems": list(self.progress.problems.values()),
            "pid": os.getpid(),
            "run_id": self.inventory.run_id,
            "policy": self.inventory.policy,
            "uptime_s": (time.time_ns() - self.progress.started_at_ns) / 1e9,
            "connected": self.enforcer.connected_switches(),
            "xapps": self.xapps.documents(),
            "alarms": self.alarms(),
            "decisions": self.decisions.counts(),
            "effects_open": sum(
                w.open_count for w in (self.effects, self.schedules, self.requests, self.links)
            ),
            "aggregates": {
                "accepted": self.centre.accepted,
                "refused": dict(self.centre.refused),
                "bytes": self.centre.bytes_received,
            },
            "stream": {
                "consumers": len(self.centre.stream.subscriptions),
                "dropped": self.centre.stream.dropped,
            },
            "unreached": dict(self.notices.unreached),
            "counter_failures": self.poller.failures,
            "lost_lines": self.lost_lines,
        }

    def flush(self, folder: Path) -> list[str]:
        """Writes the run's tables (`tables`); returns their paths."""
        return flush_tables(self, folder)

    def close(self) -> None:
        self.decisions.write_pending()
        self.notices.close()
        self.slices.close()
        self.user_twins.close()
        self.service_loads.close()
        self.shared.close()
        self.user_decisions.close()
        self.twin_control.close()
        self.budget.close()
        self._decision_lines.close()
        self._audit_lines.close()

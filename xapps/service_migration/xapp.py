"""service-migration: a vehicle's service (and a copy of its twin) is there before the vehicle is.

A thin shell: user twins -> features -> model -> strategy (all pure) -> decisions.  A
migration is answered when it is done, so each runs in a thread with a connection of its own.
Settings and strategies: README.md.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from features import Track, features, is_complete, observed, usual_s
from holon_xapp import (
    Decision,
    Model,
    Order,
    SettingsError,
    Unreachable,
    UserEvent,
    Xapp,
    XappError,
    migrate,
    migrate_twin,
)
from network import Network, Service, network_of, services_of
from strategies import STRATEGIES, Move, Policy, Residence, Scene

MODEL = "residence_forecast"
UNTIL_SCALE_S, STAY_SCALE_S = 10.0, 20.0
REFRESH_S = 2.0
"""Services may also be moved by others."""

log = logging.getLogger("service-migration")


class ServiceMigration:
    """State of users and services, and the loop's one step."""

    def __init__(self, xapp: Xapp, policy: Policy, strategy: str, model: Model | None) -> None:
        self._xapp = xapp
        self._policy = policy
        self._strategy = STRATEGIES[strategy]
        self._model = model
        self._network: Network = network_of(xapp.cell_list(), xapp.topology())
        self._services: dict[str, Service] = {}
        self._refreshed_s = -REFRESH_S
        self._tracks: dict[str, Track] = {}
        self._events: dict[str, UserEvent] = {}
        self._residences: dict[tuple[str, str], Residence] = {}
        self._costs: dict[str, tuple[float, int]] = {}
        """Of each service's newest migration: seconds, bytes on the wire."""
        self._wishes: dict[str, tuple[str, int]] = {}
        """Host that forecasts agree on, and how many in a row."""
        self._quiet_until_s: dict[str, float] = {}
        self._moving: set[str] = set()

    def on_user(self, event: UserEvent) -> None:
        self._tracks[event.ue_id] = observed(self._tracks.get(event.ue_id, Track()), event)
        self._events[event.ue_id] = event
        is_forecast = self._forecast(event)
        if self._model is not None and not is_forecast:
            return
        self._refresh()
        for service in self._services.values():
            if event.ue_id in service.users:
                self._consider(service, event)

    def _forecast(self, event: UserEvent) -> bool:
        """Whether the event had all that the model reads."""
        cells = list(self._network.cells)
        places_m = {c.cell_id: c.place_m for c in self._network.cells.values()}
        if self._model is None or not is_complete(event, cells, places_m):
            return False
        rows = features(self._tracks[event.ue_id], event, cells, places_m)
        until, stay = self._model(features=rows)
        for row, cell_id in enumerate(cells):
            self._residences[event.ue_id, cell_id] = Residence(
                _seconds(until[row], UNTIL_SCALE_S),
                _seconds(stay[row], STAY_SCALE_S),
                usual_s(self._tracks[event.ue_id], cell_id),
            )
        return True

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed_s >= REFRESH_S:
            found = services_of(self._xapp.services())
            self._services = {name: self._with_cost(s) for name, s in found.items()}
            self._refreshed_s = time.monotonic()

    def _with_cost(self, service: Service) -> Service:
        if service.name not in self._costs:
            return service
        took_s, wire_bytes = self._costs[service.name]
        return replace(service, took_s=took_s, wire_bytes=wire_bytes)

    def _agreed(self, service: Service, move: Move | None) -> bool:
        """Whether as many forecasts in a row as the policy asks for want this move."""
        if move is None:
            self._wishes.pop(service.name, None)
            return False
        host, count = self._wishes.get(service.name, ("", 0))
        count = count + 1 if host == move.host else 1
        self._wishes[service.name] = move.host, count
        return count >= self._policy.agreeing

    def _consider(self, service: Service, event: UserEvent) -> None:
        is_quiet = time.monotonic() < self._quiet_until_s.get(service.name, 0.0)
        if service.name in self._moving or is_quiet:
            return
        users = [self._events[u] for u in service.users if u in self._events]
        scene = Scene(self._network, service, users, self._residences)
        move = self._strategy(self._policy, scene)
        if self._model is not None and not self._agreed(service, move):
            return
        if move is None:
            return
        self._moving.add(service.name)
        threading.Thread(
            target=self._carry_out, args=(service, move, event, time.time_ns()), daemon=True
        ).start()

    def _carry_out(
        self, service: Service, move: Move, event: UserEvent, inferred_at_ns: int
    ) -> None:
        """In a thread of its own; only dictionary entries of this service are written here."""
        own = Xapp(self._xapp.settings, self._xapp.folder)
        try:
            if move.ahead is not None:
                order = migrate_twin(*move.ahead).answering(event, inferred_at_ns)
                self._report(own, order, f"twin of {move.ahead[0]} -> {move.ahead[1]}")
            order = migrate(service.name, move.host).answering(event, inferred_at_ns)
            decision = self._report(own, order, f"{service.name} -> {move.host} ({move.reason})")
            if decision is not None and decision.is_applied:
                cost = decision.record["effect_detail"]
                took_s, wire_bytes = float(cost["duration_ms"]) / 1000, int(cost["wire_bytes"])
                self._costs[service.name] = took_s, wire_bytes
                moved = replace(service, host=move.host)
                self._services[service.name] = self._with_cost(moved)
        finally:
            own.close()
            pause_s = self._policy.pause_s if self._model is not None else 0.5
            self._quiet_until_s[service.name] = time.monotonic() + pause_s
            self._moving.discard(service.name)

    def _report(self, own: Xapp, order: Order, words: str) -> Decision | None:
        try:
            decision = own.decide(order)
        except XappError as error:
            log.error("%s not decided: %s", words, error)
            return None
        if decision.is_applied:
            detail = decision.record.get("effect_detail", {})
            took_ms = float(detail.get("downtime_ms", detail.get("duration_ms", 0.0)))
            log.info("%s applied, down or under way for %.0f ms", words, took_ms)
        else:
            log.warning("%s %s: %s", words, decision.verdict, decision.reason)
        return decision


def _seconds(quantiles: np.ndarray, scale_s: float) -> tuple[float, float, float]:
    low, middle, high = (float(q) * scale_s for q in quantiles)
    return low, middle, high


def configured(xapp: Xapp) -> ServiceMigration:
    """Raises `XappError` for what keeps it from working."""
    config = dict(xapp.settings.config)
    strategy = str(config.pop("strategy", "forecast"))
    if strategy not in STRATEGIES:
        raise SettingsError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    policy = Policy.from_config(config)
    model = xapp.model(MODEL) if strategy == "forecast" else None
    return ServiceMigration(xapp, policy, strategy, model)


def main() -> int:
    try:
        xapp = Xapp.from_environment(Path(__file__).resolve().parent)
        service_migration = configured(xapp)
        gc.freeze()  # what stands now lives as long as the process: never walk it again
        xapp.ready()
        for event in xapp.users():
            try:
                service_migration.on_user(event)
            except Unreachable as error:
                log.warning("not considered: %s", error)
    except (XappError, ValueError) as error:
        print(f"service-migration: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Task services and their migrations in summary.json. Pure.

Latency is from the client's clock before sending to the kernel's arrival stamp, per
request; a request without a reply within its timeout is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.contracts.decisions import Action, DecisionRecord, Verdict
from controller.contracts.inventory import Inventory
from topologies.results.percentiles import percentiles

_NAMES = ("p50", "p95", "p99")
AFTER_NS = 1_000_000_000
"""Requests of this time after a migration still count as its own."""


def service_figures(requests: Mapping[str, Any], inventory: Inventory) -> list[dict[str, Any]]:
    """One entry a task service that was asked; `by_host` compares edge and cloud."""
    kinds = {h.name: h.kind for h in inventory.hosts}
    rows: Sequence[Mapping[str, Any]] = requests.get("rows", [])
    found = []
    for service in inventory.services:
        own = [r for r in rows if r["service"] == service.name]
        if service.kind != "task" or not own:
            continue
        hosts = sorted({r["host"] for r in own if r["host"]})
        found.append(
            {
                "name": service.name,
                **_figures(own),
                "state_regressions": requests["regressions"].get(service.name, 0),
                "by_host": [
                    {"host": h, "kind": kinds[h], **_figures([r for r in own if r["host"] == h])}
                    for h in hosts
                ],
            }
        )
    return found


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    answered = [r["latency_ms"] for r in rows if r["latency_ms"] is not None]
    return {
        "requests": len(rows),
        "lost": len(rows) - len(answered),
        "latency_ms": percentiles(answered, _NAMES),
    }


def migration_figures(
    decisions: Iterable[DecisionRecord], requests: Mapping[str, Any]
) -> dict[str, Any]:
    """Of every applied `migrate`; lost requests are those sent from its begin to 1 s after it."""
    rows: Sequence[Mapping[str, Any]] = requests.get("rows", [])
    each = [
        _migration(record, rows)
        for record in decisions
        if record.action is Action.MIGRATE and record.verdict is Verdict.APPLIED
    ]
    return {
        "count": len(each),
        "downtime_ms": percentiles([m["downtime_ms"] for m in each], _NAMES),
        "state_bytes": sum(m["state_bytes"] for m in each),
        "bytes_on_wire": sum(m["bytes_on_wire"] for m in each),
        "lost_requests": sum(m["lost_requests"] for m in each),
        "each": each,
    }


def _migration(record: DecisionRecord, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    measured = record.effect_detail
    begun_ns = record.hops_ns["guarded"]
    until_ns = record.hops_ns["confirmed"] + AFTER_NS
    during = [
        r
        for r in rows
        if r["service"] == record.target["service"] and begun_ns <= r["sent_ns"] < until_ns
    ]
    answered = [r["latency_ms"] for r in during if r["latency_ms"] is not None]
    return {
        "service": record.target["service"],
        "from": measured["source"],
        "to": measured["target"],
        "begun_ns": begun_ns,
        "duration_ms": (record.hops_ns["confirmed"] - begun_ns) / 1e6,
        "downtime_ms": measured["downtime_ms"],
        "rounds": len(measured["rounds"]),
        "state_bytes": measured["state_bytes"],
        "bytes_on_wire": measured["wire_bytes"],
        "requests": len(during),
        "lost_requests": len(during) - len(answered),
        "latency_max_ms": max(answered, default=None),
    }

"""User twins on the stream: only while somebody reads, only what changed, only what it may read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.audit import AppendOnlyLog, Audit
from controller.ric import user_stream
from controller.ric.access import Access
from controller.ric.callers import Caller
from controller.ric.placebo import POOL_SAMPLES, Placebo
from controller.ric.stream import Filter, StreamHub, Subscription
from controller.ric.user_stream import UserTwinFeed
from tests.sample_inventory import sample_inventory


def twin(ue_id: str, version: int, made_at: int = 0) -> dict[str, Any]:
    predicted = {"predicted": {"made_at": made_at}} if made_at else {}
    return {"id": ue_id, "version": version, "user": {"location_m": predicted}}


class Edges:
    """What they answer, in turn; nothing more afterwards."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def changed(self, since_ns: int) -> Mapping[str, dict[str, Any]]:
        self.asked += 1
        return {t["id"]: t for t in (self.answers.pop(0) if self.answers else [])}


def published(edges: Edges, kind: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    monkeypatch.setattr(user_stream, "POLL_S", 0.001)
    hub = StreamHub()
    seen: list[tuple[str, int]] = []
    hub.listeners.append(lambda event: seen.append((event["id"], event["version"])))

    async def play() -> None:
        hub.subscribe(Subscription("x", Filter(kind)))
        feed = asyncio.create_task(UserTwinFeed(edges.changed, hub).run())
        while edges.answers and (kind == "user" or len(edges.answers) < edges.asked):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        feed.cancel()

    asyncio.run(play())
    return seen


def test_every_change_is_published_once_and_never_backwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = Edges(
        [twin("a", 1), twin("b", 7)],
        [twin("a", 1, made_at=5)],
        [twin("a", 1, made_at=5)],
        [twin("b", 6)],
        [twin("a", 2)],
    )
    assert published(edges, "user", monkeypatch) == [("a", 1), ("b", 7), ("a", 1), ("a", 2)]


def test_nobody_is_asked_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = Edges()
    assert published(edges, "cell", monkeypatch) == []
    assert edges.asked == 0


def test_the_placebo_shuffles_users_among_themselves() -> None:
    placebo = Placebo(3)
    events = [
        {"kind": "user", "id": f"u{i}", "version": i, "user": {"place": i}, "connectivity": {}}
        for i in range(3 * POOL_SAMPLES)
    ]
    shown = [placebo.event(e) for e in events]
    assert [e["id"] for e in shown] == [e["id"] for e in events]
    moved = sum(e["user"] != s["user"] for e, s in zip(events, shown, strict=True))
    assert moved > 0.9 * len(events)


def test_a_token_of_a_slice_sees_only_its_users(tmp_path: Path) -> None:
    inventory = sample_inventory()
    audit = Audit(AppendOnlyLog(tmp_path / "audit.jsonl"))
    nothing_hidden: Any = SimpleNamespace(attributes={}, hidden=frozenset())
    access = Access(inventory, audit, lambda _: nothing_hidden, lambda _: nothing_hidden)
    own, other = inventory.slices[:2]
    member = next(u for u in inventory.users if [s.slice_id for s in u.sessions] == [own.slice_id])
    event = {"kind": "user", "id": member.ue_id, "connectivity": {}, "user": {}, "services": {}}
    may = Caller("x", frozenset({"read"}), slices=frozenset({str(own.s_nssai)}))
    may_not = Caller("y", frozenset({"read"}), slices=frozenset({str(other.s_nssai)}))
    assert access.event(may, event) is not None
    assert access.event(may_not, event) is None

"""Moves of services judged by their requests: sooner or later than they would have been served."""

from __future__ import annotations

import asyncio
from typing import Any

from controller.contracts.decisions import Effect
from controller.ric.migration_effect import (
    Whereabouts,
    judge_migration,
    judge_offload,
    ways_ms,
)
from controller.ric.request_effects import RequestWatch, Window
from tests.planned_network import planned_inventory
from topologies.scenario.loader import load

WAYS = {
    ("west", "edge1"): 0.0,
    ("west", "edge2"): 24.0,
    ("east", "edge1"): 24.0,
    ("east", "edge2"): 0.0,
}
OWN_MS = 0.8
S = 1_000_000_000


def rows(cell: str, host: str, count: int = 20, **changes: Any) -> list[dict[str, Any]]:
    latency_ms = WAYS[cell, host] + OWN_MS
    return [{"ue_id": cell, "sent_ns": 0, "latency_ms": latency_ms, **changes}] * count


def judged(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Effect:
    """Users are named after the cell they are in."""
    return judge_migration("edge1", before, after, lambda ue_id, _: ue_id, WAYS).effect


def test_a_move_ahead_of_a_handover_is_verified_though_the_latency_stays_the_same() -> None:
    assert judged(rows("west", "edge1"), rows("east", "edge2")) is Effect.VERIFIED


def test_a_move_after_a_handover_is_verified() -> None:
    assert judged(rows("east", "edge1"), rows("east", "edge2")) is Effect.VERIFIED


def test_a_move_away_from_its_users_is_refuted() -> None:
    assert judged(rows("west", "edge1"), rows("west", "edge2")) is Effect.REFUTED


def test_a_busy_target_is_refuted_though_it_is_nearer() -> None:
    slow = rows("east", "edge2", latency_ms=60.0)
    assert judged(rows("east", "edge1"), slow) is Effect.REFUTED


def test_users_on_both_sides_cancel_out() -> None:
    both = rows("west", "edge2") + rows("east", "edge2")
    before = rows("west", "edge1") + rows("east", "edge1")
    assert judged(before, both) is Effect.NOT_EXERCISED


def test_without_answers_before_or_after_nothing_is_known() -> None:
    lost = rows("east", "edge2", latency_ms=None)
    assert judged([], rows("east", "edge2")) is Effect.NOT_EXERCISED
    assert judged(rows("west", "edge1"), lost) is Effect.NOT_EXERCISED


def test_whereabouts_know_the_cell_of_a_moment() -> None:
    where = Whereabouts({"car": "west"})
    where.moved("car", "east", 100)
    where.moved("car", "west", 200)
    assert [where.cell("car", at) for at in (50, 100, 150, 250)] == ["west", "east", "east", "west"]


def test_ways_follow_the_configured_delays_and_never_the_air() -> None:
    ways = ways_ms(planned_inventory(load("border", []).model_dump(mode="json")))
    assert ways["west", "edge1"] == 0
    assert ways["west", "edge2"] == 24
    assert ways["east", "cloud"] == 36


def offloaded(before_ms: float | None, after_ms: float | None) -> Effect:
    def rows_of(latency_ms: float | None) -> list[dict[str, Any]]:
        own = {"ue_id": "car", "sent_ns": 0, "latency_ms": latency_ms}
        return [own, {**own, "ue_id": "other", "latency_ms": 500.0}] * 20

    return judge_offload("car", rows_of(before_ms), rows_of(after_ms)).effect


def test_offloading_is_judged_by_the_users_own_requests() -> None:
    assert offloaded(36.0, 12.0) is Effect.VERIFIED
    assert offloaded(12.0, 36.0) is Effect.REFUTED
    assert offloaded(12.0, 12.5) is Effect.NOT_EXERCISED
    assert offloaded(12.0, None) is Effect.REFUTED, "nothing was answered any more"
    assert offloaded(None, 12.0) is Effect.NOT_EXERCISED


def test_a_newer_decision_ends_the_window_of_an_older_one() -> None:
    heard: list[tuple[str, Effect]] = []
    asked: list[tuple[str, int, int]] = []

    async def requests(service: str, since_ns: int, until_ns: int) -> list[dict[str, Any]]:
        asked.append((service, since_ns, until_ns))
        return rows("east", "edge1" if until_ns <= 10 * S else "edge2")

    def window(name: str, begun_s: int, confirmed_s: int) -> Window:
        return Window(
            name, "assist", begun_s * S, confirmed_s * S, (confirmed_s + 6) * S,
            lambda before, after: judge_migration(
                "edge1", before, after, lambda ue_id, _: ue_id, WAYS
            ),
        )  # fmt: skip

    watch = RequestWatch(
        requests, lambda decision_id, effect, _: heard.append((decision_id, effect))
    )

    async def play() -> None:
        watch.watch("service:assist", window("short", 8, 9))
        watch.watch("service:assist", window("long", 10, 12))
        await watch.advance(12 * S)
        assert heard == [] or heard == [("short", Effect.NOT_EXERCISED)]
        await watch.advance(20 * S)

    asyncio.run(play())
    assert dict(heard)["long"] is Effect.VERIFIED
    assert ("assist", 9 * S, 10 * S) in asked, "its window ended where the next move began"
    assert watch.open_count == 0

"""The judge of effects: exercised or not, verified or refuted, and when a window ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.contracts.decisions import Effect
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.ric.effects import CounterPoller, EffectWatch, wait_s
from controller.ric.judgement import (
    InForce,
    UserEvidence,
    combined,
    judge_handover,
    judge_reservation,
)
from controller.ric.measurement import ClassCount, ClassRate, CounterSample, class_rate

ELASTIC = TrafficClass.ELASTIC
KEY = ("ap1", 1, ELASTIC)
SECOND_NS = 1_000_000_000


def held(min_kbps: int, max_kbps: int = 20_000) -> Reservation:
    return Reservation(slice_id=1, traffic_class=ELASTIC, min_kbps=min_kbps, max_kbps=max_kbps)


@pytest.mark.parametrize(
    ("old_min", "new", "arrived", "delivered", "effect"),
    [
        (8000, held(12_000), 7000.0, 7000.0, Effect.NOT_EXERCISED),
        (8000, held(12_000), 8000.0, 100.0, Effect.NOT_EXERCISED),
        (8000, held(12_000), 11_000.0, 11_000.0, Effect.VERIFIED),
        (8000, held(12_000), 15_000.0, 12_000.0, Effect.VERIFIED),
        (8000, held(12_000), 15_000.0, 11_400.0, Effect.VERIFIED),
        (8000, held(12_000), 15_000.0, 11_399.0, Effect.REFUTED),
        (8000, held(12_000), 15_000.0, 8000.0, Effect.REFUTED),
        (8000, held(12_000), 9000.0, 8500.0, Effect.REFUTED),
        (8000, held(1000, 4000), 4000.0, 4000.0, Effect.VERIFIED),
        (8000, held(1000, 4000), 6000.0, 4300.0, Effect.VERIFIED),
        (8000, held(1000, 4000), 6000.0, 5000.0, Effect.REFUTED),
        (8000, held(1000, 4000), 3999.0, 3999.0, Effect.NOT_EXERCISED),
    ],
)
def test_reservations(
    old_min: int, new: Reservation, arrived: float, delivered: float, effect: Effect
) -> None:
    rate = ClassRate(2.0, arrived, delivered)
    assert judge_reservation(InForce.by(old_min, new), rate).effect is effect


def test_without_counters_nothing_is_claimed() -> None:
    for rate in (None, ClassRate(2.0, 9000.0, None)):
        judgement = judge_reservation(InForce.by(8000, held(12_000)), rate)
        assert judgement.effect is Effect.NOT_EXERCISED
        assert judgement.detail["reason"]


def evidence(**fields: Any) -> UserEvidence:
    return UserEvidence(
        **{"delivered_bytes": None, **fields},
    )


@pytest.mark.parametrize(
    ("seen", "elapsed_ms", "effect"),
    [
        (evidence(delivered_bytes=100), 100, Effect.VERIFIED),
        (evidence(delivered_bytes=0), 100, None),
        (evidence(reported_cell_id="ap2", goodput_kbps=5.0, demand_kbps=5.0), 900, Effect.VERIFIED),
        (evidence(reported_cell_id="ap1", goodput_kbps=5.0, demand_kbps=5.0), 900, None),
        (evidence(reported_cell_id="ap1", goodput_kbps=5.0, demand_kbps=5.0), 2000, Effect.REFUTED),
        (evidence(reported_cell_id="ap2", goodput_kbps=0.0, demand_kbps=5.0), 2000, Effect.REFUTED),
        (
            evidence(reported_cell_id="ap2", goodput_kbps=0.0, demand_kbps=0.0),
            2000,
            Effect.NOT_EXERCISED,
        ),
        (evidence(), 2000, Effect.NOT_EXERCISED),
    ],
)
def test_handovers(seen: UserEvidence, elapsed_ms: float, effect: Effect | None) -> None:
    judgement = judge_handover("ap2", seen, elapsed_ms, 2000)
    assert (judgement.effect if judgement else None) is effect


def test_one_refuted_part_refutes_the_plan() -> None:
    n, v, r = Effect.NOT_EXERCISED, Effect.VERIFIED, Effect.REFUTED
    assert combined([n, v, r]) is r
    assert combined([n, v, n]) is v
    assert combined([n, n]) is n


def sample(at_s: float, arrived: int, delivered: int | None, user_bytes: int | None = None) -> Any:
    users = {} if user_bytes is None else {("ue1", "ap2"): user_bytes}
    counts = {KEY: ClassCount(arrived, delivered)}
    return CounterSample(int(at_s * SECOND_NS), counts, users)


def test_rates_are_of_differences() -> None:
    rate = class_rate(sample(1, 1000, 500), sample(3, 251_000, 125_500), KEY)
    assert rate == ClassRate(2.0, 1000.0, 500.0)
    assert class_rate(sample(1, 1000, 500), sample(3, 0, 600), KEY) is None
    assert class_rate(sample(1, 1000, 500), sample(3, 2000, 0), KEY) is None
    assert class_rate(sample(1, 0, 0), sample(1, 9, 9), KEY) is None
    assert class_rate(sample(1, 0, 0), sample(2, 9, 9), ("ap2", 1, ELASTIC)) is None


class Scene:
    """An `EffectWatch` fed with constant rates; `ended` collects what it judged."""

    def __init__(self, reported: UserEvidence | None = None) -> None:
        self.ended: dict[str, tuple[Effect, dict[str, Any]]] = {}
        self.asked: list[str] = []

        def finished(decision_id: str, effect: Effect, detail: dict[str, Any]) -> None:
            assert decision_id not in self.ended, "judged twice"
            self.ended[decision_id] = (effect, detail)

        async def user(ue_id: str, confirmed_ns: int) -> UserEvidence | None:
            self.asked.append(ue_id)
            return reported

        self.watch = EffectWatch(finished, user)

    def reserve(self, name: str, at_s: float, old: Reservation, new: Reservation) -> None:
        at_ns = int(at_s * SECOND_NS)
        old_by_key = {(1, ELASTIC): old}
        self.watch.watch_reservation(name, "ap1", old_by_key, [new], at_ns, at_ns)

    def poll(self, at_s: float, demand_kbps: float, delivered_kbps: float) -> None:
        counted = (int(at_s * kbps * 125) for kbps in (demand_kbps, delivered_kbps))
        asyncio.run(self.watch.on_sample(sample(at_s, *counted)))

    def poll_until(self, start_s: float, end_s: float, *rates_kbps: float) -> None:
        ticks = round((end_s - start_s) / 0.5)
        for tick in range(ticks + 1):
            self.poll(start_s + tick * 0.5, *rates_kbps)


def test_a_window_is_two_seconds_of_counters_after_the_confirmation() -> None:
    scene = Scene()
    scene.reserve("d1", 10.1, held(8000), held(12_000))
    scene.poll_until(9.5, 12.0, 15_000, 12_000)
    assert scene.ended == {}
    scene.poll(12.5, 15_000, 12_000)
    effect, detail = scene.ended["d1"]
    assert effect is Effect.VERIFIED
    numbers = detail["classes"]["1/elastic"]
    assert (numbers["window_s"], numbers["demand_kbps"]) == (2.0, 15_000)
    assert scene.watch.open_count == 0


def test_a_further_change_ends_the_window_early() -> None:
    scene = Scene()
    scene.reserve("d1", 10.0, held(8000), held(12_000))
    scene.poll_until(10.0, 11.0, 15_000, 12_000)
    scene.reserve("d2", 11.2, held(12_000), held(14_000))
    scene.poll(11.5, 15_000, 14_000)
    assert scene.ended["d1"][0] is Effect.VERIFIED
    assert scene.ended["d1"][1]["classes"]["1/elastic"]["window_s"] == 1.0
    assert "d2" not in scene.ended


@pytest.mark.parametrize(
    ("second", "delivered", "effect"),
    [
        (held(14_000), 12_500, Effect.VERIFIED),
        (held(14_000), 11_000, Effect.REFUTED),
        (held(10_000), 9900, Effect.VERIFIED),
        (held(10_000), 9000, Effect.REFUTED),
        (held(8000), 1000, Effect.NOT_EXERCISED),
    ],
)
def test_a_change_too_soon_shares_the_window_with_its_weaker_terms(
    second: Reservation, delivered: int, effect: Effect
) -> None:
    scene = Scene()
    scene.reserve("d1", 10.0, held(8000), held(12_000))
    scene.poll_until(10.0, 10.5, 15_000, delivered)
    scene.reserve("d2", 10.6, held(12_000), second)
    scene.poll_until(11.0, 12.0, 15_000, delivered)
    assert scene.ended["d1"][0] is effect
    assert "d2" not in scene.ended


def test_an_xapp_that_plans_twice_a_second_is_judged_all_the_same() -> None:
    scene = Scene()
    before = held(8000)
    for step in range(6):
        now = held(8500 + 500 * step)
        scene.reserve(f"d{step}", 10 + step / 2, before, now)
        scene.poll(10.05 + step / 2, 15_000, 12_000)
        before = now
    assert scene.ended["d0"][0] is Effect.VERIFIED
    assert scene.ended["d0"][1]["classes"]["1/elastic"]["window_s"] == 1.0
    assert {"d1", "d2"} <= scene.ended.keys()


def test_repeating_a_reservation_neither_ends_a_window_nor_opens_one() -> None:
    scene = Scene()
    scene.reserve("d1", 10.0, held(8000), held(12_000))
    scene.reserve("d2", 10.5, held(12_000), held(12_000))
    assert scene.ended["d2"][0] is Effect.NOT_EXERCISED
    scene.poll_until(10.0, 12.0, 15_000, 12_000)
    assert scene.ended["d1"][0] is Effect.VERIFIED


def test_a_class_that_is_not_counted_claims_nothing() -> None:
    scene = Scene()
    scene.reserve("d1", 10.0, held(8000), held(12_000))
    for at_s in (10.0, 11.0, 12.0):
        empty = CounterSample(int(at_s * SECOND_NS), {}, {})
        asyncio.run(scene.watch.on_sample(empty))
    assert scene.ended["d1"][0] is Effect.NOT_EXERCISED


def handed_over(scene: Scene, *polls: tuple[float, int | None]) -> Effect | None:
    scene.watch.watch_handover("h1", "ue1", "ap2", 10 * SECOND_NS)
    for at_s, user_bytes in polls:
        asyncio.run(scene.watch.on_sample(sample(at_s, 0, 0, user_bytes)))
    return scene.ended["h1"][0] if "h1" in scene.ended else None


def test_a_handover_is_verified_by_the_users_bytes_in_the_new_cell() -> None:
    scene = Scene()
    assert handed_over(scene, (9.9, 500), (10.1, 500), (10.5, 500)) is None
    assert handed_over(Scene(), (9.9, 500), (10.1, 500), (10.5, 900)) is Effect.VERIFIED
    assert handed_over(Scene(), (10.1, None), (10.5, 900)) is Effect.VERIFIED


def test_a_handover_without_demand_or_without_delivery() -> None:
    assert handed_over(Scene(), (10.1, 5), (12.1, 5)) is Effect.NOT_EXERCISED
    starved = UserEvidence(None, "ap2", demand_kbps=900.0, goodput_kbps=0.0)
    assert handed_over(Scene(starved), (10.1, 5), (12.1, 5)) is Effect.REFUTED
    served = UserEvidence(None, "ap2", demand_kbps=900.0, goodput_kbps=800.0)
    assert handed_over(Scene(served), (10.6, None)) is Effect.VERIFIED


def test_a_second_handover_ends_the_watch_of_the_first() -> None:
    scene = Scene()
    handed_over(scene, (10.1, 5))
    scene.watch.watch_handover("h2", "ue1", "ap1", 11 * SECOND_NS)
    assert scene.ended["h1"][0] is Effect.NOT_EXERCISED
    assert scene.watch.open_count == 1


def test_the_poller_outlives_failures() -> None:
    async def play() -> None:
        answers: list[CounterSample | Exception] = [
            sample(1, 0, 0),
            OSError("no switch"),
            sample(2, 0, 0),
        ]
        seen: list[int] = []

        async def read() -> CounterSample:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def consume(taken: CounterSample) -> None:
            seen.append(taken.taken_at_ns)

        poller = CounterPoller(read, consume)
        running = asyncio.ensure_future(poller.run())
        while poller.failures == 0:
            await asyncio.sleep(0.005)
        alarms = [poller.alarm]
        while len(seen) < 2:
            await asyncio.sleep(0.005)
        assert poller.failures == 1
        assert [*alarms, poller.alarm] == ["counters: no switch", None]
        running.cancel()

    asyncio.run(asyncio.wait_for(play(), 5))


@pytest.mark.parametrize(("now_s", "expected_s"), [(10.0, 0.3), (10.3, 0.5), (10.7, 0.1)])
def test_polls_keep_away_from_the_start_of_a_report_period(now_s: float, expected_s: float) -> None:
    assert wait_s(now_s) == pytest.approx(expected_s)

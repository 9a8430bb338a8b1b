"""What the packets at a user's radio port say of a limited, or lifted, scheme."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from controller.contracts.decisions import Action, DecisionRecord, Effect, Verdict
from controller.contracts.radio_port import RadioPort, WayCount
from controller.contracts.rpc import RpcError
from controller.ric.link_effect import WINDOW_MS, LinkWatch, WatchedLink, judge_link, judge_way

PERIOD_MS, PACKET_BYTES = 500, 1250
SPANS = WINDOW_MS // PERIOD_MS


def counts(
    rate_kbps: Sequence[float] | float,
    sent_kbps: Sequence[float] | float,
    waiting: Sequence[int] | int = 0,
    lost: int = 0,
) -> list[WayCount]:
    """Readings of a window: `sent_kbps` and `lost` packets are of each span between two,
    the others of each reading."""

    def each(value: Sequence[Any] | float, length: int) -> list[Any]:
        return [value] * length if isinstance(value, (int, float)) else list(value)

    rates, queued = each(rate_kbps, SPANS + 1), each(waiting, SPANS + 1)
    found, sent_bytes = [], 10_000_000
    for index, sent in enumerate([0.0, *each(sent_kbps, SPANS)]):
        sent_bytes += round(sent * PERIOD_MS / 8)
        found.append(
            WayCount(
                taken_at_ns=10**18 + index * PERIOD_MS * 1_000_000,
                rate_kbps=rates[index],
                sent_bytes=sent_bytes,
                sent_packets=sent_bytes // PACKET_BYTES,
                dropped_packets=7 + index * lost,
                waiting_packets=queued[index],
            )
        )
    return found


@pytest.mark.parametrize(
    ("before_kbps", "read", "effect", "words"),
    [
        # a slower scheme
        (4000, counts(1000, 990, waiting=80, lost=20), Effect.VERIFIED, "packets waited"),
        (4000, counts(1000, 1040, waiting=80), Effect.VERIFIED, "packets waited"),
        (4000, counts(1000, 960), Effect.NOT_EXERCISED, "did not reach"),
        (4000, counts(1000, 0), Effect.NOT_EXERCISED, "did not reach"),
        (4000, counts(1000, 1200), Effect.REFUTED, "more went through"),
        (4000, counts(1000, 1200, waiting=80, lost=20), Effect.REFUTED, "more went through"),
        (4000, counts(1000, 700, waiting=80, lost=20), Effect.REFUTED, "less than it carries"),
        (4000, counts(1000, 700, waiting=80), Effect.NOT_EXERCISED, "did not reach"),
        # bursts between two readings lose packets, and wait at neither
        (4000, counts(1000, 400, lost=20), Effect.NOT_EXERCISED, "did not reach"),
        # waited at one end of each span only
        (4000, counts(1000, 500, [9, 0, 9, 0, 9], 5), Effect.NOT_EXERCISED, "did not reach"),
        # demand came late: only what waited is compared with the rate
        (4000, counts(1000, [0, 0, 990, 990], [0, 0, 50, 90, 90]), Effect.VERIFIED, "waited"),
        (4000, counts(1000, [0, 0, 500, 500], [0, 0, 50, 90, 90], 3), Effect.REFUTED, "dropped"),
        # a quicker one
        (1000, counts(4000, 3950, waiting=80), Effect.VERIFIED, "packets waited"),
        (1000, counts(4000, 2000), Effect.VERIFIED, "scheme before carries"),
        (1000, counts(4000, [0, 2000, 0, 0]), Effect.VERIFIED, "scheme before carries"),
        (1000, counts(4000, 1030), Effect.NOT_EXERCISED, "did not reach"),
        (1000, counts(4000, 1000, waiting=80, lost=9), Effect.REFUTED, "less than it carries"),
        # the channel allows no more than the limit
        (1000, counts(1000, 990, waiting=80, lost=9), Effect.NOT_EXERCISED, "the channel"),
        # the user moves: what each moment's rate lets through counts
        (4000, counts([2000, 1500, 1000, 1000, 1000], [1700, 1200, 990, 990], 80),
         Effect.VERIFIED, "packets waited"),
    ],
)  # fmt: skip
def test_the_packets_decide(
    before_kbps: float, read: list[WayCount], effect: Effect, words: str
) -> None:
    seen = judge_way(before_kbps, read)
    assert seen.effect is effect, seen.detail
    assert words in str(seen.detail["reason"])


def test_the_verdict_has_its_numbers() -> None:
    detail = judge_way(4000, counts(1000, 1000, waiting=80, lost=25)).detail
    assert (detail["before_kbps"], detail["promised_kbps"]) == (4000, 1000)
    assert detail["delivered_kbps"] == pytest.approx(1000, rel=0.01)
    assert detail["loss_ratio"] == pytest.approx(25 / (25 + 50), abs=0.01)
    assert (detail["window_ms"], detail["waited_ms"]) == (WINDOW_MS, WINDOW_MS)


BUSY, IDLE = counts(1000, 990, waiting=80), counts(1000, 0)
BEFORE = {"down": 4000.0, "up": 4000.0}


def ports(down: list[WayCount], up: list[WayCount]) -> tuple[RadioPort, ...]:
    return tuple(RadioPort(*both) for both in zip(down, up, strict=True))


def test_one_way_is_enough_and_a_refuted_one_counts_most() -> None:
    def effect(down: list[WayCount], up: list[WayCount]) -> Effect | None:
        seen = judge_link(WatchedLink("d", "ue1", BEFORE, ports(down, up)))
        return None if seen is None else seen.effect

    assert effect(BUSY, IDLE) is effect(IDLE, BUSY) is Effect.VERIFIED
    assert effect(IDLE, IDLE) is Effect.NOT_EXERCISED
    assert effect(BUSY, counts(1000, 2000)) is Effect.REFUTED
    assert effect(BUSY[:-1], IDLE[:-1]) is None, "the window is still open"
    assert effect([], []) is None


def applied(decision_id: str, ue_id: str = "ue1") -> DecisionRecord:
    return DecisionRecord(
        decision_id=decision_id,
        trace_id="t",
        xapp="x",
        action=Action.ADAPT_LINK,
        target={"ue_id": ue_id},
        parameters={"max_cqi": 3},
        based_on=[],
        verdict=Verdict.APPLIED,
        effect_detail={"before_kbps": BEFORE},
    )


class Radio:
    """Ports to be read one after the other; what the watch said of each decision."""

    def __init__(self, read: Sequence[RadioPort | RpcError]) -> None:
        self._read = list(read)
        self.said: list[tuple[str, Effect, str]] = []
        self.watch = LinkWatch(self.port, self.finished)
        self.meanwhile: Any = lambda: None

    async def port(self, ue_id: str) -> RadioPort:
        found = self._read.pop(0)
        self.meanwhile()
        if isinstance(found, RpcError):
            raise found
        return found

    def finished(self, decision_id: str, effect: Effect, detail: dict[str, Any]) -> None:
        self.said.append((decision_id, effect, str(detail.get("reason", detail))))

    def poll(self, times: int) -> None:
        for _ in range(times):
            asyncio.run(self.watch.advance())


def test_a_link_is_watched_for_one_window_and_judged_once() -> None:
    radio = Radio([*ports(BUSY, IDLE)])
    radio.watch.watch(applied("d1"))
    radio.poll(SPANS)
    assert (radio.said, radio.watch.open_count) == ([], 1)
    radio.poll(2)
    ((decision_id, effect, _),) = radio.said
    assert (decision_id, effect, radio.watch.open_count) == ("d1", Effect.VERIFIED, 0)


def test_what_is_decided_anew_or_handed_over_cannot_be_measured() -> None:
    radio = Radio([*ports(BUSY, IDLE)])
    radio.watch.watch(applied("d1"))
    radio.poll(2)
    radio.watch.watch(applied("d2"))
    radio.watch.end("ue1", "handed over before")
    radio.watch.end("ue2", "nobody's")
    assert [(d, e) for d, e, _ in radio.said] == [
        ("d1", Effect.NOT_EXERCISED),
        ("d2", Effect.NOT_EXERCISED),
    ]
    assert "anew" in radio.said[0][2] and "handed over" in radio.said[1][2]


def test_a_reading_of_an_earlier_decision_does_not_count_for_the_next() -> None:
    radio = Radio([*ports(BUSY, IDLE)])
    radio.watch.watch(applied("d1"))
    radio.meanwhile = lambda: radio.watch.watch(applied("d2"))
    radio.poll(1)
    radio.meanwhile = lambda: None
    radio.poll(SPANS)
    assert [d for d, _, _ in radio.said] == ["d1"], "d2 is one reading short of a window"


def test_a_radio_that_cannot_be_read_is_said() -> None:
    radio = Radio([*ports(BUSY, IDLE)[:1], RpcError("no answer")])
    radio.watch.watch(applied("d1"))
    radio.poll(2)
    assert radio.said == [("d1", Effect.NOT_EXERCISED, "the radio port cannot be read: no answer")]

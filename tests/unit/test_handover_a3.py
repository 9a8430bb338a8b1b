"""Event A3 (TS 38.331 5.5.4.4): what enters, what waits, what triggers, what leaves."""

from __future__ import annotations

import asyncio

import pytest

from controller.contracts.decisions import Action, DecisionRecord, DecisionRequest, Verdict
from controller.contracts.inventory import HandoverConfig
from controller.contracts.rpc import RpcError
from controller.local.a3 import A3State, Measurement, observe
from controller.local.handover_requests import HandoverRequests, backoff_ms

CONFIG = HandoverConfig(hysteresis_db=3.0, time_to_trigger_ms=640)


def at(ms: int, **rsrp_dbm: float) -> Measurement:
    """Served by `a`."""
    return Measurement("a", rsrp_dbm, ms * 1_000_000)


def in_b(ms: int, **rsrp_dbm: float) -> Measurement:
    return Measurement("b", rsrp_dbm, ms * 1_000_000)


def run(*measurements: Measurement, config: HandoverConfig = CONFIG) -> list[str | None]:
    state: A3State | None = None
    targets = []
    for measured in measurements:
        state, target = observe(state, measured, config)
        targets.append(target)
    return targets


def test_triggers_once_the_neighbour_was_better_for_the_whole_time_to_trigger() -> None:
    better = {"a": -90.0, "b": -86.0}
    assert run(at(0, **better), at(500, **better), at(639, **better), at(640, **better)) == [
        None,
        None,
        None,
        "b",
    ]


def test_exactly_the_hysteresis_is_not_better() -> None:
    assert run(at(0, a=-90, b=-87), at(5000, a=-90, b=-87)) == [None, None]


def test_offsets_are_part_of_both_inequalities() -> None:
    """TS 38.331 5.5.4.4: Mn + Ocn - Hys > Mp + Ocp + Off enters, Mn + Ocn + Hys < ... leaves."""
    config = CONFIG.model_copy(
        update={"cell_offsets_db": {"a": 1.0, "b": 4.0}, "a3_offset_db": 2.0}
    )
    # b: Mn + 4 - 3 > -90 + 1 + 2 from -88 dBm on.
    assert run(at(0, a=-90, b=-88), at(700, a=-90, b=-88), config=config) == [None, None]
    entered = [at(0, a=-90, b=-87.9), at(700, a=-90, b=-87.9)]
    assert run(*entered, config=config) == [None, "b"]
    # b leaves below Mn + 4 + 3 < -87, which is -94 dBm; until then no second wait.
    stays = [*entered, at(800, a=-90, b=-94), at(900, a=-90, b=-87.9)]
    left = [*entered, at(800, a=-90, b=-94.1), at(900, a=-90, b=-87.9)]
    assert run(*stays, config=config)[-1] == "b"
    assert run(*left, config=config)[-1] is None


def test_a_user_may_have_a_configuration_of_its_own() -> None:
    async def requests() -> list[str]:
        asked: list[str] = []

        async def ask(request: object) -> DecisionRecord:
            asked.append(request.target["ue_id"])  # type: ignore[attr-defined]
            raise RpcError("not now")

        eager = HandoverConfig(hysteresis_db=1.0, time_to_trigger_ms=0)
        handovers = HandoverRequests(CONFIG, ask, {"ue2": eager})
        for ue_id in ("ue1", "ue2"):
            handovers.observe(ue_id, at(0, a=-90, b=-86), 1, 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asked

    assert asyncio.run(requests()) == ["ue2"]


def test_a_dip_starts_the_wait_again() -> None:
    better = {"a": -90.0, "b": -86.0}
    targets = run(at(0, **better), at(500, a=-90, b=-88), at(700, **better), at(1300, **better))
    assert targets == [None] * 4


def test_a_triggered_neighbour_needs_no_second_wait_until_it_leaves() -> None:
    better, worse = {"a": -90.0, "b": -86.0}, {"a": -90.0, "b": -91.0}
    left = {"a": -90.0, "b": -94.0}
    returns = run(at(0, **better), at(700, **better), at(900, **worse), at(1000, **better))
    assert returns == [None, "b", None, "b"]
    leaves = run(at(0, **better), at(700, **better), at(900, **left), at(1000, **better))
    assert leaves == [None, "b", None, None]


def test_strongest_of_several_triggered_wins() -> None:
    both = {"a": -95.0, "b": -86.0, "c": -85.0}
    assert run(at(0, **both), at(700, **both))[-1] == "c"


def test_a_new_serving_cell_starts_afresh() -> None:
    moved = run(
        at(0, a=-90, b=-86),
        at(600, a=-90, b=-86),
        in_b(700, a=-80, b=-86),
        in_b(800, a=-80, b=-86),
    )
    assert moved == [None] * 4


def test_a_measurement_without_the_serving_cell_says_nothing() -> None:
    assert run(at(0, a=-90, b=-80), at(600, b=-80), at(700, a=-90, b=-80)) == [None] * 3


def test_zero_time_to_trigger_triggers_at_once() -> None:
    config = HandoverConfig(time_to_trigger_ms=0)
    assert run(at(0, a=-90, b=-80), config=config) == ["b"]


# -- requests -----------------------------------------------------------------


class Ric:
    """Answers requests when told to, and keeps them."""

    def __init__(self, *answers: Verdict | RpcError) -> None:
        self.requests: list[DecisionRequest] = []
        self._answers = list(answers)
        self.release = asyncio.Event()
        self.release.set()

    async def ask(self, request: DecisionRequest) -> DecisionRecord:
        self.requests.append(request)
        await self.release.wait()
        answer = self._answers.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        return DecisionRecord(
            decision_id="d",
            trace_id=request.trace_id,
            xapp=request.xapp,
            action=request.action,
            target=request.target,
            parameters=request.parameters,
            based_on=request.based_on,
            verdict=answer,
        )


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


AT_ONCE = HandoverConfig(time_to_trigger_ms=0)


async def see(requests: HandoverRequests, ms: int) -> None:
    requests.observe("ue1", at(ms, a=-90, b=-80), version=7, arrived_at_ns=ms * 1_000_000)
    await settle()


def test_the_request_says_who_where_why_and_since_when() -> None:
    async def scenario() -> None:
        ric = Ric(Verdict.APPLIED)
        await see(HandoverRequests(AT_ONCE, ric.ask), 5)
        (request,) = ric.requests
        assert request.action is Action.HANDOVER
        assert request.xapp == "a3-handover"
        assert (request.target, request.parameters) == ({"ue_id": "ue1"}, {"cell_id": "b"})
        assert request.hops_ns == {"twin_completed": 5_000_000}
        assert request.based_on == ["user:ue1@7"]
        assert len(request.trace_id) == 32

    asyncio.run(scenario())


def test_one_outstanding_request_per_user() -> None:
    async def scenario() -> None:
        ric = Ric(Verdict.APPLIED)
        ric.release.clear()
        requests = HandoverRequests(AT_ONCE, ric.ask)
        for ms in (0, 5000, 60_000):
            await see(requests, ms)
        assert len(ric.requests) == 1
        ric.release.set()
        await settle()
        assert requests.outcomes == {"requested": 1, "applied": 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("refusal", [Verdict.REJECTED, RpcError("no answer")])
def test_refusals_are_asked_again_later_and_later(refusal: Verdict | RpcError) -> None:
    async def scenario() -> None:
        ric = Ric(*[refusal] * 3)
        requests = HandoverRequests(AT_ONCE, ric.ask)
        await see(requests, 0)
        await see(requests, 900)
        assert len(ric.requests) == 1
        await see(requests, 1100)
        await see(requests, 2900)
        assert len(ric.requests) == 2
        await see(requests, 3300)
        assert len(ric.requests) == 3

    asyncio.run(scenario())


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff_ms(n) for n in (0, 1, 2, 3, 4, 5, 6, 99)] == [
        1000,
        1000,
        2000,
        4000,
        8000,
        16_000,
        16_000,
        16_000,
    ]

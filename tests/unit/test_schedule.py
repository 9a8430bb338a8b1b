"""Users' shares within a slice: meters, guard, journal, and what the bytes say of them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.decisions import DecisionRequest, Effect
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.guard import check_schedule
from controller.intent_documents import restored, schedule_document
from controller.metering import share_kbps, slice_rate_kbps, user_meters
from controller.network_state import Attachment, initial_state
from controller.network_view import network_of
from controller.reservations import meter_change
from controller.ric.errors import Malformed, NotFound
from controller.ric.intents import resolve
from controller.ric.measurement import CounterSample, UserMeterCount
from controller.ric.schedule_effect import ScheduleWatch, WatchedSchedule, judge_schedule
from controller.ric.user_intents import ScheduleIntent
from controller.rules import compile_network
from tests.planned_network import planned_inventory
from topologies.scenario.loader import load

INVENTORY = planned_inventory(load("crossroads", []).model_dump(mode="json"))
NETWORK = network_of(INVENTORY)
USER = INVENTORY.users[0]
SLICE = NETWORK.slices[USER.sessions[0].slice_id]
CELL = NETWORK.cells[USER.cell_id]


def held(kbps: int) -> Reservation:
    """A ceiling of this rate for the slice's default class in the user's cell."""
    return Reservation(
        slice_id=SLICE.slice_id, traffic_class=SLICE.default_class, min_kbps=kbps, max_kbps=kbps
    )


def others_closed(kbps: int) -> list[Reservation]:
    """The slice's other classes hold the least there is."""
    pairs = [k for k in NETWORK.pairs_of(CELL.cell_id) if k[0] == SLICE.slice_id]
    rest = [k for k in pairs if k[1] is not SLICE.default_class]
    least = [
        Reservation(slice_id=s, traffic_class=c, min_kbps=12, max_kbps=12)
        for s, c in rest
        if c not in (TrafficClass.CONTROL, TrafficClass.BEST_EFFORT)
    ]
    return [held(kbps), *least]


PLAIN = initial_state(INVENTORY).reserved(CELL.cell_id, others_closed(4000))
SHARED = PLAIN.scheduled(SLICE.slice_id, {USER.ue_id: 0.5})


def limits(state: Any, switch: str) -> dict[str | None, int]:
    meters = user_meters(NETWORK, state, switch)[1].values()
    return {m.use.ue_id: m.rate_kbps for m in meters if m.use is not None}


def test_a_share_is_of_what_the_slice_may_send_in_the_users_cell() -> None:
    rate_kbps = slice_rate_kbps(NETWORK, SHARED, CELL, SLICE.slice_id)
    assert limits(PLAIN, CELL.switch) == {}
    assert limits(SHARED, CELL.switch) == {USER.ue_id: round(rate_kbps / 2)}
    assert share_kbps(NETWORK, SHARED, USER.ue_id, SLICE.slice_id) == round(rate_kbps / 2)
    air = next(n for n, s in NETWORK.switches.items() if s.role == "air")
    assert limits(SHARED, air) == {}, "shares are of the downlink"


def test_the_meter_goes_where_the_user_goes() -> None:
    other = next(c for c in NETWORK.cells.values() if c.cell_id != CELL.cell_id)
    moved = SHARED.attached(USER.ue_id, Attachment.at(other.cell_id))
    assert USER.ue_id not in limits(moved, CELL.switch)
    assert USER.ue_id in limits(moved, other.switch)


def test_a_reservation_changes_the_shares_of_its_slice() -> None:
    more = SHARED.reserved(CELL.cell_id, others_closed(8000))
    change = meter_change(NETWORK, CELL, SHARED, more)
    of_user = [m for m in change.meters_modify if m.use is not None and m.use.ue_id == USER.ue_id]
    assert [m.rate_kbps for m in of_user] == [limits(more, CELL.switch)[USER.ue_id]]


def test_without_shares_every_rule_and_meter_is_as_before() -> None:
    cleared = SHARED.scheduled(SLICE.slice_id, {})
    assert compile_network(NETWORK, cleared) == compile_network(NETWORK, PLAIN)
    assert compile_network(NETWORK, SHARED) != compile_network(NETWORK, PLAIN)


def test_a_restarted_controller_knows_the_shares_and_a_dead_slice_has_none() -> None:
    state, problems = restored(PLAIN, [schedule_document(SLICE.slice_id, {USER.ue_id: 0.5})])
    assert problems == [] and state.shares == SHARED.shares
    assert SHARED.without_slice(SLICE.slice_id).shares == {}


# -- decisions -------------------------------------------------------------------------------------


def request(shares: dict[str, Any], **target: Any) -> DecisionRequest:
    s_nssai = SLICE.s_nssai.model_dump()
    return DecisionRequest(
        trace_id="t",
        xapp="x",
        action="schedule",  # type: ignore[arg-type]
        target={"s_nssai": s_nssai, **target},
        parameters={"shares": shares},
    )


def test_a_request_becomes_an_intent() -> None:
    intent = resolve(request({USER.ue_id: 0.25}), INVENTORY)
    assert isinstance(intent, ScheduleIntent)
    assert (intent.slice_id, dict(intent.shares)) == (SLICE.slice_id, {USER.ue_id: 0.25})


@pytest.mark.parametrize("share", [0, -0.1, 1.01, "0.5", None])
def test_a_share_outside_its_range_is_malformed(share: Any) -> None:
    with pytest.raises(Malformed, match=r"parameters\.shares"):
        resolve(request({USER.ue_id: share}), INVENTORY)


def test_a_user_of_another_slice_or_none_is_not_found() -> None:
    with pytest.raises(NotFound, match="unknown user 'nobody'"):
        resolve(request({"nobody": 0.5}), INVENTORY)


def test_shares_of_more_than_the_whole_are_refused() -> None:
    assert check_schedule({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}) is None
    rejection = check_schedule({"a": 0.6, "b": 0.5})
    assert rejection is not None and rejection.reason == "shares sum to 1.100; at most 1"


# -- effect ----------------------------------------------------------------------------------


def samples(arrived_kbps: float, passed_kbps: float) -> list[CounterSample]:
    """Three seconds of one user's bytes at its meter."""
    found = []
    for half_second in range(7):
        seconds = half_second / 2
        arrived = round(arrived_kbps * 125 * seconds)
        dropped = round((arrived_kbps - passed_kbps) * 125 * seconds)
        count = UserMeterCount(arrived, dropped)
        at_ns = 1_000_000_000 + half_second * 500_000_000
        found.append(CounterSample(at_ns, {}, {}, {("car", 1): count}))
    return found


WATCHED = WatchedSchedule("d", 1, {"car": 2000}, 1_000_000_000)


@pytest.mark.parametrize(
    ("arrived_kbps", "passed_kbps", "effect"),
    [
        (5000, 2000, Effect.VERIFIED),
        (5000, 2600, Effect.REFUTED),
        (1500, 1500, Effect.NOT_EXERCISED),
    ],
)
def test_the_bytes_judge(arrived_kbps: float, passed_kbps: float, effect: Effect) -> None:
    judgement = judge_schedule(WATCHED, samples(arrived_kbps, passed_kbps))
    assert judgement is not None and judgement.effect is effect
    assert judge_schedule(WATCHED, samples(5000, 2000)[:3]) is None, "the window is open"


def test_a_newer_schedule_ends_the_watching_of_an_older_one() -> None:
    heard: list[tuple[str, Effect]] = []
    limit = {"now": 500}
    watch = ScheduleWatch(
        lambda decision_id, effect, _: heard.append((decision_id, effect)),
        lambda ue_id, slice_id: limit["now"],
    )
    watch.watch(WATCHED)
    watch.watch(WatchedSchedule("e", 1, {"car": 1000}, 1_000_000_000))
    for sample in samples(3000, 1000):
        watch.on_sample(sample)
    assert heard == [("d", Effect.NOT_EXERCISED), ("e", Effect.VERIFIED)]
    assert watch.open_count == 0


def test_a_limit_that_rose_meanwhile_is_what_counts() -> None:
    heard: list[Effect] = []
    watch = ScheduleWatch(lambda _, effect, __: heard.append(effect), lambda _, __: 3000)
    watch.watch(WATCHED)
    for sample in samples(5000, 2900):
        watch.on_sample(sample)
    assert heard == [Effect.VERIFIED]

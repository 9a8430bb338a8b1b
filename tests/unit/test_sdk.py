"""The SDK against a real HTTP server, and against the shapes that the RIC really uses."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from holon_xapp import (
    ApiError,
    CellEvent,
    DecisionEvent,
    EventError,
    ModelError,
    PlannedReservation,
    ReservationPlan,
    Settings,
    SettingsError,
    SliceEvent,
    SNssai,
    Unreachable,
    UserEvent,
    Xapp,
    find_model_folder,
    handover,
    migrate,
    migrate_twin,
    parse_event,
    schedule,
)
from holon_xapp.stream import Backoff, lines_of

from controller.contracts.decisions import DecisionRequest
from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_messages import CellAggregate, SliceDemand
from controller.ric.cell_events import cell_event
from controller.ric.intents import HandoverIntent, ReserveIntent, resolve
from controller.ric.user_intents import MigrateTwinIntent, ScheduleIntent
from controller.twins.level_one import (
    Prediction,
    UserTwin,
    merge_predictions,
    merge_report,
    twin_document,
)
from tests.sample_inventory import sample_inventory
from tests.sample_reports import sample_report
from tests.scripted_api import ScriptedApi, scripted_api

TOKEN = "secret-token"


def aggregate(window: int = 7) -> CellAggregate:
    demand = SliceDemand(
        slice_id=1, users=2, demand_kbps=5000.5, goodput_kbps=4000, loss_ratio=0.1, owd_p95_ms=None
    )
    return CellAggregate(
        trace_id=f"trace-{window}",
        edge="edge1",
        cell_id="ap1",
        window=window,
        period_ms=500,
        completed_at_ns=1,
        sent_at_ns=2,
        users_reported=2,
        users_expected=2,
        slices=[demand],
    )


def line_of(window: int = 7) -> bytes:
    """What the RIC puts on the stream."""
    held = [
        Reservation(slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=3000, max_kbps=4000)
    ]
    event = cell_event(aggregate(window), sample_inventory(), held, 3)
    return json.dumps(event).encode() + b"\n"


def plan() -> ReservationPlan:
    event = parse_event(line_of())
    assert isinstance(event, CellEvent)
    planned = PlannedReservation(SNssai(1, "000001"), "elastic", 4000, 5000, 3900.5)
    return ReservationPlan.answering(event, (planned,), 9)


# -- shapes ------------------------------------------------------------------------------------


def test_the_rics_event_becomes_a_typed_one() -> None:
    event = parse_event(line_of())
    assert isinstance(event, CellEvent)
    assert (event.cell_id, event.trace_id, event.window) == ("ap1", "trace-7", 7)
    assert (event.completed_at_ns, event.sent_at_ns, event.received_at_ns) == (1, 2, 3)
    assert event.capacity_kbps >= event.reservable_kbps > 0
    video, control = event.slices
    assert (video.s_nssai, video.traffic_class) == (SNssai(1, "000001"), "elastic")
    assert (video.users, video.demand_kbps, video.owd_p95_ms) == (2, 5000.5, None)
    assert (video.reservation.min_kbps, video.reservation.max_kbps) == (3000, 4000)
    assert (control.traffic_class, control.users, control.demand_kbps) == ("real_time", 0, 0)


def test_the_other_kinds_of_events() -> None:
    document = {"kind": "slice", "id": "1-000001", "trace_id": "t", "window": 1, "version": 2}
    event = parse_event(json.dumps({**document, "values": {"users": 3}}))
    assert isinstance(event, SliceEvent)
    assert event.values["users"] == 3
    decision = parse_event('{"kind": "decision", "id": "d-1", "verdict": "applied"}')
    assert isinstance(decision, DecisionEvent)
    assert decision.record["verdict"] == "applied"


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"3", b'{"kind": "cell"}', b'{"kind": "x"}', b'{"kind": []}']
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(EventError, match="not an event"):
        parse_event(line)


def test_a_plan_is_what_the_ric_understands() -> None:
    body = {**plan().request(), "xapp": "x", "decision_id": "d-1"}
    request = DecisionRequest.model_validate_json(json.dumps(body), strict=False)
    intent = resolve(request, sample_inventory())
    assert isinstance(intent, ReserveIntent)
    assert intent.cell_id == "ap1"
    assert [(c.min_kbps, c.max_kbps) for c in intent.changes] == [(4000, 5000)]
    assert intent.predicted_kbps == {1: 3900.5}
    assert request.based_on == ["cell/ap1/7"]
    assert request.hops_ns == {
        "twin_completed": 1,
        "aggregate_sent": 2,
        "aggregate_received": 3,
        "inferred": 9,
    }


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_lines_come_out_whole_however_they_are_cut(size: int) -> None:
    text = b'{"a": 1}\n\n{"b": "\xc3\xbc"}\r\n{"c": 3}\nunfinished'
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert [line.strip() for line in lines_of(chunks)] == [
        b'{"a": 1}',
        b'{"b": "\xc3\xbc"}',
        b'{"c": 3}',
    ]


def test_a_line_is_out_before_the_next_chunk_is_asked_for() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first\n"
        raise AssertionError("asked for more although a line was there")

    assert next(lines_of(chunks())) == b"first"


def test_backoff_doubles_up_to_its_last_and_starts_anew() -> None:
    backoff = Backoff(first_s=0.1, last_s=0.5)
    assert [backoff.take_s() for _ in range(4)] == [0.1, 0.2, 0.4, 0.5]
    backoff.reset()
    assert backoff.take_s() == 0.1


# -- settings ----------------------------------------------------------------------------------

ENVIRONMENT = {"HOLON_URL": "http://127.0.0.1:1/", "HOLON_TOKEN": TOKEN, "HOLON_XAPP_NAME": "x"}


def test_settings_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_environment({**ENVIRONMENT, "HOLON_XAPP_CONFIG": '{"a": 1}'})
    assert (settings.url, settings.name, settings.config) == ("http://127.0.0.1:1", "x", {"a": 1})
    assert TOKEN not in repr(settings)
    file = tmp_path / "config.json"
    file.write_text('{"b": 2}')
    settings = Settings.from_environment({**ENVIRONMENT, "HOLON_XAPP_CONFIG": str(file)})
    assert settings.config == {"b": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"HOLON_URL": ""}, "HOLON_URL not set"),
        ({"HOLON_TOKEN": "", "HOLON_XAPP_NAME": ""}, "HOLON_TOKEN, HOLON_XAPP_NAME not set"),
        ({"HOLON_URL": "127.0.0.1"}, "an http:// address was expected"),
        ({"HOLON_XAPP_CONFIG": "{"}, "is not JSON"),
        ({"HOLON_XAPP_CONFIG": "/none.json"}, "names '/none.json': .*No such file"),
    ],
)
def test_wrong_settings_are_named(change: Mapping[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment({**ENVIRONMENT, **change})


# -- against a server --------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ScriptedApi]:
    with scripted_api() as api:
        yield api


@pytest.fixture
def xapp(server: ScriptedApi) -> Iterator[Xapp]:
    made = Xapp(Settings(server.url, TOKEN, "my-xapp"))
    yield made
    made.close()


RECORD = {"decision_id": "d-1", "verdict": "applied", "reason": "", "loop_latency_ms": 7.5}


def test_ready_and_health_carry_the_token(server: ScriptedApi, xapp: Xapp) -> None:
    xapp.ready()
    assert xapp.health() == {"ready": True}
    (method, path, _, headers), (_, second, *_) = server.requests
    assert (method, path) == ("POST", "/api/v1/xapps/my-xapp/ready")
    assert second == "/api/v1/health"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_decisions_share_one_connection_and_have_ids_of_their_own(
    server: ScriptedApi, xapp: Xapp
) -> None:
    server.answers = [(200, RECORD), (200, RECORD)]
    decision = xapp.decide(plan())
    assert (decision.is_applied, decision.loop_latency_ms) == (True, 7.5)
    xapp.decide(plan(), dry_run=True)
    first, second = (body for _, _, body, _ in server.requests)
    assert len(server.connections) == 1
    assert first["xapp"] == "my-xapp"
    assert first["decision_id"] != second["decision_id"]
    assert len(first["decision_id"]) <= 64
    assert "dry_run" not in first
    assert second["dry_run"] is True
    assert first["parameters"] == plan().request()["parameters"]


def test_refusals_are_answers_not_errors(server: ScriptedApi, xapp: Xapp) -> None:
    rejected = {**RECORD, "verdict": "rejected", "reason": "slew"}
    server.answers = [
        (200, rejected),
        (429, {"error": "too often", "hint": "", "decision": rejected}),
        (409, {"error": "slices are not installed yet", "hint": "wait"}),
        (422, {"error": "min_kbps: Field required", "hint": ""}),
    ]
    decisions = [xapp.decide(plan()) for _ in range(4)]
    assert [d.verdict for d in decisions] == ["rejected"] * 4
    assert [d.status for d in decisions] == [200, 429, 409, 422]
    assert [d.reason for d in decisions] == [
        "slew",
        "slew",
        "slices are not installed yet",
        "min_kbps: Field required",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_what_no_other_decision_would_cure_is_raised(
    server: ScriptedApi, xapp: Xapp, status: int
) -> None:
    server.answers = [(status, {"error": "token is not valid", "hint": "deploy again"})]
    with pytest.raises(ApiError, match=rf"{status}: token is not valid \(deploy again\)") as error:
        xapp.decide(plan())
    assert error.value.status == status


def test_a_broken_connection_is_tried_again_with_its_id(server: ScriptedApi, xapp: Xapp) -> None:
    server.drop_next = True
    server.answers = [(200, RECORD)]
    assert xapp.decide(plan()).is_applied
    assert len({body["decision_id"] for _, _, body, _ in server.requests}) == 1
    assert len(server.requests) == 2


def test_nobody_there_is_unreachable() -> None:
    gone = Xapp(Settings("http://127.0.0.1:9", TOKEN, "x"))
    with pytest.raises(Unreachable, match="POST /api/v1/decisions"):
        gone.decide(plan())
    gone.close()


def test_stream_gives_events_as_they_come_and_reconnects(
    server: ScriptedApi, xapp: Xapp, caplog: pytest.LogCaptureFixture
) -> None:
    whole = line_of(3)
    server.streams = [[line_of(1), line_of(2) + whole[:20], whole[20:]], [line_of(4)]]
    with caplog.at_level(logging.WARNING, "holon_xapp"):
        events = xapp.cells()
        assert [next(events).window for _ in range(4)] == [1, 2, 3, 4]
    events.close()
    assert "stream interrupted" in caplog.text
    assert [path for _, path, *_ in server.requests] == ["/api/v1/stream?kind=cell"] * 2


def test_stream_of_chosen_ids(server: ScriptedApi, xapp: Xapp) -> None:
    server.streams = [[line_of(1)]]
    events = xapp.subscribe("cell", ids=["ap1"], period_ms=100)
    assert isinstance(next(events), CellEvent)
    events.close()
    asked = parse_qs(urlsplit(server.requests[0][1]).query)
    assert asked == {"kind": ["cell"], "period_ms": ["100"], "id": ["ap1"]}
    foreign = line_of(1).replace(b'"ap1"', b'"ap2"')
    server.streams = [[foreign, line_of(2)]]
    events = xapp.subscribe("cell", ids=["ap1", "ap3"])
    first = next(events)
    assert isinstance(first, CellEvent)
    assert first.window == 2
    events.close()
    assert "id=" not in server.requests[-1][1]


def test_stream_waits_out_a_ric_that_is_not_ready_and_ends_when_refused(
    server: ScriptedApi, xapp: Xapp
) -> None:
    server.answers = [(503, {"error": "starting"}), (409, {"error": "256 streams are open"})]
    server.streams = [[line_of(5)]]
    events = xapp.cells()
    assert next(events).window == 5
    events.close()
    server.answers = [(401, {"error": "unknown token", "hint": ""})]
    with pytest.raises(ApiError, match="401: unknown token"):
        next(xapp.cells())


# -- models the descriptor names ---------------------------------------------------------------


def test_models_by_the_descriptors_names(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2] / "xapps" / "slice_planner"
    xapp = Xapp(Settings("http://127.0.0.1:9", TOKEN, "x"), folder)
    assert xapp.model("demand_forecast").contract["name"] == "demand_forecast"
    with pytest.raises(ModelError, match="no model 'other'; it names: demand_forecast"):
        xapp.model("other")
    with pytest.raises(ModelError, match="names no models"):
        Xapp(xapp.settings, tmp_path).model("demand_forecast")
    assert find_model_folder("models/demand_forecast/model.onnx", tmp_path).is_dir()
    with pytest.raises(ModelError, match="no model at models/none.onnx"):
        find_model_folder("models/none.onnx", tmp_path)


# -- user twins, and decisions about users -----------------------------------------------------


def user_line(twin: UserTwin, now_ns: int = 9) -> bytes:
    """What the RIC puts on the stream of users."""
    return json.dumps({**twin_document(twin, now_ns), "kind": "user"}).encode()


def reported_twin() -> UserTwin:
    report = sample_report(sequence=4, position_m=(1.5, 2.0))
    return merge_report(None, report, 8, 10)


def test_a_users_twin_becomes_a_typed_event() -> None:
    twin = reported_twin()
    horizons = (
        {"horizon_ms": 1000, "value": [3.0, 4.0], "radius_m": {"0.5": 1.0, "0.9": 2.5}},
        {"horizon_ms": 2000, "value": [6.0, 8.0], "radius_m": {"0.5": 2.0, "0.9": 5.0}},
    )
    later_ns = twin.measured_at_ns + 10
    predicted = {"user.location_m": Prediction.of(later_ns, "mobility_forecast", horizons)}
    event = parse_event(user_line(merge_predictions(twin, predicted)))
    assert isinstance(event, UserEvent)
    assert (event.ue_id, event.version, event.changed_at_ns) == ("ue1", 4, later_ns)
    assert event.cell_id == "ap1"
    assert event.position_m == (1.5, 2.0)
    assert [(p.horizon_s, p.position_m, p.radius_m) for p in event.places] == [
        (1.0, (3.0, 4.0), 2.5),
        (2.0, (6.0, 8.0), 5.0),
    ]


def test_a_twin_without_forecast_or_place_is_an_event_that_says_so() -> None:
    document = json.loads(user_line(reported_twin()))
    del document["user"]["location_m"]
    event = parse_event(json.dumps(document))
    assert isinstance(event, UserEvent)
    assert (event.position_m, event.places) == (None, ())


def test_orders_are_what_the_ric_takes() -> None:
    event = parse_event(user_line(reported_twin()))
    assert isinstance(event, UserEvent)
    for order, kind in (
        (migrate_twin("ue1", "edge1"), MigrateTwinIntent),
        (schedule(SNssai(1, "000001"), {"ue1": 0.5}), ScheduleIntent),
        (handover("ue1", "ap1"), HandoverIntent),
    ):
        body = {**order.answering(event, 9).request(), "xapp": "x"}
        request = DecisionRequest.model_validate(body)
        assert isinstance(resolve(request, sample_inventory()), kind)
        assert request.based_on == ["user/ue1/4"]
        assert request.hops_ns["twin_completed"] == event.changed_at_ns
    assert migrate("assist", "edge2").answer_timeout_s > order.answer_timeout_s

"""What twins know beyond reports: experience, use-case data, sums, energy, forecasts, facts."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.contracts.twin_models import Subject, agent_settings, load_models, resolve
from controller.local.onnx_model import OnnxModel
from controller.ric.forecasting import DELAY_S, DemandHistories, SliceForecasts
from controller.ric.service_loads import Reading, loads_between, processor_s
from controller.ric.slice_strategies import StrategyBook
from controller.ric.user_facts import profile, resources
from controller.twins.energy import POWER_MODELS, slice_power_w
from controller.twins.level_one import merge_report, twin_document
from controller.twins.level_two import MeasuredRate
from controller.twins.qoe import mos, service_mos, user_mos
from controller.twins.slice_sums import SatisfiedWindows, ServiceLoad
from controller.twins.twin import Attribute, Prediction, Twin
from tests.ric_inventory import ric_inventory
from tests.sample_evidence import decision
from tests.sample_reports import sample_flow, sample_report
from tests.unit.test_user_agents import flow, totals
from topologies.agent_orders import first_settings, fitted
from topologies.scenario.schema import DEVICES
from topologies.use_case import Instruments, course_deg
from topologies.user_reports import flow_table, part_of

from tests.unit.test_level_two import VIDEO, aggregate, demand, level_two, value  # isort: skip


# -- users ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_ratio", "owd_ms", "expected"),
    [(0.0, 0.0, 4.43), (0.0, 150.0, 4.36), (0.1, 20.0, 3.42), (0.0, 400.0, 3.10), (1.0, 2000.0, 1)],
)
def test_experience_follows_the_stated_model(
    loss_ratio: float, owd_ms: float, expected: float
) -> None:
    assert mos(loss_ratio, owd_ms) == pytest.approx(expected, abs=0.01)


def test_a_users_experience_is_its_services_weighted_with_demand() -> None:
    good = {"demand_kbps": 900.0, "loss_ratio": 0.0, "owd_p95_ms": 5.0}
    bad = {"demand_kbps": 100.0, "loss_ratio": 0.5, "owd_p95_ms": None}
    idle = {"demand_kbps": 0.0, "loss_ratio": 0.0, "owd_p95_ms": None}
    assert service_mos(idle) is None
    expected = 0.9 * mos(0.0, 5.0) + 0.1 * mos(0.5, 0.0)
    assert user_mos([good, bad, idle]) == pytest.approx(expected, abs=0.001)
    assert user_mos([idle]) is None


def test_a_twin_shows_experience_and_use_case_data() -> None:
    report = sample_report(flows=[sample_flow()], heading_deg=271.0, operations=12)
    twin = merge_report(None, report, report.measured_at_ns, 10)
    document = twin_document(twin, report.measured_at_ns)
    assert document["services"]["stream"]["down"]["mos"]["value"] == mos(0.1, 4.0)
    assert document["user"]["qoe_mos"]["value"] == mos(0.1, 4.0)
    assert document["use_case"]["heading_deg"]["unit"] == "degree"
    assert document["use_case"]["operations"]["value"] == 12
    assert "odometer_m" not in document["use_case"]


@pytest.mark.parametrize(
    ("after", "course"),
    [((0.0, 5.0), 0.0), ((5.0, 0.0), 90.0), ((0.0, -5.0), 180.0), ((-5.0, 0.0), 270.0)],
)
def test_a_course_is_clockwise_from_the_y_axis(after: tuple[float, float], course: float) -> None:
    assert course_deg((0.0, 0.0), after) == course
    assert course_deg(after, after) is None


@pytest.mark.parametrize(
    ("kind", "window", "fields"),
    [
        ("vehicle", 4000, {"heading_deg"}),
        ("vehicle", 4001, set()),
        ("phone", 4000, set()),
        ("sensor", 4000, {"operations"}),
        ("sensor", 4010, set()),
        ("robot", 4000, {"heading_deg", "odometer_m", "operations"}),
    ],
)
def test_use_case_data_travels_where_and_when_the_model_asks(
    kind: str, window: int, fields: set[str]
) -> None:
    subject = Subject(ue_id="ue1", type=kind, s_nssais=(), edge="edge1")
    settings = agent_settings(resolve(load_models()[kind], subject, [], 500, 600))
    instruments = {"heading_deg": 91.64, "odometer_m": 7.123, "operations": 9}
    report = {**sample_report(window).model_dump(mode="json"), **instruments}
    sent = fitted(report, settings, in_full=False)
    assert {name for name in instruments if name in sent} == fields
    if "heading_deg" in fields:
        assert sent["heading_deg"] == 92
    unconfigured = fitted(report, first_settings(500), in_full=True)
    assert not set(instruments) & set(unconfigured)


def test_instruments_read_the_users_own_track_and_sockets() -> None:
    flows = [flow(), flow(direction="up")]
    table = flow_table(flows)
    counts = np.concatenate([totals(received_packets=40), totals(sent_packets=2)])
    instruments = Instruments()
    first = instruments.read(0, (0.0, 0.0), table, counts)
    assert first == {"odometer_m": 0.0, "operations": 42}
    second = instruments.read(0, (3.0, 4.0), part_of(table, [0]), counts[:1])
    assert second["odometer_m"] == 5.0
    assert second["heading_deg"] == pytest.approx(36.87)
    assert second["operations"] == 40


def test_what_the_network_knows_of_a_user_is_joined() -> None:
    inventory = ric_inventory()
    user = inventory.user("ue3").model_copy(update={"device": DEVICES["phone"]})
    facts = profile(user, inventory, 0, 10)
    assert facts["slices"]["value"] == ["1-000001", "2-000002"]
    assert facts["cache_bytes"] == {
        "value": DEVICES["phone"].cache_bytes,
        "unit": "bytes",
        "measured_at": 0,
        "age_ms": 1e-5,
        "period_ms": None,
        "source": "scenario",
    }
    confirmed = {f"min_kbps.{VIDEO}": 8000.0, f"max_kbps.{VIDEO}": 20_000.0}
    cell = Twin(
        "cell",
        "ap1",
        attributes={k: Attribute(v, 5, None, "enforcement") for k, v in confirmed.items()},
    )
    attachments = {"ue1": "ap1", "ue2": "ap1", "ue3": "ap1"}
    held = resources(user, inventory, attachments, cell, 0, 10)
    assert held[VIDEO]["users_sharing"]["value"] == 2
    assert held[VIDEO]["queue_share_kbps"]["value"] == 4000
    assert held[VIDEO]["queue_max_kbps"]["source"] == "enforcement"
    assert "queue_min_kbps" not in held["2-000002"]  # it holds nothing there


# -- slices ---------------------------------------------------------------------------


def test_demand_has_a_distribution_over_cells() -> None:
    twins = level_two()
    counted = [MeasuredRate("ap1", 1, TrafficClass.ELASTIC, 1.0, 1.0)]

    def shares(window: int, ap1_kbps: float, ap2_kbps: float | None) -> list[float | None]:
        twins.apply_aggregate(aggregate("ap1", window, demand(1, ap1_kbps)), 1)
        if ap2_kbps is not None:
            twins.apply_aggregate(aggregate("ap2", window, demand(1, ap2_kbps)), 1)
        twins.apply_rates(counted, 500, (window + 1) * 500_000_000)
        return [value(twins.slices[VIDEO], f"demand_share_ratio.ap{n}") for n in (1, 2)]

    assert shares(10, 3000, 1000) == [0.75, 0.25]
    assert shares(11, 0, 0) == [None, None]
    assert shares(12, 3000, 1000) == [0.75, 0.25]
    assert shares(16, 500, None)[0] == 1.0  # ap2 has been silent for too long


def test_satisfaction_is_over_the_last_minute() -> None:
    windows = SatisfiedWindows(500)

    def ratio(window: int, satisfied: bool) -> float | None:
        windows.note(window, satisfied)
        return windows.attribute(1).value

    assert ratio(0, False) == 0
    assert ratio(0, True) == 1  # another cell of the same window made it good
    assert ratio(1, False) == 0.5
    ratios = [ratio(window, True) for window in range(2, 122)]
    assert ratios[-2] == pytest.approx(119 / 120)
    assert ratios[-1] == 1


def test_totals_are_what_switches_counted_over_cells() -> None:
    twins = level_two()
    held = Reservation(
        slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=8000, max_kbps=20_000
    )
    twins.apply_reservations("ap1", [held], 1)
    rates = [
        MeasuredRate("ap1", 1, TrafficClass.ELASTIC, 5000.0, 4000.0),
        MeasuredRate("ap2", 1, TrafficClass.ELASTIC, 1000.0, 1000.0),
    ]
    twins.apply_rates(rates, 500, 2)
    video = twins.slices[VIDEO]
    assert value(video, "arrived_kbps") == 6000
    assert value(video, "delivered_kbps") == 5000
    assert value(video, "utilisation_ratio") == 5000 / 40_000
    model = POWER_MODELS["sbs"]
    dynamic_w = model.slope * model.most_w * 0.2
    assert value(video, "power_w.ap1") == pytest.approx(dynamic_w + model.idle_w * 0.4)
    total_w = value(video, "power_w")
    assert total_w == pytest.approx(1.25 * dynamic_w + model.idle_w * 0.4)
    twins.apply_rates(rates, 500, 3)
    assert value(twins.slices[VIDEO], "energy_j") == pytest.approx(total_w)


def test_power_of_a_kind_without_figures_is_unknown() -> None:
    assert slice_power_w("satellite", 1.0, 1.0, 10.0) is None


def test_loads_of_services_are_sums_and_fall_to_zero_where_they_left() -> None:
    twins = level_two()
    loads = [ServiceLoad(1, "edge1", 40.0, 0.02, 1000), ServiceLoad(1, "edge1", 10.0, 0.01, 500)]
    twins.apply_services(loads, 1000, 1)
    video = twins.slices[VIDEO]
    assert value(video, "requests_per_s.edge1") == value(video, "requests_per_s") == 50
    assert value(video, "cache_bytes") == 1500
    twins.apply_services([ServiceLoad(1, "edge2", 40.0, 0.02, 1000)], 1000, 2)
    assert value(twins.slices[VIDEO], "requests_per_s.edge1") == 0
    assert value(twins.slices[VIDEO], "requests_per_s") == 40


def test_a_service_that_was_started_anew_begins_again() -> None:
    first = Reading(1, "edge1", 7, 100, 1.0, 4096)
    later = Reading(1, "edge1", 7, 160, 1.5, 8192)
    (load,) = loads_between({("s", "edge1"): first}, {("s", "edge1"): later}, 2.0)
    assert (load.requests_per_s, load.compute_cores, load.cache_bytes) == (30.0, 0.25, 8192)
    anew = Reading(1, "edge1", 8, 5, 0.1, 4096)
    assert loads_between({("s", "edge1"): first}, {("s", "edge1"): anew}, 2.0) == []


def test_processor_time_is_the_kernels() -> None:
    stat = "12 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 1 0 0 0 0"
    assert processor_s(stat) == pytest.approx(3.0)


def test_a_strategy_is_who_decided_last() -> None:
    book = StrategyBook(ric_inventory())
    before = book.attributes(1, [], 5, 10)["strategy.reservation"]
    assert before["value"] == {"method": "the scenario's fixed split"}
    book.note(decision(14.5), [1], 7)
    xapp = {"xapp_name": "slice-planner", "version": "1.0.0", "models": ["ab"], "config": {"a": 1}}
    after = book.attributes(1, [xapp], 5, 10)["strategy.reservation"]
    assert after["value"] == {
        "method": "slice-planner",
        "version": "1.0.0",
        "models": ["ab"],
        "config": {"a": 1},
    }
    assert after["measured_at"] == 7
    assert book.methods(2, [xapp])["reservation"] == before["value"]


# -- forecasts ------------------------------------------------------------------------


def event(window: int, demand_kbps: float, period_ms: int = 500) -> dict[str, Any]:
    slices = [{"slice_id": 1, "demand_kbps": demand_kbps, "users": 2}]
    return {
        "kind": "cell",
        "id": "ap1",
        "window": window,
        "period_ms": period_ms,
        "slices": slices,
    }


def test_a_history_is_on_the_models_grid() -> None:
    histories = DemandHistories()
    for window in range(3):
        histories.observe(event(window, 1000.0 * window))
    slice_ids, history = histories.of_cell("ap1", 10_000.0)
    assert slice_ids == [1]
    assert history.shape == (1, 20, 2)
    assert history[0, -3:, 0] == pytest.approx([0.0, 0.1, 0.2])
    assert history[0, :-3, 0] == pytest.approx(0.0)  # before the first sample, the first
    assert history[0, :, 1] == pytest.approx(0.2)
    slow = DemandHistories()
    for window in range(12):
        slow.observe(event(window, 1000.0 * window, period_ms=1000))
    held = slow.of_cell("ap1", 10_000.0)[1][0, :, 0]
    assert held[-4:] == pytest.approx([0.9, 1.0, 1.0, 1.1])


class Session:
    """Twice the last demand, and a little more for each quantile."""

    def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
        last = inputs["history"][:, -1, 0]
        return [np.stack([last * 2, last * 3, last * 4], axis=1)]


async def forecasts(events: list[dict[str, Any]]) -> list[tuple[str, int, Prediction]]:
    written: list[tuple[str, int, Prediction]] = []
    made = SliceForecasts({"ap1": 10_000.0}, lambda *w: written.append(w))
    made.observe(events[0])
    made.model = OnnxModel("twice 1", Session())
    for one in events[1:]:
        made.observe(one)
    assert written == []  # the loop goes first
    await asyncio.sleep(2 * DELAY_S)
    return written


def test_forecasts_with_quantiles_follow_each_aggregate_a_moment_later() -> None:
    written = asyncio.run(forecasts([event(0, 500.0), event(1, 1000.0)]))
    ((cell_id, slice_id, made),) = written
    assert (cell_id, slice_id, made.value, made.source) == ("ap1", 1, 2000.0, "twice 1")
    assert made.quantiles == {"0.5": 2000.0, "0.9": 3000.0, "0.97": 4000.0}
    assert made.horizon_ms == 2000


def test_a_median_does_not_replace_quantiles_that_still_hold() -> None:
    twins = level_two()
    twins.apply_aggregate(aggregate("ap1", 10, demand(1, 4000)), 1)
    full = Prediction(5000.0, 10, "model", {"0.5": 5000.0, "0.9": 6000.0}, 2000)
    twins.apply_prediction("ap1", 1, full)
    twins.apply_prediction("ap1", 1, Prediction(4500.0, 20, "planner"))
    assert twins.slices[VIDEO].attributes["demand_kbps.ap1"].predicted == full
    late = Prediction(4500.0, 10 + 2_000_000_000, "planner")
    twins.apply_prediction("ap1", 1, late)
    assert twins.slices[VIDEO].attributes["demand_kbps.ap1"].predicted == late

"""User twins: how reports and attachments become one, how it ages and is shown."""

from __future__ import annotations

import orjson
import pytest

from controller.contracts.twin_messages import UserReport
from controller.twins.level_one import (
    UserTwin,
    age_ms,
    history_documents,
    is_expired,
    merge_attachment,
    merge_report,
    twin_document,
)
from tests.sample_reports import PERIOD_NS, T0_NS, sample_flow, sample_report


def merged(twin: UserTwin | None, report: UserReport, history_length: int = 600) -> UserTwin:
    arrived_at_ns = report.measured_at_ns + 2_000_000
    return merge_report(twin, report, arrived_at_ns, history_length)


def test_the_first_report_makes_the_twin() -> None:
    twin = merged(None, sample_report())
    assert (twin.ue_id, twin.version, twin.period_ms) == ("ue1", 3999, 500)


def test_every_attribute_tells_value_unit_time_age_period_and_source() -> None:
    document = twin_document(merged(None, sample_report()), T0_NS + 7_000_000)
    assert document["connectivity"]["rsrp_dbm"] == {
        "value": {"ap1": -80.0},
        "unit": "dBm",
        "measured_at": T0_NS,
        "age_ms": 7.0,
        "period_ms": 500,
        "source": "user report",
    }
    assert document["connectivity"]["serving_cell"]["value"] == "ap1"
    assert document["user"]["location_m"]["value"] == (1.0, 2.0)
    assert document["user"]["speed_mps"]["unit"] == "m/s"
    assert document["user"]["kind"]["value"] == "phone"
    down = document["services"]["stream"]["down"]
    assert (down["demand_kbps"]["value"], down["demand_kbps"]["unit"]) == (1000.0, "kbit/s")
    assert down["owd_p95_ms"]["value"] == 4.0
    assert orjson.loads(orjson.dumps(document))["version"] == 3999


def test_flows_of_one_service_and_direction_are_one_entry() -> None:
    flows = (
        sample_flow(demand_kbps=3000.0, loss_ratio=0.0, owd_p95_ms=None),
        sample_flow(demand_kbps=1000.0, loss_ratio=0.4, owd_p95_ms=9.0),
        sample_flow(up=True, demand_kbps=50.0),
    )
    services = twin_document(merged(None, sample_report(flows=flows)), T0_NS)["services"]
    down = services["stream"]["down"]
    assert down["demand_kbps"]["value"] == 4000.0
    assert down["loss_ratio"]["value"] == pytest.approx(0.1)
    assert down["owd_p95_ms"]["value"] == 9.0
    assert services["stream"]["up"]["demand_kbps"]["value"] == 50.0


def test_a_newer_report_replaces_and_drops_services_it_does_not_name() -> None:
    twin = merged(None, sample_report())
    twin = merged(twin, sample_report(4000, flows=(sample_flow(service="maps"),)))
    assert twin.version == 4000
    assert list(twin_document(twin, T0_NS)["services"]) == ["maps"]


def test_a_report_that_is_not_newer_is_refused() -> None:
    twin = merged(None, sample_report())
    with pytest.raises(ValueError, match="not newer than version 3999"):
        merged(twin, sample_report())


def test_merging_leaves_the_old_twin_as_it_was() -> None:
    before = merged(None, sample_report())
    merged(before, sample_report(4000, cell_id="ap2"))
    assert before.attributes["connectivity.serving_cell"].value == "ap1"
    assert len(before.history) == 1


def test_the_networks_word_stands_until_a_newer_measurement() -> None:
    twin = merge_attachment(merged(None, sample_report()), "ap2", T0_NS + PERIOD_NS + 1)
    serving = twin.attributes["connectivity.serving_cell"]
    assert (serving.value, serving.source, serving.period_ms) == ("ap2", "attachment", None)
    assert twin.attributes["services.stream.down.demand_kbps"].value == 1000.0
    twin = merged(twin, sample_report(4000, cell_id="ap1"))  # measured 1 ns before the attachment
    assert twin.attributes["connectivity.serving_cell"].value == "ap2"
    twin = merged(twin, sample_report(4001, cell_id="ap3"))
    assert twin.attributes["connectivity.serving_cell"].value == "ap3"


def test_history_is_bounded_and_ordered() -> None:
    twin: UserTwin | None = None
    for window in range(10):
        twin = merged(twin, sample_report(window, sequence=window + 1), history_length=4)
    assert twin is not None
    assert [entry["window"] for entry in history_documents(twin, 100)] == [6, 7, 8, 9]
    assert [entry["window"] for entry in history_documents(twin, 2)] == [8, 9]
    with pytest.raises(ValueError, match="at least 1"):
        history_documents(twin, 0)


def test_a_twin_expires_five_periods_after_its_last_report_arrived() -> None:
    twin = merged(None, sample_report())
    assert not is_expired(twin, twin.arrived_at_ns + 5 * PERIOD_NS)
    assert is_expired(twin, twin.arrived_at_ns + 5 * PERIOD_NS + 1)


def test_age_counts_from_the_measurement() -> None:
    assert age_ms(merged(None, sample_report()), T0_NS + 12_000_000) == 12.0

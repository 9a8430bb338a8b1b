"""Decisions about users: what they mean, what is refused, how a link's limit changes its rate."""

from __future__ import annotations

from typing import Any

import pytest

from controller.contracts.decisions import DecisionRequest
from controller.guard import check_migrate_twin, check_offload
from controller.ric.errors import Malformed, NotFound
from controller.ric.intents import resolve
from controller.ric.user_intents import AdaptLinkIntent, MigrateTwinIntent, OffloadIntent
from tests.planned_network import planned_inventory
from topologies.link_budget import EFFICIENCY_BPS_HZ, LinkQuality, capped
from topologies.scenario.loader import load

INVENTORY = planned_inventory(load("migration", []).model_dump(mode="json"))


def request(action: str, target: dict[str, Any], **parameters: Any) -> DecisionRequest:
    return DecisionRequest(
        trace_id="t",
        xapp="x",
        action=action,  # type: ignore[arg-type]
        target=target,
        parameters=parameters,
    )


def test_requests_become_intents() -> None:
    archive = {"ue_id": "car1", "service": "archive"}
    near = resolve(request("offload", archive, to="archive-near"), INVENTORY)
    assert isinstance(near, OffloadIntent) and near.to == "archive-near"
    device = resolve(request("offload", archive, to="device"), INVENTORY)
    assert isinstance(device, OffloadIntent) and device.to == "device"
    twin = resolve(request("migrate_twin", {"ue_id": "car1"}, edge="edge2"), INVENTORY)
    assert isinstance(twin, MigrateTwinIntent) and twin.edge == "edge2"
    link = resolve(request("adapt_link", {"ue_id": "car1"}, max_cqi=7), INVENTORY)
    assert isinstance(link, AdaptLinkIntent) and link.max_cqi == 7
    lifted = resolve(request("adapt_link", {"ue_id": "car1"}, max_cqi=None), INVENTORY)
    assert isinstance(lifted, AdaptLinkIntent) and lifted.max_cqi is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (request("offload", {"ue_id": "car1", "service": "assist2"}, to="device"), "car1 asks no"),
        (
            request("offload", {"ue_id": "car1", "service": "assist1"}, to="device"),
            "cannot be done",
        ),
        (request("offload", {"ue_id": "me", "service": "archive"}, to="device"), "unknown user"),
        (request("migrate_twin", {"ue_id": "car1"}, edge="cloud"), "no twins are kept at 'cloud'"),
        (request("migrate_twin", {"ue_id": "me"}, edge="edge1"), "unknown user 'me'"),
        (request("adapt_link", {"ue_id": "me"}, max_cqi=7), "unknown user 'me'"),
    ],
)
def test_what_is_not_there_is_named(wanted: DecisionRequest, words: str) -> None:
    with pytest.raises(NotFound, match=words):
        resolve(wanted, INVENTORY)


@pytest.mark.parametrize("max_cqi", [0, 16, 7.5, "7"])
def test_a_cqi_that_is_none_is_malformed(max_cqi: Any) -> None:
    with pytest.raises(Malformed, match=r"parameters\.max_cqi"):
        resolve(request("adapt_link", {"ue_id": "car1"}, max_cqi=max_cqi), INVENTORY)


def test_what_would_change_nothing_is_refused() -> None:
    assert check_offload("archive", "archive", "device") is None
    rejection = check_offload("archive", "device", "device")
    assert rejection is not None and rejection.rule == "no_change"
    assert check_migrate_twin("car1", "edge1", "edge2") is None
    rejection = check_migrate_twin("car1", "edge1", "edge1")
    assert rejection is not None and "lives at edge1 already" in rejection.reason


def test_a_limited_link_has_the_rate_of_its_scheme_and_the_channel_it_had() -> None:
    link = LinkQuality(rsrq_db=-11, snr_db=20, cqi=12, down_kbps=60_000, up_kbps=20_000)
    assert capped(link, 12) == link and capped(link, 15) == link
    low = capped(link, 4)
    ratio = EFFICIENCY_BPS_HZ[4] / EFFICIENCY_BPS_HZ[12]
    assert low.down_kbps == pytest.approx(60_000 * ratio)
    assert low.up_kbps == pytest.approx(20_000 * ratio)
    assert (low.cqi, low.snr_db) == (12, 20)

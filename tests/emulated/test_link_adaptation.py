"""`adapt_link` on a running testbed: what the packets at the user's radio port say of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import UP_TIMEOUT_S, CommandLine, free_port
from tests.waiting import wait_until
from topologies.air_interface import quality
from topologies.link_budget import EFFICIENCY_BPS_HZ
from topologies.mobility import position_m
from topologies.radio import powers_dbm
from topologies.scenario.loader import load
from topologies.scenario.radio import Tr38901Radio

FAR, NEAR = "phone2", "phone1"
"""Of scenario `access`: 0.8 Mbit/s are sent to each; under a satellite's narrow carrier the lowest
scheme carries less than that, near the macro cell more."""
TOLERANCE_RATIO = 0.05


@pytest.fixture(scope="module")
def adapting(command_line: CommandLine) -> Iterator[CommandLine]:
    """Scenario `access`, nobody but the test deciding."""
    port = f"northbound_port={free_port()}"
    command_line.output("up", "access", "--policy", "none", "--set", port, timeout_s=UP_TIMEOUT_S)
    try:
        yield command_line
    finally:
        command_line.output("down")


def judged(line: CommandLine, user: str, *limit: str) -> dict[str, Any]:
    """The record of an `ue adapt` once its effect is known."""
    decision_id = line.json("ue", "adapt", user, *limit)["decision_id"]
    found: dict[str, Any] = {}

    def is_judged() -> bool:
        found.update(line.json("decision", "show", decision_id))
        return found["effect"] != "pending"

    wait_until(is_judged, 10)
    return found


def scheme_kbps(user_name: str, cqi: int) -> float:
    """What the standard's formulas let through to the user at this scheme."""
    scenario = load("access")
    user = next(u for u in scenario.users if u.name == user_name)
    here_m = position_m(user.mobility, scenario.seed, user.name, 0.0)
    cells = [a.name for a in scenario.access_points]
    powers = dict(zip(cells, powers_dbm(scenario, here_m, 0.0), strict=True))
    assert isinstance(scenario.radio, Tr38901Radio)
    link = quality(scenario, scenario.radio, powers, max(powers, key=lambda c: powers[c]))
    return link.down_kbps * EFFICIENCY_BPS_HZ[cqi] / EFFICIENCY_BPS_HZ[link.cqi]


def test_a_limit_below_the_demand_is_verified_by_what_still_arrives_and_so_is_lifting_it(
    adapting: CommandLine,
) -> None:
    promised_kbps = scheme_kbps(FAR, 1)
    limited = judged(adapting, FAR, "--max-cqi", "1")
    down = limited["effect_detail"]["ways"]["down"]
    assert limited["effect"] == down["effect"] == "verified", limited["effect_detail"]
    assert down["promised_kbps"] == pytest.approx(promised_kbps, rel=0.01)
    assert down["delivered_kbps"] == pytest.approx(promised_kbps, rel=TOLERANCE_RATIO)
    assert down["waited_ms"] >= 1000, "more is sent than the scheme carries"
    assert limited["effect_detail"]["ways"]["up"]["effect"] == "not_exercised"
    lifted = judged(adapting, FAR)
    down = lifted["effect_detail"]["ways"]["down"]
    assert lifted["effect"] == down["effect"] == "verified", lifted["effect_detail"]
    assert down["before_kbps"] == pytest.approx(promised_kbps, rel=0.01)
    assert down["delivered_kbps"] > 1.2 * promised_kbps


def test_a_limit_that_demand_never_reaches_is_not_exercised(adapting: CommandLine) -> None:
    promised_kbps = scheme_kbps(NEAR, 1)
    record = judged(adapting, NEAR, "--max-cqi", "1")
    down = record["effect_detail"]["ways"]["down"]
    assert record["effect"] == down["effect"] == "not_exercised"
    assert 0 < down["delivered_kbps"] < down["promised_kbps"]
    assert down["promised_kbps"] == pytest.approx(promised_kbps, rel=0.01)
    assert "demand did not reach" in down["reason"]

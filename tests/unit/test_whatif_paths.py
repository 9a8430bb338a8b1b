"""What a packet passes on its way down, and what that costs it where nothing queues."""

from __future__ import annotations

import numpy as np
import pytest

from controller.whatif.calibration import Calibration
from controller.whatif.paths import paths_of
from topologies.describe import as_planned
from topologies.scenario.loader import load

CALIBRATION = Calibration.load()
CROSSROADS = paths_of(as_planned(load("crossroads", [])))


def test_a_path_has_the_switches_and_wires_between_a_server_and_a_cell() -> None:
    """Cells mbs, sbs1, sbs2; embb and miot from the cloud behind 10 ms, urllc from sbs1's edge."""
    assert CROSSROADS.switches.tolist() == [[3, 4, 3], [3, 2, 3], [3, 4, 3]]
    assert CROSSROADS.configured_ms.tolist() == [[10, 0, 10]] * 3
    assert CROSSROADS.hosts == 14


def test_a_backhaul_that_delays_is_on_the_way_of_everybody_behind_it() -> None:
    backhaul = ["access_points.mbs.backhaul.delay_ms=7"]
    far = paths_of(as_planned(load("crossroads", backhaul)))
    assert (far.configured_ms - CROSSROADS.configured_ms).tolist() == [[7, 7, 7], [0] * 3, [0] * 3]


def test_every_switch_costs_the_same_and_a_wire_its_own() -> None:
    switching = CALIBRATION.switching_ms(CROSSROADS)
    assert switching[0, 1] == pytest.approx(2 * switching[1, 1])
    assert switching[1, 1] > 0
    wires = CALIBRATION.wires_ms(CROSSROADS)
    assert wires[0, 0] == pytest.approx(10 + CALIBRATION.wire_ms)
    assert wires[0, 1] == 0


def test_an_unqueued_delay_spreads_around_its_median_and_its_mean_is_above() -> None:
    low, middle, high = (CALIBRATION.unqueued_ms(CROSSROADS, q)[0, 1] for q in (0.1, 0.5, 0.95))
    assert low < middle < high
    draws = CALIBRATION.spread(np.linspace(0, 1, 20_001))
    assert CALIBRATION.mean_spread == pytest.approx(draws.mean(), rel=0.01)

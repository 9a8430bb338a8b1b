"""TR 38.901 closed forms against values worked out by hand; SNR, CQI and rate; shadowing."""

from __future__ import annotations

import ipaddress
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from controller.contracts.addressing import ipv6_of, service_ip, session_ip
from models.traces import Trace
from tests.emulated.networks import two_cells
from topologies.air_interface import NOT_HEARD_DBM, quality, rsrp_dbm
from topologies.link_budget import Carrier, cqi_of, noise_dbm, rate_kbps, rsrq_db, snr_db
from topologies.propagation import Path, gaussian_field, los_probability, path_loss_db
from topologies.radio_shaper import slice_filter, worth_changing
from topologies.radio_updates import replayed
from topologies.scenario.loader import load
from topologies.scenario.radio import Propagation, RadioTrace, Tr38901Radio
from topologies.scenario.schema import Scenario

GHZ_DB = 20 * math.log10(3.5)


def path(model: Propagation, flat_m: float, height_m: float = 25.0, ghz: float = 3.5) -> Path:
    return Path(model, ghz, flat_m, height_m, 1.5)


@pytest.mark.parametrize(
    ("model", "height_m", "is_los", "expected_db"),
    [
        ("uma", 25.0, True, 28.0 + 22 * math.log10(math.hypot(200, 23.5)) + GHZ_DB),
        ("uma", 25.0, False, 13.54 + 39.08 * math.log10(math.hypot(200, 23.5)) + GHZ_DB),
        ("umi", 10.0, True, 32.4 + 21 * math.log10(math.hypot(200, 8.5)) + GHZ_DB),
        ("umi", 10.0, False, 22.4 + 35.3 * math.log10(math.hypot(200, 8.5)) + 1.065 * GHZ_DB),
        ("free_space", 100.0, True, 32.45 + 20 * math.log10(math.hypot(200, 98.5)) + GHZ_DB),
    ],
)  # fmt: skip
def test_path_loss_of_table_7_4_1_1(
    model: Propagation, height_m: float, is_los: bool, expected_db: float
) -> None:
    assert path_loss_db(path(model, 200, height_m), is_los) == pytest.approx(expected_db)


def test_beyond_the_breakpoint_loss_falls_at_40_db_a_decade() -> None:
    far, farther = (path_loss_db(path("uma", d), True) for d in (500.0 * 2, 500.0 * 8))
    assert farther - far == pytest.approx(40 * math.log10(4), abs=0.1)


def test_nlos_is_never_below_los() -> None:
    for d in range(10, 5000, 50):
        for model, height_m in (("uma", 25.0), ("umi", 10.0)):
            here = path(model, float(d), height_m)  # type: ignore[arg-type]
            assert path_loss_db(here, False) >= path_loss_db(here, True)


def test_out_of_range_is_refused_and_near_counts_as_nearest() -> None:
    with pytest.raises(ValueError, match="uma holds up to 5000 m, not at 5001 m"):
        path_loss_db(path("uma", 5001), True)
    with pytest.raises(ValueError, match="0.5-100 GHz, not 0.4 GHz"):
        path_loss_db(path("uma", 100, ghz=0.4), True)
    assert path_loss_db(path("uma", 1), True) == path_loss_db(path("uma", 10), True)


def test_los_probability_of_table_7_4_2_1() -> None:
    assert los_probability(path("umi", 18)) == 1.0
    by_hand = 18 / 100 + math.exp(-100 / 36) * (1 - 18 / 100)
    assert los_probability(path("umi", 100)) == pytest.approx(by_hand)
    by_hand = 18 / 100 + math.exp(-100 / 63) * (1 - 18 / 100)
    assert los_probability(path("uma", 100)) == pytest.approx(by_hand)
    assert los_probability(path("inh", 20, 3.0)) == pytest.approx(math.exp(-15 / 70.8))


def test_shadowing_is_seeded_and_correlated_in_space() -> None:
    assert gaussian_field(1, "a", 37, 5, 5) == gaussian_field(1, "a", 37, 5, 5)
    assert gaussian_field(1, "a", 37, 5, 5) != gaussian_field(2, "a", 37, 5, 5)
    here, near, far = np.array(
        [[gaussian_field(s, "a", 37, x, 0) for x in (0.0, 37.0, 400.0)] for s in range(1500)]
    ).T
    assert np.std(here) == pytest.approx(1.0, abs=0.08)
    assert np.corrcoef(here, near)[0, 1] == pytest.approx(math.exp(-1), abs=0.08)
    assert abs(np.corrcoef(here, far)[0, 1]) < 0.1


def test_snr_cqi_and_rate() -> None:
    noise = noise_dbm(30e3, 9)
    assert noise == pytest.approx(-174 + 44.77 + 9, abs=0.01)
    assert snr_db(-100, [noise]) == pytest.approx(20.23, abs=0.01)
    assert snr_db(-100, [-110, -110]) == pytest.approx(10 - 3.01, abs=0.01)
    assert [cqi_of(s) for s in (-10, -7, 0, 10, 20, 40)] == [0, 1, 3, 8, 12, 15]
    # TS 38.306 4.1.2: 273 blocks, 30 kHz, one layer, 64QAM 948/1024, FR1 downlink.
    assert rate_kbps(15, Carrier(100, 30), 0.14) == pytest.approx(438_177, rel=1e-3)
    assert rate_kbps(0, Carrier(100, 30), 0.14) == 0
    assert rsrq_db(-80, [-140]) == pytest.approx(-10.79, abs=0.01)


def radio_scenario(**changes: Any) -> Scenario:
    radio = {"model": "tr38901", "line_of_sight": "never", "shadowing": False, **changes}
    return Scenario.model_validate(two_cells(radio=radio))


def test_further_away_is_fewer_bits_and_interference_costs() -> None:
    def rate_at(x_m: float, **changes: Any) -> float:
        scenario = radio_scenario(**changes)
        radio = scenario.radio
        assert isinstance(radio, Tr38901Radio)
        aps = scenario.access_points
        powers = {a.name: rsrp_dbm(scenario, radio, a, (x_m, 0), 0) for a in aps}
        return quality(scenario, radio, powers, "ap1").down_kbps

    rates = [rate_at(x) for x in (-20, -60, -120, -250)]
    assert rates == sorted(rates, reverse=True) and rates[0] > 4 * rates[-1] > 0
    assert rate_at(150, interference_load_ratio=1.0) < rate_at(150)


def test_beyond_the_models_range_a_cell_is_not_heard() -> None:
    scenario = load("access")
    assert isinstance(scenario.radio, Tr38901Radio)
    hotspot = scenario.access_points[4]
    assert rsrp_dbm(scenario, scenario.radio, hotspot, (2000, 0), 0) == NOT_HEARD_DBM
    assert rsrp_dbm(scenario, scenario.radio, hotspot, (-40, -290), 0) > -90


def test_a_uav_cell_moves_and_others_do_not() -> None:
    scenario = load("access")
    assert isinstance(scenario.radio, Tr38901Radio)
    drone = scenario.access_points[2]
    seen = {
        round(rsrp_dbm(scenario, scenario.radio, drone, (700, 0), t), 2) for t in range(0, 9, 3)
    }
    assert len(seen) == 3
    with pytest.raises(ValidationError, match="kind sbs does not move; uav does"):
        _with_first_cell(mobility={"kind": "static", "position_m": [0, 0]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"antenna_height_m": 30}, "umi holds for 10 m"),
        ({"frequency_ghz": 200}, "hold for 0.5-100 GHz"),
        ({"bandwidth_mhz": 100, "subcarrier_spacing_khz": 15}, "needs subcarrier_spacing_khz 30"),
    ],
)
def test_impossible_radio_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _with_first_cell(**change)


def _with_first_cell(**changes: Any) -> Scenario:
    document = two_cells()
    document["access_points"][0] |= changes
    return Scenario.model_validate(document)


def test_small_changes_of_rate_are_not_applied() -> None:
    assert worth_changing(None, 1000, 0.1)
    assert not worth_changing(1000, 1090, 0.1)
    assert worth_changing(1000, 880, 0.1)


def test_a_trace_drives_the_radio_and_starts_over() -> None:
    rows = {
        "rsrp_dbm": [-90.0, -95.0, math.nan], "rsrq_db": [-11.0] * 3, "snr_db": [12.0, 3.0, 1.0],
        "cqi": [10.0, 5.0, 3.0], "downlink_kbps": [80_000.0, 40_000.0, 20_000.0],
        "uplink_kbps": [1000.0] * 3,
    }  # fmt: skip
    values = {name: np.array(of) for name, of in rows.items()}
    trace = Trace("t", "Download", "Driving", np.array([0.0, 1.0, 3.0]), values)
    spec = RadioTrace(file="t.csv", rate_ratio=0.1)
    assert replayed(trace, spec, 0.5)[1].down_kbps == pytest.approx(8000)
    rsrp, link = replayed(trace, spec, 2.9)
    assert (rsrp, link.cqi, link.snr_db) == (-95.0, 5, 3.0)
    assert replayed(trace, spec, 3.2) == replayed(trace, spec, 0.2)


@pytest.mark.parametrize("slice_id", [0, 1, 9, 10, 14])
def test_the_shaper_tells_slices_apart_by_address_of_both_ip_versions(slice_id: int) -> None:
    mine, other = session_ip(slice_id, 3), service_ip(3, 0)
    for ethertype, mine_at, frame_of in ((0x0800, (26, 30), _ipv4), (0x86DD, (22, 38), _ipv6)):
        for way, at, elsewhere in (("up", *mine_at), ("down", *reversed(mine_at))):
            frame = bytearray(80)
            frame[12:14] = ethertype.to_bytes(2)
            for offset, ip in ((at, mine), (elsewhere, other)):
                octets = frame_of(ip)
                frame[offset : offset + len(octets)] = octets
            assert _run_filter(slice_filter(way), frame) == 0x10010 + slice_id  # type: ignore[arg-type]
    assert (
        _run_filter(slice_filter("up"), bytearray(b"\0" * 12 + b"\x08\x06" + b"\1" * 60)) == 0x10010
    )


def _ipv4(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


def _ipv6(ip: str) -> bytes:
    return ipaddress.ip_address(ipv6_of(ip)).packed


def _run_filter(program: str, frame: bytearray) -> int:
    """Classic BPF, as far as the filter uses it."""
    instructions = [[int(w) for w in line.split()] for line in program.split(",")[1:]]
    at = accumulator = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        match code:
            case 40:
                accumulator = int.from_bytes(frame[operand : operand + 2])
            case 48:
                accumulator = frame[operand]
            case 4:
                accumulator += operand
            case 20:
                accumulator -= operand
            case 5:
                at += operand
            case 21:
                at += if_true if accumulator == operand else if_false
            case 53:
                at += if_true if accumulator >= operand else if_false
            case 22:
                return accumulator
            case 6:
                return operand
            case _:
                raise AssertionError(code)

"""How strong each access point is at a place: 3GPP path loss, pure functions.

Line-of-sight formulas of TR 38.901 table 7.4.1-1: urban macro for an MBS, urban
micro street canyon for every other kind.  No fading; capacity is the scenario's
`down_mbps`, so RSRP decides only who serves whom.  That is `radio.model: rsrp_only`;
`tr38901` is in `air_interface.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies import air_interface
from topologies.mobility import position_m
from topologies.scenario.radio import Tr38901Radio
from topologies.scenario.schema import ANTENNA_HEIGHT_M, AccessPoint, PositionM, Scenario

LIGHT_MPS = 3.0e8
UE_HEIGHT_M = 1.5
ENVIRONMENT_HEIGHT_M = 1.0
"""Effective environment height h_E (table 7.4.1-1 note 1, for users at street level)."""
SHORTEST_M = 10.0
"""The formulas hold from 10 m on; nearer counts as 10 m."""
RESOURCE_ELEMENTS_DB = 10 * math.log10(12 * 273)
"""RSRP is power per resource element: 273 blocks of 12 subcarriers (100 MHz, TS 38.101-1)."""


def path_loss_db(kind: str, frequency_ghz: float, distance_2d_m: float) -> float:
    """TR 38.901 table 7.4.1-1, LOS: UMa for `mbs`, UMi street canyon for `sbs`; up to 5 km."""
    flat_m = max(distance_2d_m, SHORTEST_M)
    height_m = ANTENNA_HEIGHT_M[kind]
    rise_m = height_m - UE_HEIGHT_M
    direct_m = math.hypot(flat_m, rise_m)
    breakpoint_m = (
        4
        * (height_m - ENVIRONMENT_HEIGHT_M)
        * (UE_HEIGHT_M - ENVIRONMENT_HEIGHT_M)
        * frequency_ghz
        * 1e9
        / LIGHT_MPS
    )
    constant_db, slope, correction = (28.0, 22.0, 9.0) if kind == "mbs" else (32.4, 21.0, 9.5)
    frequency_db = 20 * math.log10(frequency_ghz)
    if flat_m <= breakpoint_m:
        return constant_db + slope * math.log10(direct_m) + frequency_db
    return (
        constant_db
        + 40 * math.log10(direct_m)
        + frequency_db
        - correction * math.log10(breakpoint_m**2 + rise_m**2)
    )


def rsrp_dbm(access_point: AccessPoint, here_m: PositionM) -> float:
    """Reference signal received power (TS 38.215 5.1.1) at `here_m`, isotropic antennas."""
    loss_db = path_loss_db(
        access_point.kind, access_point.frequency_ghz, math.dist(access_point.position_m, here_m)
    )
    return access_point.tx_power_dbm - RESOURCE_ELEMENTS_DB - loss_db


def rsrp_table_dbm(
    scenario: Scenario, user_name: str, t_s: Sequence[float] | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """RSRP of one user, shape [time, cell], cells in the order of `access_points`."""
    mobility = next(u.mobility for u in scenario.users if u.name == user_name)
    places = [position_m(mobility, scenario.seed, user_name, float(t)) for t in t_s]
    return np.array(
        [powers_dbm(scenario, here, float(t)) for here, t in zip(places, t_s, strict=True)]
    )


def powers_dbm(scenario: Scenario, here_m: PositionM, t_s: float) -> list[float]:
    """RSRP of every access point at a place and time, by the scenario's radio model."""
    radio = scenario.radio
    if isinstance(radio, Tr38901Radio):
        return [
            air_interface.rsrp_dbm(scenario, radio, ap, here_m, t_s)
            for ap in scenario.access_points
        ]
    return [rsrp_dbm(ap, here_m) for ap in scenario.access_points]


def serving_cell_at_start(scenario: Scenario) -> dict[str, str]:
    """Strongest access point of each user at t = 0; ties go to the first declared."""
    serving = {}
    for user in scenario.users:
        here_m = position_m(user.mobility, scenario.seed, user.name, 0.0)
        here_dbm = powers_dbm(scenario, here_m, 0.0)
        serving[user.name] = scenario.access_points[here_dbm.index(max(here_dbm))].name
    return serving

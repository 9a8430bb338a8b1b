"""A user's radio in a scenario at a moment: received power per cell, quality of the serving one.

Pure: puts mobility, propagation and link budget together for `radio.model: tr38901`.
"""

from __future__ import annotations

import math

from topologies.link_budget import (
    DOWN_OVERHEAD_RATIO,
    UP_OVERHEAD_RATIO,
    Carrier,
    LinkQuality,
    cqi_of,
    noise_dbm,
    rate_kbps,
    rsrq_db,
    snr_db,
)
from topologies.mobility import position_m
from topologies.propagation import (
    LOS_CORRELATION_M,
    SHADOWING_CORRELATION_M,
    SIGMA_DB,
    Path,
    gaussian_field,
    is_heard,
    los_probability,
    path_loss_db,
)
from topologies.scenario.radio import Tr38901Radio
from topologies.scenario.schema import AccessPoint, PositionM, Scenario

NOT_HEARD_DBM = -156.0
"""The least RSRP that a user reports (TS 38.133 table 10.1.6.1-1)."""


def access_point_position_m(ap: AccessPoint, seed: int, t_s: float) -> PositionM:
    """Where it is: some fly."""
    if ap.mobility is None:
        return ap.position_m
    return position_m(ap.mobility, seed, ap.name, t_s)


def carrier_of(ap: AccessPoint) -> Carrier:
    return Carrier(ap.bandwidth_mhz, ap.subcarrier_spacing_khz)


def coupling_loss_db(
    scenario: Scenario, radio: Tr38901Radio, ap: AccessPoint, here_m: PositionM, t_s: float
) -> float:
    """Path loss and shadowing less the antenna's gain, the same both ways."""
    there_m = access_point_position_m(ap, scenario.seed, t_s)
    flat_m = math.dist(there_m, here_m)
    path = Path(ap.propagation_model, ap.frequency_ghz, flat_m, ap.height_m, radio.ue_height_m)
    is_los = _is_los(scenario.seed, radio, ap, path, here_m)
    loss_db = path_loss_db(path, is_los) - ap.antenna_gain_dbi
    sigma_db = SIGMA_DB[ap.propagation_model, is_los]
    if radio.shadowing and sigma_db:
        correlation_m = SHADOWING_CORRELATION_M[ap.propagation_model, is_los]
        name = f"shadowing {ap.name} {is_los}"
        loss_db += sigma_db * gaussian_field(scenario.seed, name, correlation_m, *here_m)
    return loss_db


def _is_los(seed: int, radio: Tr38901Radio, ap: AccessPoint, path: Path, here_m: PositionM) -> bool:
    if ap.propagation_model == "free_space" or radio.line_of_sight == "always":
        return True
    if radio.line_of_sight == "never":
        return False
    correlation_m = LOS_CORRELATION_M[ap.propagation_model]
    drawn = gaussian_field(seed, f"line of sight {ap.name}", correlation_m, *here_m)
    return 0.5 * (1 + math.erf(drawn / math.sqrt(2))) < los_probability(path)


def rsrp_dbm(
    scenario: Scenario, radio: Tr38901Radio, ap: AccessPoint, here_m: PositionM, t_s: float
) -> float:
    """Received power per resource element (TS 38.215 5.1.1).

    `NOT_HEARD_DBM` where the path-loss model does not reach.
    """
    flat_m = math.dist(access_point_position_m(ap, scenario.seed, t_s), here_m)
    path = Path(ap.propagation_model, ap.frequency_ghz, flat_m, ap.height_m, radio.ue_height_m)
    if not is_heard(path):
        return NOT_HEARD_DBM
    share_db = 10 * math.log10(carrier_of(ap).subcarriers)
    return ap.tx_power_dbm - share_db - coupling_loss_db(scenario, radio, ap, here_m, t_s)


def quality(
    scenario: Scenario, radio: Tr38901Radio, powers_dbm: dict[str, float], serving: str
) -> LinkQuality:
    """`powers_dbm`: RSRP by access point."""
    by_name = {a.name: a for a in scenario.access_points}
    ap = by_name[serving]
    carrier = carrier_of(ap)
    spacing_hz = carrier.spacing_khz * 1e3
    disturbing = [noise_dbm(spacing_hz, radio.ue_noise_figure_db)]
    if radio.interference_load_ratio > 0:
        load_db = 10 * math.log10(radio.interference_load_ratio)
        disturbing += [
            dbm + load_db
            for name, dbm in powers_dbm.items()
            if name != serving and by_name[name].frequency_ghz == ap.frequency_ghz
        ]
    down_snr_db = snr_db(powers_dbm[serving], disturbing)
    cqi = cqi_of(down_snr_db)
    bandwidth_hz = carrier.subcarriers * spacing_hz
    full_power_dbm = powers_dbm[serving] + 10 * math.log10(carrier.subcarriers)
    loss_db = ap.tx_power_dbm - full_power_dbm
    up_noise_dbm = noise_dbm(bandwidth_hz, radio.access_point_noise_figure_db)
    up_snr_db = radio.ue_tx_power_dbm - loss_db - up_noise_dbm - radio.uplink_interference_margin_db
    return LinkQuality(
        rsrq_db=rsrq_db(powers_dbm[serving], disturbing),
        snr_db=down_snr_db,
        cqi=cqi,
        down_kbps=rate_kbps(cqi, carrier, DOWN_OVERHEAD_RATIO),
        up_kbps=rate_kbps(cqi_of(up_snr_db), carrier, UP_OVERHEAD_RATIO),
    )

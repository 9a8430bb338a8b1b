"""From received power to a rate: SNR, CQI, spectral efficiency. Pure, standard formulas.

Both directions have the whole carrier (FDD), one layer; a user's rate is what the cell
would give it alone.  CQI and efficiency: TS 38.214 table 5.2.2.1-2.  The SNR a CQI
needs is not standardised: attenuated Shannon with 0.6 (TR 36.942 annex A.2).  Rate:
TS 38.306 4.1.2 with its overheads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

THERMAL_NOISE_DBM_HZ = -174.0
EFFICIENCY_BPS_HZ = (
    0.0, 0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141, 2.4063, 2.7305,
    3.3223, 3.9023, 4.5234, 5.1152, 5.5547,
)  # fmt: skip
"""By CQI; 0 is out of range: nothing can be sent."""
SHANNON_RATIO = 0.6
DOWN_OVERHEAD_RATIO, UP_OVERHEAD_RATIO = 0.14, 0.08
"""FR1 (TS 38.306 4.1.2)."""
SUBCARRIERS = 12
RESOURCE_BLOCKS: dict[int, dict[int, int]] = {
    15: {5: 25, 10: 52, 15: 79, 20: 106, 25: 133, 30: 160, 40: 216, 50: 270},
    30: {
        5: 11, 10: 24, 15: 38, 20: 51, 25: 65, 30: 78, 40: 106, 50: 133, 60: 162, 70: 189,
        80: 217, 90: 245, 100: 273,
    },
}  # fmt: skip
"""Subcarrier spacing in kHz -> bandwidth in MHz -> N_RB (TS 38.101-1 table 5.3.2-1)."""


@dataclass(frozen=True)
class Carrier:
    bandwidth_mhz: int
    spacing_khz: int

    @property
    def subcarriers(self) -> int:
        return SUBCARRIERS * RESOURCE_BLOCKS[self.spacing_khz][self.bandwidth_mhz]


@dataclass(frozen=True)
class LinkQuality:
    """Of a user's serving cell. `snr_db` has interference in it where the scenario states some."""

    rsrq_db: float
    snr_db: float
    cqi: int
    down_kbps: float
    up_kbps: float


def noise_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    return THERMAL_NOISE_DBM_HZ + 10 * math.log10(bandwidth_hz) + noise_figure_db


def snr_db(signal_dbm: float, noise_and_interference_dbm: Sequence[float]) -> float:
    """Ratio of a power to the sum of others, all of the same bandwidth."""
    return signal_dbm - _sum_dbm(noise_and_interference_dbm)


def rsrq_db(rsrp_dbm: float, noise_and_interference_dbm: Sequence[float]) -> float:
    """TS 38.215 5.1.3: N RSRP / RSSI; all per resource element, the cell fully loaded."""
    return rsrp_dbm - _sum_dbm([rsrp_dbm, *noise_and_interference_dbm]) - 10 * math.log10(12)


def cqi_of(snr: float) -> int:
    """The highest CQI whose efficiency the attenuated Shannon bound reaches at this SNR (dB)."""
    reached = SHANNON_RATIO * math.log2(1 + 10 ** (snr / 10))
    return max(i for i, efficiency in enumerate(EFFICIENCY_BPS_HZ) if efficiency <= reached)


def rate_kbps(cqi: int, carrier: Carrier, overhead_ratio: float) -> float:
    """14 symbols a slot, one layer, scaling factor 1."""
    symbols_per_ms = 14 * carrier.spacing_khz / 15
    return EFFICIENCY_BPS_HZ[cqi] * carrier.subcarriers * symbols_per_ms * (1 - overhead_ratio)


def _sum_dbm(powers_dbm: Sequence[float]) -> float:
    return 10 * math.log10(sum(10 ** (p / 10) for p in powers_dbm))


def capped(link: LinkQuality, max_cqi: int) -> LinkQuality:
    """The link with a scheme no higher than this CQI's, both ways; the channel stays as it is."""
    if link.cqi <= max_cqi:
        return link
    ratio = EFFICIENCY_BPS_HZ[max_cqi] / EFFICIENCY_BPS_HZ[link.cqi]
    return replace(link, down_kbps=ratio * link.down_kbps, up_kbps=ratio * link.up_kbps)

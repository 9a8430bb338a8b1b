"""Path loss, line-of-sight probability and shadowing of 3GPP TR 38.901 (V17). Pure.

Closed forms of table 7.4.1-1 (path loss, sigma), table 7.4.2-1 (LOS probability),
correlation distances of tables 7.5-6 and 7.6.3.1-2.  `free_space` (ITU-R P.525) is for
access points above the roofs, where none of these scenarios holds.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from topologies.scenario.radio import Propagation

LIGHT_MPS = 3.0e8
ENVIRONMENT_HEIGHT_M = 1.0
"""h_E of table 7.4.1-1 note 1 for users at street level."""
LOS_CORRELATION_M = {"uma": 50.0, "umi": 50.0, "inh": 10.0, "free_space": 50.0}
"""Table 7.6.3.1-2."""
_WAVES = 256


@dataclass(frozen=True)
class Range:
    """Where a model holds: 2D distance, and the antenna height it was fitted for."""

    shortest_m: float
    longest_m: float
    antenna_height_m: float | None


RANGES: dict[Propagation, Range] = {
    "uma": Range(10.0, 5000.0, 25.0),
    "umi": Range(10.0, 5000.0, 10.0),
    "inh": Range(1.0, 150.0, None),
    "free_space": Range(1.0, 2_000_000.0, None),
}
SIGMA_DB: dict[tuple[Propagation, bool], float] = {
    ("uma", True): 4.0, ("uma", False): 6.0,
    ("umi", True): 4.0, ("umi", False): 7.82,
    ("inh", True): 3.0, ("inh", False): 8.03,
    ("free_space", True): 0.0,
}  # fmt: skip
"""Standard deviation of shadow fading by (model, is LOS)."""
SHADOWING_CORRELATION_M: dict[tuple[Propagation, bool], float] = {
    ("uma", True): 37.0, ("uma", False): 50.0,
    ("umi", True): 10.0, ("umi", False): 13.0,
    ("inh", True): 10.0, ("inh", False): 6.0,
}  # fmt: skip


@dataclass(frozen=True)
class Path:
    """From an antenna to a user. `flat_m` is the 2D distance."""

    model: Propagation
    frequency_ghz: float
    flat_m: float
    antenna_height_m: float
    ue_height_m: float

    @property
    def direct_m(self) -> float:
        return math.hypot(self.flat_m, self.antenna_height_m - self.ue_height_m)


def is_heard(path: Path) -> bool:
    """Is the user within the longest distance that the model holds for?"""
    return path.flat_m <= RANGES[path.model].longest_m


def within_range(path: Path) -> Path:
    """The path; nearer than the model's least distance counts as that.

    Raises `ValueError` beyond its longest distance, or 0.5-100 GHz: nothing there was fitted.
    """
    limits = RANGES[path.model]
    if path.flat_m > limits.longest_m:
        raise ValueError(
            f"{path.model} holds up to {limits.longest_m:.0f} m, not at {path.flat_m:.0f} m"
        )
    if not 0.5 <= path.frequency_ghz <= 100:
        raise ValueError(f"{path.model} holds for 0.5-100 GHz, not {path.frequency_ghz:g} GHz")
    flat_m = max(path.flat_m, limits.shortest_m)
    return Path(path.model, path.frequency_ghz, flat_m, path.antenna_height_m, path.ue_height_m)


def path_loss_db(path: Path, is_los: bool) -> float:
    """Table 7.4.1-1; NLOS is never below LOS. Raises `ValueError` out of range."""
    path = within_range(path)
    frequency_db = 20 * math.log10(path.frequency_ghz)
    direct = math.log10(path.direct_m)
    if path.model == "free_space":
        return 32.45 + frequency_db + 20 * direct
    if path.model == "inh":
        los_db = 32.4 + 17.3 * direct + frequency_db
        nlos_db = 38.3 * direct + 17.30 + 24.9 * math.log10(path.frequency_ghz)
    elif path.model == "uma":
        los_db = _two_slopes_db(path, 28.0, 22.0, 9.0)
        nlos_db = 13.54 + 39.08 * direct + frequency_db - 0.6 * (path.ue_height_m - 1.5)
    else:
        los_db = _two_slopes_db(path, 32.4, 21.0, 9.5)
        nlos_db = 22.4 + 35.3 * direct + 21.3 * math.log10(path.frequency_ghz)
        nlos_db -= 0.3 * (path.ue_height_m - 1.5)
    return los_db if is_los else max(los_db, nlos_db)


def _two_slopes_db(path: Path, constant_db: float, slope: float, correction: float) -> float:
    """PL1 to the breakpoint distance d'_BP, PL2 beyond it."""
    rise_m = path.antenna_height_m - path.ue_height_m
    effective_m2 = (path.antenna_height_m - ENVIRONMENT_HEIGHT_M) * (
        path.ue_height_m - ENVIRONMENT_HEIGHT_M
    )
    breakpoint_m = 4 * effective_m2 * path.frequency_ghz * 1e9 / LIGHT_MPS
    frequency_db = 20 * math.log10(path.frequency_ghz)
    direct = math.log10(path.direct_m)
    if path.flat_m <= breakpoint_m:
        return constant_db + slope * direct + frequency_db
    near_db = correction * math.log10(breakpoint_m**2 + rise_m**2)
    return constant_db + 40 * direct + frequency_db - near_db


def los_probability(path: Path) -> float:
    """Table 7.4.2-1; `inh` is the open office."""
    d_m = path.flat_m
    if path.model == "free_space":
        return 1.0
    if path.model == "inh":
        if d_m <= 5:
            return 1.0
        return math.exp(-(d_m - 5) / 70.8) if d_m <= 49 else math.exp(-(d_m - 49) / 211.7) * 0.54
    if d_m <= 18:
        return 1.0
    if path.model == "umi":
        return 18 / d_m + math.exp(-d_m / 36) * (1 - 18 / d_m)
    tall = max(0.0, path.ue_height_m - 13) / 10
    bonus = math.pow(tall, 1.5) * 5 / 4 * (d_m / 100) ** 3 * math.exp(-d_m / 150)
    return (18 / d_m + math.exp(-d_m / 63) * (1 - 18 / d_m)) * (1 + bonus)


def gaussian_field(seed: int, name: str, correlation_m: float, x_m: float, y_m: float) -> float:
    """Zero mean, unit variance, autocorrelation exp(-distance / correlation) (7.6.3.1).

    The same value at the same place for the same seed and name: a sum of plane
    waves whose wave numbers follow that autocorrelation's two-dimensional spectrum.
    """
    kx, ky, phase = _waves(seed, name, correlation_m)
    waves: npt.NDArray[np.float64] = np.cos(kx * x_m + ky * y_m + phase)
    return math.sqrt(2 / _WAVES) * float(waves.sum())


@lru_cache(maxsize=1024)
def _waves(seed: int, name: str, correlation_m: float) -> tuple[npt.NDArray[np.float64], ...]:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    share = generator.random(_WAVES)
    number = np.sqrt(1 / (1 - share) ** 2 - 1) / correlation_m
    angle, phase = generator.uniform(0, 2 * np.pi, (2, _WAVES))
    return number * np.cos(angle), number * np.sin(angle), phase

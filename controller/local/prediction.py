"""Local processing (VL3): where users will be and what they will ask for, by ONNX models.

Once a report period all users that reported are forecast, in batches; the result is
written into their twins with horizon and quantiles.  Every forecast is also compared
with what was then reported, beside persistence, so that a testbed says of itself what
its forecasts are worth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from controller.contracts.twin_messages import UserReport
from controller.local.onnx_model import Float32Array, OnnxModel
from controller.local.pending import HORIZON_NS, Forecast
from controller.local.scoring import Scores
from controller.local.timed_rows import FloatArray
from controller.local.tracks import Track
from controller.twins.predictions import Prediction

MOBILITY, DEMAND = "mobility_forecast", "demand_forecast"

BATCH_USERS = 32
"""As fast per user as 500 at once, for a tenth of onnxruntime's memory (3 MB instead of 34)."""

# The models' contracts (models/*/model.json), which a contract test holds these to.
STEP_S = 0.5
POSITIONS, POSITION_SCALE_M = 13, 100.0
MOBILITY_HORIZONS_MS = (1000, 2000, 5000, 10_000)
RADIUS_QUANTILES = (0.5, 0.9)
DEMANDS, USERS_SCALE = 20, 10.0
DEMAND_HORIZON_MS = 2000
DEMAND_QUANTILES = (0.5, 0.9, 0.97)
SCORED = MOBILITY_HORIZONS_MS.index(HORIZON_NS // 1_000_000)


class Places(NamedTuple):
    """Of users in a batch: displacements [user, 4, 2] and radii [user, 4, 2] in m, from
    `origin_m` [user, 2]."""

    origin_m: FloatArray
    displacement_m: Float32Array
    radius_m: Float32Array

    def at_m(self, row: int, horizon: int) -> tuple[float, float]:
        x, y = self.origin_m[row] + self.displacement_m[row, horizon]
        return float(x), float(y)

    def horizons(self, row: int) -> list[dict[str, Any]]:
        return [
            {
                "horizon_ms": horizon_ms,
                "value": [round(metres, 2) for metres in self.at_m(row, horizon)],
                "radius_m": {
                    str(level): round(float(self.radius_m[row, horizon, column]), 2)
                    for column, level in enumerate(RADIUS_QUANTILES)
                },
            }
            for horizon, horizon_ms in enumerate(MOBILITY_HORIZONS_MS)
        ]


class Demands(NamedTuple):
    """Of services of users in a batch, in kbit/s: [service of a user, 3 quantiles]."""

    quantiles_kbps: FloatArray

    def horizons(self, row: int) -> list[dict[str, Any]]:
        kbps = [round(value, 3) for value in self.quantiles_kbps[row].tolist()]
        named = zip(map(str, DEMAND_QUANTILES), kbps, strict=True)
        return [{"horizon_ms": DEMAND_HORIZON_MS, "value": kbps[0], "quantiles": dict(named)}]


class Predictor:
    """Tracks of the users at this edge, and the two models."""

    def __init__(self, mobility: OnnxModel, demand: OnnxModel) -> None:
        self._mobility = mobility
        self._demand = demand
        self._tracks: dict[str, Track] = {}
        self._fresh: set[str] = set()
        self.scores = Scores()
        self.made = 0

    def observe(self, report: UserReport) -> None:
        track = self._track(report.ue_id)
        if track.pending.is_due(report.measured_at_ns, report.period_ms * 1_000_000):
            self.scores.judge(track, report)
        track.add(report)
        if len(track):
            self._fresh.add(report.ue_id)

    def forget(self, ue_id: str) -> None:
        self._tracks.pop(ue_id, None)
        self._fresh.discard(ue_id)

    def adopt(self, reports: Iterable[UserReport]) -> None:
        """The history of a twin that moved here: forecasts go on without a gap."""
        for report in reports:
            track = self._track(report.ue_id)
            if not len(track) or track.newest_at_ns <= report.measured_at_ns:
                track.add(report)

    def _track(self, ue_id: str) -> Track:
        track = self._tracks.get(ue_id)
        if track is None:
            track = self._tracks[ue_id] = Track()
        return track

    def predict(
        self, capacity_kbps: Mapping[str, float], now_ns: int
    ) -> Iterator[tuple[str, dict[str, Prediction]]]:
        """(ue_id, attribute name -> forecast) of all who reported since the last call.

        `capacity_kbps`: of each user's serving cell, which scales its demand.  Batch by batch:
        who puts them away as they come holds no second copy of everybody's.
        """
        users = sorted(self._fresh & capacity_kbps.keys())
        self._fresh.clear()
        for first in range(0, len(users), BATCH_USERS):
            batch = users[first : first + BATCH_USERS]
            yield from self._predict(batch, capacity_kbps, now_ns).items()

    def _predict(
        self, users: list[str], capacity_kbps: Mapping[str, float], now_ns: int
    ) -> dict[str, dict[str, Prediction]]:
        """Of one batch."""
        found: dict[str, dict[str, Prediction]] = {}
        places, demands = self._places(users), self._demands(users, capacity_kbps)
        medians_kbps = demands.quantiles_kbps[:, 0].tolist()
        demand_row = 0
        for row, ue_id in enumerate(users):
            track = self._tracks[ue_id]
            of_user = {"user.location_m": Prediction(now_ns, self._mobility.source, places, row)}
            expected = {}
            for service in track.services:
                name = sys.intern(f"services.{service}.down.demand_kbps")  # every twin has it
                of_user[name] = Prediction(now_ns, self._demand.source, demands, demand_row)
                expected[service] = (track.last_kbps(service), medians_kbps[demand_row])
                demand_row += 1
            to_m = places.at_m(row, SCORED)
            track.pending.add(Forecast(track.newest_at_ns, track.place_m, to_m, expected))
            found[ue_id] = of_user
        self.made += sum(len(of_user) for of_user in found.values())
        return found

    def report(self) -> dict[str, Any]:
        """Forecasts made, and what they were worth: mean errors beside persistence's."""
        of_place, of_demand = self.scores.of_place, self.scores.of_demand
        return {
            "made": self.made,
            "location_error_m": of_place.mean(),
            "location_naive_error_m": of_place.naive_mean(),
            "location_samples": of_place.samples,
            "demand_error_kbps": of_demand.mean(),
            "demand_naive_error_kbps": of_demand.naive_mean(),
            "demand_samples": of_demand.samples,
        }

    def _places(self, users: list[str]) -> Places:
        tracks = np.stack([self._tracks[u].positions_m(STEP_S, POSITIONS) for u in users])
        origin_m = tracks[:, -1].copy()
        positions = (tracks - origin_m[:, None]) / POSITION_SCALE_M
        displacement, radius = self._mobility(positions=positions.astype(np.float32))
        return Places(origin_m, POSITION_SCALE_M * displacement, POSITION_SCALE_M * radius)

    def _demands(self, users: list[str], capacity_kbps: Mapping[str, float]) -> Demands:
        """Rows in the order of users, and of each its track's services."""
        count = sum(len(self._tracks[ue_id].services) for ue_id in users)
        history: Float32Array = np.empty((count, DEMANDS, 2), dtype=np.float32)
        history[:, :, 1] = 1 / USERS_SCALE
        scale_kbps = np.empty((count, 1))
        row = 0
        for ue_id in users:
            track = self._tracks[ue_id]
            if services := track.services:
                own = slice(row, row + len(services))
                scale_kbps[own] = capacity_kbps[ue_id]
                demand_kbps = track.demands_kbps(services, STEP_S, DEMANDS)
                history[own, :, 0] = demand_kbps / capacity_kbps[ue_id]
                row += len(services)
        if not count:
            return Demands(np.empty((0, len(DEMAND_QUANTILES))))
        (quantiles,) = self._demand(history=history)
        return Demands(quantiles * scale_kbps)

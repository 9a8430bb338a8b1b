"""Local processing (VL3): where users will be and what they will ask for, by ONNX models.

Once a report period all users that reported are forecast, in batches; the result is
written into their twins with horizon and quantiles.  Every forecast is also compared
with what was then reported, beside persistence, so that a testbed says of itself what
its forecasts are worth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.contracts.twin_messages import UserReport
from controller.local.onnx_model import Float32Array, OnnxModel
from controller.local.pending import HORIZON_NS, Forecast
from controller.local.scoring import Scores
from controller.local.tracks import Track
from controller.twins.level_one import Prediction, UserTwin

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


@dataclass(frozen=True)
class Place:
    """Forecast displacements [4, 2] and radii [4, 2] in m, from `origin_m`."""

    origin_m: tuple[float, float]
    displacement_m: Any
    radius_m: Any

    def at_m(self, horizon: int) -> tuple[float, float]:
        """At the `horizon`th of them."""
        (x, y), (dx, dy) = self.origin_m, self.displacement_m[horizon]
        return x + float(dx), y + float(dy)


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
        found: dict[str, dict[str, Prediction]] = {ue_id: {} for ue_id in users}
        demands = self._demands(users, capacity_kbps)
        for ue_id, place in self._places(users).items():
            of_user, track = found[ue_id], self._tracks[ue_id]
            of_user["user.location_m"] = self._of_place(place, now_ns)
            expected = {}
            for service in track.services:
                quantiles = demands[ue_id, service]
                name = sys.intern(f"services.{service}.down.demand_kbps")  # every twin has it
                of_user[name] = self._of_demand(quantiles, now_ns)
                expected[service] = (track.last_kbps(service), quantiles[0])
            to_m = place.at_m(SCORED)
            made = Forecast(track.newest_at_ns, place.origin_m, to_m, expected)
            track.pending.add(made)
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

    def _places(self, users: list[str]) -> dict[str, Place]:
        if not users:
            return {}
        tracks = [self._tracks[ue_id].positions_m(STEP_S, POSITIONS) for ue_id in users]
        positions = np.stack([(t - t[-1]) / POSITION_SCALE_M for t in tracks])
        displacement, radius = self._mobility(positions=positions.astype(np.float32))
        return {
            ue_id: Place(
                (float(track[-1, 0]), float(track[-1, 1])),
                POSITION_SCALE_M * displacement[row].astype(float),
                POSITION_SCALE_M * radius[row].astype(float),
            )
            for row, (ue_id, track) in enumerate(zip(users, tracks, strict=True))
        }

    def _demands(
        self, users: list[str], capacity_kbps: Mapping[str, float]
    ) -> dict[tuple[str, str], list[float]]:
        wanted = [(u, s) for u in users for s in self._tracks[u].services]
        if not wanted:
            return {}
        history: Float32Array = np.empty((len(wanted), DEMANDS, 2), dtype=np.float32)
        history[:, :, 1] = 1 / USERS_SCALE
        row = 0
        for ue_id in users:
            track = self._tracks[ue_id]
            if services := track.services:
                demand_kbps = track.demands_kbps(services, STEP_S, DEMANDS)
                history[row : row + len(services), :, 0] = demand_kbps / capacity_kbps[ue_id]
                row += len(services)
        (quantiles,) = self._demand(history=history)
        return {
            key: [float(q) * capacity_kbps[key[0]] for q in quantiles[row]]
            for row, key in enumerate(wanted)
        }

    def _of_place(self, place: Place, now_ns: int) -> Prediction:
        horizons = [
            {
                "horizon_ms": horizon_ms,
                "value": [
                    round(place.origin_m[i] + float(place.displacement_m[row, i]), 2)
                    for i in (0, 1)
                ],
                "radius_m": {
                    str(level): round(float(place.radius_m[row, column]), 2)
                    for column, level in enumerate(RADIUS_QUANTILES)
                },
            }
            for row, horizon_ms in enumerate(MOBILITY_HORIZONS_MS)
        ]
        return Prediction.of(now_ns, self._mobility.source, horizons)

    def _of_demand(self, quantiles: list[float], now_ns: int) -> Prediction:
        named = zip(DEMAND_QUANTILES, quantiles, strict=True)
        horizon = {
            "horizon_ms": DEMAND_HORIZON_MS,
            "value": round(quantiles[0], 3),
            "quantiles": {str(level): round(value, 3) for level, value in named},
        }
        return Prediction.of(now_ns, self._demand.source, [horizon])


def with_wanted(
    twin: UserTwin, predicted: Mapping[str, Prediction], is_wanted: Callable[[str], bool]
) -> UserTwin:
    """The twin with those of the forecasts, new and held, that its model asks for."""
    kept = {
        name: p
        for name, p in {**twin.predicted, **predicted}.items()
        if is_wanted(name) and twin.names(name)
    }
    return twin._replace(predicted=kept)

"""What users will ask for in a fork: from their twins' history, never from a scenario.

A future is a level to come and its probability; demand moves there from what it is now.
Persistence is always possible; the demand forecast's ONNX model gives quantiles of the
maximum over its horizon, which become three futures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.whatif.links import FloatArray

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "demand_forecast"
ARRIVE_MS = 1500
"""From the newest window's end until demand is at the future's level: the middle of the model's
horizon of 2 s and more."""
SMOOTHED_WINDOWS = 2
SURPRISE_WEIGHT = 0.1
RISE_WINDOWS = 4
"""2 s of the twins' windows, the horizon of the model."""


def _between(times: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray:
    """[at, ...]: `values` [time, ...] joined by straight lines, level beyond their ends."""
    after = np.clip(np.searchsorted(times, at), 1, max(times.size - 1, 1))
    if times.size == 1:
        return np.broadcast_to(values[0], (at.size, *values.shape[1:]))
    first, last = times[after - 1], times[after]
    share = np.clip((at - first) / (last - first), 0.0, 1.0)
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(values[after - 1] + (values[after] - values[after - 1]) * share)


Forecaster = Callable[[FloatArray, FloatArray, FloatArray], "Futures"]
"""(demand_kbps [window, cell, slice], users likewise, link_kbps [cell]) -> futures."""


@dataclass(frozen=True)
class Futures:
    """`level_kbps` [future, cell, slice]; `weight` [future] sums to 1; `source` says whose;
    `careful_kbps` [cell, slice]: what a careful plan is made for."""

    source: str
    level_kbps: FloatArray
    weight: FloatArray
    careful_kbps: FloatArray

    def offered_kbps(
        self, demand_kbps: FloatArray, at_ms: FloatArray, period_ms: int
    ) -> FloatArray:
        """[at, future, cell, slice]: what was asked, then straight to each future's level.

        `at_ms`: times counted from the newest window's end; `demand_kbps` [window, cell, slice].
        """
        ages_ms = (np.arange(demand_kbps.shape[0])[::-1] + 0.5) * period_ms
        times = np.array([*-ages_ms[:-SMOOTHED_WINDOWS], -SMOOTHED_WINDOWS * period_ms / 2])
        known = np.concatenate([demand_kbps[:-SMOOTHED_WINDOWS], now_kbps(demand_kbps)[None]])
        past = _between(times, known, at_ms)[:, None]
        share = (at_ms - times[-1]) / (ARRIVE_MS - times[-1])
        share = np.clip(share, 0.0, 1.0)[:, None, None, None]
        return np.asarray(past + (self.level_kbps - past) * share)


def now_kbps(demand_kbps: FloatArray) -> FloatArray:
    """[cell, slice]: the newest windows, counting noise smoothed away."""
    return np.asarray(demand_kbps[-SMOOTHED_WINDOWS:].mean(axis=0))


def persistence(demand: FloatArray, users: FloatArray, link_kbps: FloatArray) -> Futures:
    """Nothing changes."""
    now = now_kbps(demand)
    return Futures("persistence", now[None], np.ones(1), now)


class OnnxForecast:
    """Quantiles of the model as futures: a level for each share of probability.

    The model's quantiles (0.5, 0.9, 0.97) stand for the shares they bound; below the median
    demand may fall, which its trend shows.
    """

    def __init__(self, folder: Path = MODEL_FOLDER) -> None:
        import onnxruntime

        self.contract: dict[str, Any] = json.loads((folder / "model.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = folder / self.contract["file"]
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._steps = int(self.contract["inputs"][0]["shape"][1])
        self._users_scale = float(self.contract["inputs"][0]["slots"][1]["scaling"]["divide_by"])
        self._quantiles: Sequence[float] = self.contract["outputs"][0]["quantiles"]

    def __call__(self, demand: FloatArray, users: FloatArray, link_kbps: FloatArray) -> Futures:
        recent, present = demand[-self._steps :], users[-self._steps :]
        if recent.shape[0] < self._steps:
            missing = self._steps - recent.shape[0]
            recent = np.concatenate([recent[:1].repeat(missing, axis=0), recent])
            present = np.concatenate([present[:1].repeat(missing, axis=0), present])
        scaled = np.stack([recent / link_kbps[:, None], present / self._users_scale], axis=-1)
        _, cells, slices, _ = scaled.shape
        batch = scaled.transpose(1, 2, 0, 3).reshape(cells * slices, self._steps, 2)
        output = self._session.run(None, {"history": batch.astype(np.float32)})[0]
        quantiles = np.maximum.accumulate(np.maximum(output, 0.0), axis=1)
        levels = quantiles.reshape(cells, slices, -1).transpose(2, 0, 1) * link_kbps[:, None]
        falling = np.minimum(levels[0], _trend_kbps(demand))
        bounds = [0.25, *self._quantiles, 1.0]
        weight = np.diff([0.0, *(np.add(bounds[:-1], bounds[1:]) / 2)])
        weight[-1] += 1.0 - weight.sum()
        futures = [falling[None], levels, surprise_kbps(demand, levels[-1])[None]]
        weights = np.append(weight * (1 - SURPRISE_WEIGHT), SURPRISE_WEIGHT)
        return Futures("demand_forecast", np.concatenate(futures), weights, levels[-1])


def surprise_kbps(demand_kbps: FloatArray, careful_kbps: FloatArray) -> FloatArray:
    """[cell, slice]: the largest rise that these twins' history shows, from now on once more.

    Plans are made for a quantile, so no future up to it can tell one that just fits from
    one with room: somewhere beyond it the difference shows.
    """
    rises = demand_kbps[RISE_WINDOWS:] - demand_kbps[:-RISE_WINDOWS]
    largest = rises.max(axis=0) if rises.shape[0] else np.zeros_like(careful_kbps)
    return np.maximum(now_kbps(demand_kbps) + np.maximum(largest, 0.0), careful_kbps)


def _trend_kbps(demand: FloatArray) -> FloatArray:
    """[cell, slice]: the last second's change, once more."""
    newest = now_kbps(demand)
    before = demand[-4:-2].mean(axis=0) if demand.shape[0] >= 4 else newest
    return np.maximum(newest + (newest - before), 0.0)


def forecaster() -> Forecaster:
    """The model's, or persistence where the model or its runtime is missing (`source` says)."""
    try:
        return OnnxForecast()
    except (ImportError, OSError):
        return persistence

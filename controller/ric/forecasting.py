"""Forecasts of every slice's demand in every cell, by the ONNX model that xApps may use as well.

Made a moment after each aggregate, when what the loop waits for is done, and written into slice
and cell twins as `predicted` with quantiles: under every policy, with or without an xApp.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from controller.local.onnx_model import Float32Array, OnnxModel
from controller.local.prediction import (
    DEMAND_HORIZON_MS,
    DEMAND_QUANTILES,
    DEMANDS,
    STEP_S,
    USERS_SCALE,
)
from controller.ric.stream import Event
from controller.twins.twin import Prediction

DELAY_S = 0.06
"""After the aggregate; a loop takes 20 ms (p99)."""
STEP_NS = round(STEP_S * 1e9)

Sample = tuple[int, float, float]
"""(end of the window in ns, demand in kbit/s, users)"""
Write = Callable[[str, int, Prediction], None]
"""(cell_id, slice_id, forecast)"""


class DemandHistories:
    """What the model reads: each (cell, slice)'s newest samples on its time grid."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[int, deque[Sample]]] = {}

    def observe(self, event: Event) -> None:
        """A `cell` event; slices that it no longer has are forgotten."""
        ended_ns = (event["window"] + 1) * event["period_ms"] * 1_000_000
        before = self._samples.get(event["id"], {})
        kept = -(-DEMANDS * STEP_NS // (event["period_ms"] * 1_000_000)) + 1
        self._samples[event["id"]] = {
            s["slice_id"]: deque(
                [*before.get(s["slice_id"], ()), (ended_ns, s["demand_kbps"], float(s["users"]))],
                maxlen=kept,
            )
            for s in event["slices"]
        }

    def of_cell(self, cell_id: str, capacity_kbps: float) -> tuple[list[int], Float32Array]:
        """Slice ids, and [slice, step, 2]: demand over capacity, users over `USERS_SCALE`.

        The last sample by each step counts; before the first one, the first.
        """
        rows = []
        for samples in self._samples[cell_id].values():
            at = np.array([s[0] for s in samples])
            grid = at[-1] - np.arange(DEMANDS - 1, -1, -1) * STEP_NS
            place = np.maximum(np.searchsorted(at, grid, side="right") - 1, 0)
            values = np.array([s[1:] for s in samples]) / (capacity_kbps, USERS_SCALE)
            rows.append(values[place])
        return list(self._samples[cell_id]), np.array(rows, dtype=np.float32)


class SliceForecasts:
    """Listens to the stream's `cell` events; silent until its model is loaded."""

    def __init__(self, capacity_kbps: Mapping[str, float], write: Write) -> None:
        self._capacity_kbps = dict(capacity_kbps)
        self._write = write
        self._histories = DemandHistories()
        self.model: OnnxModel | None = None
        self.made = 0

    def observe(self, event: Event) -> None:
        if event["kind"] != "cell" or not event["slices"]:
            return
        self._histories.observe(event)
        if self.model is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(DELAY_S, self.forecast, event["id"], self.model)

    def forecast(self, cell_id: str, model: OnnxModel) -> None:
        capacity_kbps = self._capacity_kbps[cell_id]
        slice_ids, history = self._histories.of_cell(cell_id, capacity_kbps)
        (quantiles,) = model(history=history)
        for slice_id, row in zip(slice_ids, quantiles * capacity_kbps, strict=True):
            kbps = [round(float(q), 3) for q in row]
            by_level = dict(zip(map(str, DEMAND_QUANTILES), kbps, strict=True))
            made = Prediction(kbps[0], time.time_ns(), model.source, by_level, DEMAND_HORIZON_MS)
            self._write(cell_id, slice_id, made)
            self.made += 1

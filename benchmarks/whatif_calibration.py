"""Fitting the what-if emulator to recorded runs, and judging it on others. Pure but for reading.

What is compared is what probes measured: one-way delay of every downlink probe against the
emulator's at the same moment, cell and slice; and what slices were delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.recorded import Recorded
from controller.whatif.calibration import Calibration, SourceRun
from controller.whatif.links import FloatArray

QUIET_S = 1.5
"""A probe met no queue for sure when none is computed so long around it."""
QUEUED_MS = 5.0
LEAST_PROBES = 100
"""Of one cell and slice, for a median."""
SPREAD_POINTS = 101
SPREAD_TOP_QUANTILE = 0.999


@dataclass(frozen=True)
class Errors:
    """Of one slice of one run; ratios are (emulated - measured) / measured."""

    run: str
    slice: str
    mean_delay_ms: float
    mean_delay_error_ratio: float
    p99_delay_ms: float
    p99_delay_error_ratio: float
    throughput_kbps: float
    throughput_error_ratio: float
    wasserstein_ms: float


def waits_ms(run: Recorded) -> FloatArray:
    """What the emulator says each probe waited in a queue."""
    steps = run.steps_of(run.probes.t_s)
    return np.asarray(run.course.wait_ms[steps, run.probes.cell, run.probes.slice])


def is_quiet(run: Recorded) -> FloatArray:
    """1 for probes that met no queue, nor was one near in time."""
    around = round(QUIET_S * 1000 / run.course.step_ms)
    busy = np.cumsum(run.course.wait_ms > 0.01, axis=0)
    steps = run.steps_of(run.probes.t_s)
    last = busy.shape[0] - 1
    after = busy[np.minimum(steps + around, last), run.probes.cell, run.probes.slice]
    before = busy[np.maximum(steps - around, 0), run.probes.cell, run.probes.slice]
    return np.asarray((after - before) == 0)


def fit(runs: Sequence[Recorded]) -> Calibration:
    """Least squares on the medians of paths for delays without a queue; one factor for those
    with one."""
    rows, medians, delays = [], [], []
    queued_measured = queued_computed = 0.0
    for run in runs:
        quiet, waited, probes = is_quiet(run), waits_ms(run), run.probes
        for cell, column in np.ndindex(run.paths.switches.shape):
            here = (probes.cell == cell) & (probes.slice == column)
            own = here & (quiet > 0)
            if own.sum() < LEAST_PROBES:
                continue
            configured_ms = float(run.paths.configured_ms[cell, column])
            switches = float(run.paths.switches[cell, column])
            switching = probes.owd_ms[own] - configured_ms
            median = float(np.median(switching))
            rows.append([switches, switches * run.paths.hosts, float(configured_ms > 0)])
            medians.append(median)
            delays.append(switching)
            queued = here & (waited > QUEUED_MS)
            queued_measured += float((probes.owd_ms[queued] - configured_ms - median).sum())
            queued_computed += float(waited[queued].sum())
    switch_ms, host_ms, wire_ms = _not_negative(np.array(rows), np.array(medians))
    # A wire's share is steady, so it has no part in the spread.
    ratios = [
        np.maximum(own - wire_ms * row[2], 0.0) / (switch_ms * row[0] + host_ms * row[1])
        for own, row in zip(delays, rows, strict=True)
    ]
    top = np.linspace(0.0, 1.0, SPREAD_POINTS)
    # The middle of all: one run on a busy machine must not stretch everybody's tail.
    each = [np.quantile(own, np.minimum(top, SPREAD_TOP_QUANTILE)) for own in ratios]
    spread = np.median(each, axis=0)
    packet_bits = np.concatenate([np.asarray(run.columns.packet_bits[:-1]) for run in runs])
    return Calibration(
        switch_ms=round(switch_ms, 4),
        host_ms=round(host_ms, 4),
        wire_ms=round(wire_ms, 4),
        wait_ratio=round(queued_measured / queued_computed, 4) if queued_computed else 1.0,
        spread_ratio=[round(float(v), 4) for v in spread],
        packet_bytes=round(float(packet_bits.mean() / 8), 1),
        sources=[source(run) for run in runs],
    )


def _not_negative(rows: FloatArray, values: FloatArray) -> tuple[float, float, float]:
    """Least squares; a parameter that comes out negative is left out, the rest refitted."""
    kept = list(range(rows.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(rows[:, kept], values, rcond=None)
        if (found >= 0).all():
            full = np.zeros(rows.shape[1])
            full[kept] = found
            return float(full[0]), float(full[1]), float(full[2])
        del kept[int(np.argmin(found))]


def source(run: Recorded) -> SourceRun:
    return SourceRun(
        scenario=run.summary["scenario"],
        policy=run.summary["policy"],
        seed=run.summary["seed"],
        duration_s=run.duration_s,
        verdict=run.summary["validity"]["verdict"],
        probes=run.probes.owd_ms.size,
    )


def emulated_delays_ms(run: Recorded, calibration: Calibration) -> FloatArray:
    """One delay for every probe of the run, its spread drawn with a fixed seed."""
    where = run.probes.cell, run.probes.slice
    switching = calibration.switching_ms(run.paths)[where]
    steady = calibration.wires_ms(run.paths)[where]
    spread = calibration.spread(np.random.default_rng(0).random(switching.size))
    return np.asarray(steady + switching * spread + calibration.wait_ratio * waits_ms(run))


def judge(run: Recorded, calibration: Calibration) -> list[Errors]:
    emulated = emulated_delays_ms(run, calibration)
    delivered = run.course.delivered_kbps.mean(axis=0).sum(axis=0)
    tcp = run.tcp_kbps.mean(axis=0).sum(axis=0)
    measured = run.delivered_kbps.mean(axis=0).sum(axis=0)
    found = []
    for column, slice_ in enumerate(run.scenario.slices):
        own = run.probes.slice == column
        rate = float(delivered[column] - tcp[column])
        found.append(
            errors(
                run.name,
                slice_.name,
                run.probes.owd_ms[own],
                emulated[own],
                (measured[column], rate),
            )
        )
    return found


def errors(
    run: str, name: str, truth: FloatArray, said: FloatArray, rates: tuple[float, float]
) -> Errors:
    """`rates`: measured and emulated, kbit/s."""
    p99, said_p99 = np.percentile(truth, 99), np.percentile(said, 99)
    quantiles = np.linspace(0, 1, 1001)
    distance = np.abs(np.quantile(truth, quantiles) - np.quantile(said, quantiles)).mean()
    return Errors(
        run,
        name,
        float(truth.mean()),
        float(said.mean() / truth.mean() - 1),
        float(p99),
        float(said_p99 / p99 - 1),
        rates[0],
        rates[1] / rates[0] - 1,
        float(distance),
    )


def noise_floor(first: Recorded, again: Recorded) -> list[Errors]:
    """The same run twice: what no emulator can be better than."""
    rates = [r.delivered_kbps.mean(axis=0).sum(axis=0) for r in (first, again)]
    return [
        errors(
            f"{first.name} again",
            slice_.name,
            first.probes.owd_ms[first.probes.slice == column],
            again.probes.owd_ms[again.probes.slice == column],
            (rates[0][column], rates[1][column]),
        )
        for column, slice_ in enumerate(first.scenario.slices)
    ]


def summary(found: Sequence[Errors]) -> dict[str, Any]:
    """Mean of absolute errors over slices and runs."""
    if not found:
        return {}
    names = ("mean_delay_error_ratio", "p99_delay_error_ratio", "throughput_error_ratio")
    means = {name: float(np.mean([abs(getattr(e, name)) for e in found])) for name in names}
    return {**means, "wasserstein_ms": float(np.mean([e.wasserstein_ms for e in found]))}

"""Training data of the demand forecast, its baselines, and the loader of 5G traces."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from models.demand_forecast.baselines import (
    baselines,
    exponential_smoothing,
    persistence,
    pinball,
    scales,
    seasonal_naive,
)
from models.demand_forecast.dataset import (
    Series,
    Windows,
    random_series,
    scenario_series,
    trace_series,
    windows_of,
)
from models.demand_forecast.evaluate import HELD_OUT_SEEDS, TRAINING_SEEDS
from models.demand_forecast.shape import HISTORY_STEPS, HORIZON_STEPS, QUANTILES
from models.traces import FOLDER_VARIABLE, TraceError, is_held_out, load_trace, load_traces
from topologies.fluid import cell_slice_demand
from topologies.scenario.loader import load

HEADER = "Timestamp,Longitude,Latitude,Speed,CellID,RSRP,RSRQ,SNR,CQI,DL_bitrate,UL_bitrate"


def write_trace(folder: Path, rows: list[str], name: str = "Netflix__Driving__B_1.csv") -> Path:
    path = folder / name
    text = "\n".join([HEADER, *rows]) + "\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def row(second: int, downlink_kbps: str) -> str:
    return f"2020.01.16_09.56.{second:02d},-8.5,51.9,3,13,-99,-10,-,11,{downlink_kbps},27"


# -- traces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_trace_is_read_with_its_gaps(tmp_path: Path, suffix: str) -> None:
    name = f"Amazon_Prime__Static__B_1.{suffix}"
    path = write_trace(tmp_path, [row(56, "100"), row(57, "-"), row(59, "300")], name)
    trace = load_trace(path)
    assert (trace.name, trace.application, trace.mobility) == (
        "Amazon_Prime__Static__B_1",
        "Amazon_Prime",
        "Static",
    )
    assert trace.t_s.tolist() == [0, 1, 3]
    assert np.isnan(trace.values["snr_db"]).all()
    assert trace.sampled("downlink_kbps", 0.5).tolist() == [100.0] * 6 + [300.0] * 2
    assert trace.sampled("snr_db", 1.0).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column Timestamp"),
        (b"a,b\n1,2\n", "no column Timestamp, DL_bitrate"),
        (b"\xff\xfe\x00", "cannot be read"),
        (f"{HEADER}\nyesterday,1,1,1,1,1,1,1,1,1,1\n".encode(), "yesterday"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "Netflix__Static__B_1.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as refusal:
        load_trace(path)
    assert str(path) in str(refusal.value)


def test_a_folder_without_traces_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no 5G traces"):
        load_traces(tmp_path)


def test_the_public_set() -> None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        pytest.skip(f"needs the public 5G traces; {FOLDER_VARIABLE} names their folder")
    traces = load_traces(Path(folder))
    assert {t.mobility for t in traces} == {"Static", "Driving"}
    assert all(np.isfinite(t.values["downlink_kbps"]).mean() > 0.9 for t in traces)
    held_out = sum(is_held_out(t) for t in traces)
    assert 0.1 < held_out / len(traces) < 0.5


# -- series and windows ------------------------------------------------------------------------


def test_windows_look_back_ten_seconds_and_ahead_two() -> None:
    demand_kbps = np.arange(100.0, 200.0)
    series = Series("test", demand_kbps, np.full(100, 3.0), capacity_kbps=1000.0)
    windows = windows_of(series)
    assert windows.history.shape == (100 - HORIZON_STEPS, HISTORY_STEPS, 2)
    assert windows.history[0, :, 0].tolist() == pytest.approx([0.1] * HISTORY_STEPS)
    assert windows.history[30, :, 0].tolist() == pytest.approx((demand_kbps[11:31] / 1000).tolist())
    assert windows.target[30] == pytest.approx(0.134)
    assert windows.history[5, 0, 1] == pytest.approx(0.3)


def test_series_of_a_scenario_are_what_the_fluid_says() -> None:
    scenario = load("crossroads")
    series = scenario_series(scenario, 1, 60.0)
    fluid = cell_slice_demand(scenario, 1, 60.0, 0.5)
    assert len(series) == fluid.shape[0] * fluid.shape[1]
    for found, expected in zip(series, fluid.reshape(len(series), -1), strict=True):
        assert found.demand_kbps.mean() == pytest.approx(expected.mean(), rel=0.05, abs=60.0)
        assert (found.users == found.users.astype(int)).all()
    users = sum(s.users for s in series)
    assert np.all(users == sum(len(u.slices) for u in scenario.users))


def test_seeds_of_training_and_evaluation_are_apart() -> None:
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)
    assert min(TRAINING_SEEDS) >= 100


def test_random_slices_depend_on_nothing_but_the_generator() -> None:
    one, other = (random_series(np.random.default_rng(4), 60.0) for _ in range(2))
    assert windows_of(one).digest() == windows_of(other).digest()
    assert one.capacity_kbps >= 5000
    another = random_series(np.random.default_rng(5), 60.0)
    assert windows_of(another).digest() != windows_of(one).digest()


def test_slices_of_traces(tmp_path: Path) -> None:
    rows = [row(second, str(100 * second)) for second in range(60)]
    trace = load_trace(write_trace(tmp_path, rows))
    random = np.random.default_rng(1)
    series = trace_series([trace], 3, 20.0, random)
    assert [s.demand_kbps.size for s in series] == [40] * 3
    assert all((s.users >= 2).all() for s in series)
    assert trace_series([trace], 3, 120.0, random) == []


# -- baselines ---------------------------------------------------------------------------------


def ramp() -> Windows:
    demand_kbps = np.concatenate([np.full(40, 1000.0), np.arange(1000.0, 5000.0, 100.0)])
    return windows_of(Series("ramp", demand_kbps, np.ones(80), 10_000.0))


def test_points_of_the_baselines() -> None:
    windows = ramp()
    last = windows.history[-1:]
    assert persistence(last)[0] == pytest.approx(last[0, -1, 0])
    assert seasonal_naive(last)[0] == pytest.approx(last[0, HORIZON_STEPS - 1, 0])
    ahead = exponential_smoothing(0.9, 0.7)(last)[0]
    assert ahead == pytest.approx(windows.target[-1], rel=0.02), "a ramp is its own trend"


def test_margins_come_from_training_and_cover_as_stated() -> None:
    random = np.random.default_rng(6)
    training = Windows.joined(windows_of(random_series(random, 120.0)) for _ in range(40))
    for baseline in baselines(training):
        quantiles = baseline.quantiles(training.history)
        covered = (training.target[:, None] <= quantiles + 1e-9).mean(axis=0)
        assert covered == pytest.approx(QUANTILES, abs=0.03), baseline.name
    assert (scales(training.history) > 0).all()


def test_pinball_loss_punishes_what_is_too_low_by_its_quantile() -> None:
    windows = Windows(np.zeros((1, HISTORY_STEPS, 2), np.float32), np.array([1.0], np.float32))
    assert pinball(np.array([[1.0, 1.0, 1.0]]), windows) == 0
    low, high = np.array([[0.0, 0.0, 0.0]]), np.array([[2.0, 2.0, 2.0]])
    assert pinball(low, windows) == pytest.approx(np.mean(QUANTILES))
    assert pinball(high, windows) == pytest.approx(1 - np.mean(QUANTILES))

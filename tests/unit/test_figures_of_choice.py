"""What benchmarks say of choices and forecasts: intervals, ties, chance; and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forecast_scores import Losses, misses, pinball, ratio, scored, winkler
from benchmarks.proportions import Choice, Proportion, judged
from benchmarks.whatif_runs import Case, Unquotable, quotable, record_missing

CASE = Case("market", "static", 1)


def write_verdict(folder: Path, verdict: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    validity = {"verdict": verdict, "reasons": ["the machine was busy"]}
    (folder / "summary.json").write_text(json.dumps({"validity": validity}))


def test_no_figure_comes_from_an_invalid_run(tmp_path: Path) -> None:
    assert record_missing(tmp_path, 0, [CASE]) == {CASE.name: "not recorded yet"}
    with pytest.raises(Unquotable, match="not recorded yet"):
        quotable(CASE, tmp_path)
    write_verdict(tmp_path / CASE.name, "invalid")
    assert "busy" in record_missing(tmp_path, 0, [CASE])[CASE.name]
    with pytest.raises(Unquotable, match="busy"):
        quotable(CASE, tmp_path)
    write_verdict(tmp_path / CASE.name, "valid")
    assert record_missing(tmp_path, 0, [CASE]) == {}


def test_a_few_right_choices_do_not_prove_nine_of_ten() -> None:
    low, high = Proportion(4, 4).interval
    assert low == pytest.approx(0.5101, abs=1e-3)
    assert high == pytest.approx(1.0)
    low, high = Proportion(90, 100).interval  # Wilson's, as published tables have it
    assert (low, high) == (pytest.approx(0.8256, abs=1e-3), pytest.approx(0.9448, abs=1e-3))


def test_forks_in_which_all_are_alike_are_counted_apart() -> None:
    alike = Choice("a", {"a": 0.90, "b": 0.91})
    right = Choice("a", {"a": 0.9, "b": 0.5})
    wrong = Choice("a", {"a": 0.5, "b": 0.9})
    figures = judged([alike, right, wrong], tie=0.02)
    assert (figures["all"]["right"], figures["all"]["of"]) == (2, 3)
    assert (figures["decisive"]["right"], figures["decisive"]["of"]) == (1, 2)
    assert (figures["without_ties"]["right"], figures["without_ties"]["of"]) == (1, 3)
    assert figures["always"]["b"]["right"] == 1
    assert figures["at_random_ratio"] == 0.5
    assert figures["regret_max"] == pytest.approx(0.4)


def test_an_interval_is_as_wide_as_traces_differ_not_windows() -> None:
    random = np.random.default_rng(1)
    cluster = np.repeat(np.arange(10), 1000)
    below = np.ones(cluster.size)
    alike = ratio(0.8 * below, below, cluster, random)
    assert (alike.value, alike.low, alike.high) == (pytest.approx(0.8),) * 3
    differing = ratio(np.where(cluster < 5, 0.4, 1.2), below, cluster, random)
    assert differing.value == pytest.approx(0.8)
    assert differing.low < 0.65
    assert differing.high > 0.95


def test_a_forecast_that_a_baseline_beats_is_named() -> None:
    cluster = np.arange(20)
    ones = np.ones(20)
    losses = {
        "model": Losses(0.95 * ones, 0.5 * ones),
        "persistence": Losses(ones, ones),
        "seasonal naive": Losses(2 * ones, 0.4 * ones),
    }
    table = {"single users": scored(losses, cluster, np.random.default_rng(1))}
    found = misses(table)
    assert len(found) == 2
    assert "MASE 0.950" in found[0]
    assert "seasonal naive" in found[1]


def test_losses_of_quantiles_and_of_discs() -> None:
    error = np.array([[2.0, 2.0], [-2.0, -2.0]])
    assert pinball(error, (0.5, 0.9)) == pytest.approx([1.4, 0.6])
    distance, radius = np.array([1.0, 3.0]), np.array([[2.0], [2.0]])
    assert winkler(distance, radius, (0.9,)) == pytest.approx([2.0, 12.0])

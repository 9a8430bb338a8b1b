"""What `bench migration` asks of its runs, and that invalid or other runs are never quoted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import migration
from benchmarks.migration import STRATEGIES, Case, judged


def row(cost_ms: float, latency_ms: float, moved: float, down_s: float) -> dict[str, float]:
    return {
        "cost_ms": cost_ms,
        "latency_mean_ms": latency_ms,
        "in_deadline_ratio": 0.9,
        "bytes_on_wire": moved,
        "downtime_s": down_s,
    }


def table(**changes: dict[str, float]) -> dict[str, dict[str, Any]]:
    """The forecast is best in everything asked; seed 2 costs all of them 1 ms more."""
    rows = {
        "forecast": row(5.0, 3.0, 4e6, 0.3),
        "always": row(15.0, 8.0, 9e6, 0.9),
        "never": row(8.0, 8.0, 0.0, 0.0),
        "nearest": row(14.0, 7.0, 8e6, 0.8),
    } | changes
    return {s: {"1": r, "2": r | {"cost_ms": r["cost_ms"] + 1}} for s, r in rows.items()}


def test_the_forecast_is_compared_by_seed_and_on_average() -> None:
    found = judged(table())
    assert all(found["bounds"].values()) and len(found["bounds"]) == 8
    assert found["means"]["forecast"]["cost_ms"] == 5.5
    assert found["cost_difference_ms"] == {
        "always": [-10.0, -10.0], "never": [-3.0, -3.0], "nearest": [-9.0, -9.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("other", "better", "words"),
    [
        ("never", row(5.5, 2.9, 0.0, 0.0), {"latency_mean_ms"}),
        ("never", row(4.0, 8.0, 0.0, 0.0), {"cost_ms"}),
        ("always", row(15.0, 2.0, 3e6, 0.9), {"bytes_on_wire"}),
        ("nearest", row(14.0, 7.0, 8e6, 0.2), {"downtime_s"}),
    ],
)
def test_whoever_is_better_in_what_is_asked_is_named(
    other: str, better: dict[str, float], words: set[str]
) -> None:
    failed = [b for b, holds in judged(table(**{other: better}))["bounds"].items() if not holds]
    assert {b.split()[0] for b in failed} == words
    assert all(f"below {other}'s" in b for b in failed)


def test_only_valid_runs_of_the_same_settings_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "RESULTS", tmp_path)
    case = Case(STRATEGIES[0], 1, 30.0, ("northbound_port=1",))
    assert case.why_not() == "not recorded yet"
    case.folder.mkdir(parents=True)

    def left(verdict: str) -> None:
        summary = {"validity": {"verdict": verdict, "reasons": ["late timers"]}}
        (case.folder / "summary.json").write_text(json.dumps(summary))

    left("valid")
    assert case.why_not() == "recorded with other settings", "it says of nothing what was asked"
    (case.folder / "asked.json").write_text(json.dumps(case.asked()))
    assert case.why_not() is None
    assert Case(STRATEGIES[0], 1, 10.0).why_not() == "recorded with other settings"
    left("invalid")
    assert case.why_not() == "invalid: late timers"

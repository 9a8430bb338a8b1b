"""Replay's pure part: a folder read as what arrived when, and two runs compared."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.contracts.decisions import DecisionRecord
from controller.contracts.slices import TrafficClass
from controller.replay.network import RecordedNetwork
from controller.replay.player import Handover, happenings, likeness, verdicts
from controller.replay.recording import RecordingError, Window, load_recording
from controller.ric.errors import Conflict
from tests.sample_recording import FIRST_WINDOW, WINDOWS, records, write_recording


def test_a_folder_is_read_as_what_arrived_when(tmp_path: Path) -> None:
    write_recording(tmp_path / "run")
    recording = load_recording(tmp_path / "run")
    assert len(recording.windows) == 2 * WINDOWS
    first = recording.windows[0]
    assert first.aggregate.window == FIRST_WINDOW
    assert [d.demand_kbps for d in first.aggregate.slices] == [2500.5, 600.0]
    held = {(r.slice_id, r.traffic_class): r.min_kbps for r in first.reservations}
    assert held == {(1, TrafficClass.ELASTIC): 6000, (2, TrafficClass.REAL_TIME): 2000}
    arrivals = [w.received_at_ns for w in recording.windows]
    assert arrivals == sorted(arrivals)


def test_decisions_of_others_happen_again_and_those_of_the_replayed_do_not(tmp_path: Path) -> None:
    write_recording(tmp_path / "run")
    recording = load_recording(tmp_path / "run")
    course = list(happenings(recording, ["other-planner"]))
    assert [at for at, _ in course] == sorted(at for at, _ in course)
    what = [h for _, h in course if not isinstance(h, Window)]
    assert what[0] == Handover("ue1", "ap2")
    assert [d.xapp for d in what if isinstance(d, DecisionRecord)] == ["a3-handover"]


def test_a_folder_without_a_table_says_which(tmp_path: Path) -> None:
    write_recording(tmp_path / "run")
    (tmp_path / "run" / "twins.parquet").unlink()
    with pytest.raises(RecordingError, match=r"has no twins\.parquet"):
        load_recording(tmp_path / "run")


def test_likeness_counts_what_was_asked_for() -> None:
    plan, handover = records()
    other = plan.model_copy(update={"parameters": {"cell_id": "ap1"}})
    assert likeness([plan, handover], [plan, other]) == {
        "same": 1,
        "only_recorded": 1,
        "only_replayed": 1,
    }
    assert verdicts([plan]) == {"applied": 1, "rejected": 0, "superseded": 0}


def test_a_recorded_network_changes_by_nobody(tmp_path: Path) -> None:
    network = RecordedNetwork(write_recording(tmp_path / "run"))
    held = network.reservations("ap1")
    outcome = asyncio.run(network.reserve("ap1", held[:1], dry_run=True))
    assert outcome.confirmed
    with pytest.raises(Conflict, match="replayed"):
        asyncio.run(network.reserve("ap1", held))
    assert network.reservations("ap1") == held

"""The journal of intents: what was synced is read again, what was torn is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.contracts.inventory import Reservation
from controller.contracts.slices import TrafficClass
from controller.intent_documents import attach_document, reserve_document, restored
from controller.journal import Journal
from controller.network_state import NetworkState

VIDEO = Reservation(slice_id=1, traffic_class=TrafficClass.ELASTIC, min_kbps=3000, max_kbps=6000)
EMPTY = NetworkState({}, {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "intents.jsonl"


def written(path: Path, *numbers: int) -> Journal:
    journal = Journal(path)
    for number in numbers:
        journal.append({"kind": "test", "number": number})
    return journal


def numbers(path: Path) -> list[int]:
    return [document["number"] for document in Journal(path).read()]


def test_what_was_written_is_read_in_order(path: Path) -> None:
    written(path, 1, 2, 3)
    assert numbers(path) == [1, 2, 3]


def test_without_a_file_there_are_no_intents(path: Path) -> None:
    journal = Journal(path)
    assert journal.read() == [] and journal.alarm is None


@pytest.mark.parametrize("cut", range(1, 37, 3))
def test_a_torn_last_record_is_left_out_and_the_next_starts_afresh(path: Path, cut: int) -> None:
    written(path, 1, 2).close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert numbers(path) == [1]
    written(path, 3)
    assert numbers(path)[-1] == 3 and numbers(path)[:1] == [1]


def test_a_damaged_record_is_left_out_and_told(path: Path) -> None:
    written(path, 1, 2, 3)
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":7'))
    journal = Journal(path)
    assert [d["number"] for d in journal.read()] == [1, 3]
    assert journal.alarm == "intents.jsonl: 1 damaged records are left out"


def test_a_disk_that_takes_nothing_raises_an_alarm_and_no_exception(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "intents.jsonl")
    journal.append({"kind": "test"})
    assert journal.alarm is not None and "intents are not kept" in journal.alarm
    (tmp_path / "missing").mkdir()
    journal.append({"kind": "test"})
    assert journal.alarm is None


def test_intents_are_whole_so_the_newest_of_a_target_counts() -> None:
    smaller = VIDEO.model_copy(update={"min_kbps": 1000})
    documents = [
        reserve_document("ap1", [VIDEO]),
        attach_document("ue1", "ap1"),
        reserve_document("ap1", [smaller]),
        attach_document("ue1", "ap2"),
    ]
    state, problems = restored(EMPTY, documents)
    assert not problems
    assert state.serving_cell("ue1") == "ap2"
    assert list(state.reservations["ap1"].values()) == [smaller]


def test_an_intent_that_nobody_understands_is_told_and_the_others_apply() -> None:
    documents = [{"kind": "dance"}, {"kind": "attach"}, attach_document("ue1", "ap1")]
    state, problems = restored(EMPTY, documents)
    assert len(problems) == 2 and state.serving_cell("ue1") == "ap1"

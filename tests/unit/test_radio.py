"""Path loss against values worked out by hand, A3 events, and the shared table's consistency."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from controller.contracts.inventory import HandoverConfig
from tests.sample_inventory import sample_inventory
from topologies.fluid import a3_attachments
from topologies.radio import path_loss_db, rsrp_dbm, serving_cell_at_start
from topologies.radio_state import RadioState, RadioStateError
from topologies.scenario.loader import load
from topologies.scenario.schema import AccessPoint

REPOSITORY = Path(__file__).resolve().parents[2]


def test_micro_cell_before_the_breakpoint() -> None:
    direct_m = math.hypot(100, 8.5)
    by_hand_db = 32.4 + 21 * math.log10(direct_m) + 20 * math.log10(3.5)
    assert path_loss_db("sbs", 3.5, 100) == pytest.approx(by_hand_db)
    assert path_loss_db("sbs", 3.5, 100) == pytest.approx(85.3, abs=0.1)


def test_macro_cell_before_the_breakpoint() -> None:
    assert path_loss_db("mbs", 3.5, 100) == pytest.approx(83.1, abs=0.1)


@pytest.mark.parametrize(("kind", "breakpoint_m"), [("sbs", 210.0), ("mbs", 560.0)])
def test_breakpoint_is_where_the_standard_has_it(kind: str, breakpoint_m: float) -> None:
    """4 h'_BS h'_UT f / c; the two branches meet there, the far one falls twice as fast."""
    near, far = (path_loss_db(kind, 3.5, breakpoint_m * f) for f in (0.9999, 1.0001))
    assert far == pytest.approx(near, abs=0.1)
    far_slope = path_loss_db(kind, 3.5, 20 * breakpoint_m) - path_loss_db(
        kind, 3.5, 2 * breakpoint_m
    )
    assert far_slope == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("kind", ["mbs", "sbs"])
def test_loss_grows_with_distance(kind: str) -> None:
    losses = [path_loss_db(kind, 3.5, d) for d in range(10, 3000, 7)]
    assert all(a < b for a, b in zip(losses, losses[1:], strict=False))
    assert path_loss_db(kind, 3.5, 0) == path_loss_db(kind, 3.5, 10)


def test_rsrp_is_power_per_resource_element() -> None:
    access_point = AccessPoint(
        name="ap1", kind="sbs", position_m=(0, 0), tx_power_dbm=30, down_mbps=1, up_mbps=1,
        edge="edge1",
    )  # fmt: skip
    expected_dbm = 30 - 10 * math.log10(3276) - path_loss_db("sbs", 3.5, 50)
    assert rsrp_dbm(access_point, (30, 40)) == pytest.approx(expected_dbm)


def test_everybody_starts_at_the_strongest_cell() -> None:
    serving = serving_cell_at_start(load("crossroads"))
    assert serving["phone1"] == "sbs1"
    assert serving["phone2"] == "sbs2"
    assert serving["sensor2"] == "mbs"


A3 = HandoverConfig(hysteresis_db=3.0, time_to_trigger_ms=640)


def attachments(neighbour_dbm: list[float]) -> list[int]:
    rows = np.array([[-80.0, value] for value in [-90.0, *neighbour_dbm]])
    return [int(cell) for cell in a3_attachments(rows, A3, 0.5)[1:]]


def test_a3_waits_for_the_time_to_trigger() -> None:
    assert attachments([-76, -76, -76, -76]) == [0, 0, 1, 1]


def test_a3_needs_the_hysteresis() -> None:
    assert attachments([-78, -78, -78, -78]) == [0, 0, 0, 0]


def test_a3_starts_again_after_a_dip() -> None:
    assert attachments([-76, -76, -80, -76, -76, -76]) == [0, 0, 0, 0, 0, 1]


def test_table_round_trip(tmp_path: Path) -> None:
    facts = sample_inventory()
    table = RadioState.create(tmp_path / "radio.shm", facts)
    reader = RadioState.open(tmp_path / "radio.shm")
    assert reader.users == [u.ue_id for u in facts.users]
    assert reader.cells == [c.cell_id for c in facts.cells]
    ue_id = facts.users[-1].ue_id
    assert reader.serving_cell(ue_id) == facts.users[-1].cell_id
    assert reader.read(ue_id).updated_at_ns == 0
    powers = [-70.0 - n for n in range(len(facts.cells))]
    table.write(
        len(facts.users) - 1, position_m=(1.5, -2.5), speed_mps=8.0, serving_index=0,
        rsrp_dbm=powers, updated_at_ns=123,
    )  # fmt: skip
    row = reader.read(ue_id)
    assert (row.position_m, row.speed_mps, row.serving_index) == ((1.5, -2.5), 8.0, 0)
    assert row.rsrp_dbm == tuple(powers)
    assert row.updated_at_ns == 123
    reader.close()
    table.close()


def test_no_table_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RadioStateError, match="no table of radio states"):
        RadioState.open(tmp_path / "absent.shm")
    (tmp_path / "garbage.shm").write_bytes(b"garbage")
    with pytest.raises(RadioStateError, match="no table of radio states"):
        RadioState.open(tmp_path / "garbage.shm")


def test_a_half_written_row_is_never_returned(tmp_path: Path) -> None:
    table = RadioState.create(tmp_path / "radio.shm", sample_inventory())
    table._rows[0]["version"] += 1
    with pytest.raises(RadioStateError, match="half written"):
        table.read(0)


WRITER = """
import sys, time
from pathlib import Path
from topologies.radio_state import RadioState
table = RadioState.open(Path(sys.argv[1]))
cells, end_s, number = len(table.cells), time.monotonic() + 30, 0
print("writing", flush=True)
while time.monotonic() < end_s:
    number += 1
    table.write(0, position_m=(number, number), speed_mps=number, serving_index=number,
                rsrp_dbm=[number] * cells, updated_at_ns=number)
"""


def test_readers_never_see_a_torn_row(tmp_path: Path) -> None:
    path = tmp_path / "radio.shm"
    RadioState.create(path, sample_inventory()).close()
    reader = RadioState.open(path)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        seen: set[int] = set()
        while len(seen) < 2000:
            row = reader.read(0)
            if row.updated_at_ns == 0:
                continue
            values = {*row.position_m, row.speed_mps, row.serving_index, *row.rsrp_dbm}
            assert values == {row.updated_at_ns}
            seen.add(row.updated_at_ns)
    finally:
        writer.kill()
        writer.communicate()

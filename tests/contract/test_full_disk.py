"""A disk that takes nothing more: control goes on, and what was lost is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.contracts import rpc
from tests.ric_bench import RunningRic, running_ric, write_run
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")

VIDEO = {"sst": 1, "sd": "000001"}
FILLER = "filler"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 64 KiB, at the results of a run folder."""
    folder = tmp_path / "run" / "results"
    folder.mkdir(parents=True)
    options = ["mount", "-t", "tmpfs", "-o", "size=64k", "holon-test", str(folder)]
    subprocess.run(options, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (disk / FILLER).open("wb") as file:
        while True:
            file.write(b"x" * 1024)
            file.flush()


def decide(ric: RunningRic, min_kbps: int) -> tuple[str, str]:
    """Verdict and reason on a reservation that answers an aggregate which the twin has."""
    sent = ric.send_aggregate()

    def is_in_twin() -> bool:
        points = ric.get("twins/cells/ap1/history", attribute="demand_kbps.1-000001", last=1)
        return bool(points) and points[0]["window"] == sent["window"]

    wait_until(is_in_twin, 5)
    body = {
        "trace_id": sent["trace_id"],
        "xapp": f"test-{sent['window']}",
        "action": "reserve",
        "target": {"cell_id": "ap1", "s_nssai": VIDEO},
        "parameters": {"min_kbps": min_kbps, "max_kbps": 20_000},
    }
    record = ric.call("POST", "decisions", json=body).json()
    return record["verdict"], record["reason"]


def full_alarms(ric: RunningRic) -> list[str]:
    return [alarm for alarm in ric.status()["alarms"] if "No space left" in alarm]


def test_control_goes_on_and_says_what_was_lost(
    namespaces: dict[str, int], small_disk: Path
) -> None:
    run, inventory = write_run(small_disk.parent, namespaces)
    assert run.results == small_disk
    with running_ric(run, inventory) as ric:
        fill(small_disk)
        for min_kbps in (9000, 9500):
            assert decide(ric, min_kbps) == ("applied", "")
        assert ric.status()["lost_lines"] > 0
        assert full_alarms(ric)
        assert rpc.call(run.ric_socket, "flush", out=str(small_disk)) == []
        problems = " ".join(ric.status()["problems"])
        assert "table decisions: 2 rows not written" in problems
        assert "table twins: 4 rows not written" in problems
        assert not list(small_disk.glob("*.parquet"))

        (small_disk / FILLER).unlink()
        assert decide(ric, 8500) == ("applied", "")
        assert len(rpc.call(run.ric_socket, "flush", out=str(small_disk.parent))) == 5
        assert full_alarms(ric) == []

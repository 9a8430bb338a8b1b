"""Kernel mode in a virtual machine with Debian's kernel: minutes, so only when asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import orjson
import pytest

from topologies.checkout import REPOSITORY

pytestmark = [pytest.mark.emulated, pytest.mark.timeout(1500)]


@pytest.mark.skipif(
    os.environ.get("HOLON_VM_TESTS") != "1",
    reason="takes about 4 min: HOLON_VM_TESTS=1, or ./testbed.sh vm test",
)
def test_kernel_mode_keeps_the_contract_in_a_virtual_machine(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(REPOSITORY / "testbed.sh"), "vm", "test", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = orjson.loads((tmp_path / "minimal" / "summary.json").read_bytes())
    assert (summary["datapath"], summary["delay"]) == ("kernel", "netem")
    assert summary["decisions"]["applied"] > 0

"""Where a running testbed keeps its files: one folder per run under /run/holon.

Every process finds sockets, token and logs through this map and nowhere else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RUNS_ROOT = Path(os.environ.get("HOLON_RUNS_ROOT", "/run/holon"))


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def namespace(self) -> str:
        return f"holon-{self.run_id}"

    @property
    def manifest(self) -> Path:
        """Everything the run created, written before it is created (JSON lines)."""
        return self.path / "manifest.jsonl"

    @property
    def inventory(self) -> Path:
        return self.path / "inventory.json"

    @property
    def live_slices(self) -> Path:
        """The slices that live now, once any came, went or changed (see live_slices.py)."""
        return self.path / "slices.json"

    @property
    def scenario(self) -> Path:
        """The resolved scenario (JSON) this run was started with."""
        return self.path / "scenario.json"

    @property
    def intents(self) -> Path:
        """The journal of intents: what a restarted RIC goes on with."""
        return self.path / "intents.jsonl"

    @property
    def token(self) -> Path:
        """Operator's bearer token for the northbound API, mode 0600."""
        return self.path / "token"

    @property
    def twin_overrides(self) -> Path:
        """What VL6 changed of the twin models (JSON), written by the RIC."""
        return self.path / "twin_overrides.json"

    @property
    def twin_budget(self) -> Path:
        """What twins may cost and who is represented (JSON), once somebody said so."""
        return self.path / "twin_budget.json"

    @property
    def policies(self) -> Path:
        """A1 policies and their types (JSON), once there was one."""
        return self.path / "policies.json"

    @property
    def ovs(self) -> Path:
        """OVS_RUNDIR: db.sock, control sockets, pid files, conf.db."""
        return self.path / "ovs"

    @property
    def ovsdb_socket(self) -> Path:
        return self.ovs / "db.sock"

    @property
    def emulation_socket(self) -> Path:
        return self.path / "emulation.sock"

    @property
    def ryu_socket(self) -> Path:
        return self.path / "ryu.sock"

    @property
    def ric_socket(self) -> Path:
        """RIC's JSON-lines socket for other processes of the testbed."""
        return self.path / "ric.sock"

    def local_controller_socket(self, edge: str) -> Path:
        return self.path / f"local-{edge}.sock"

    @property
    def flow_counters(self) -> Path:
        """Shared-memory table of traffic counters (see topologies/traffic)."""
        return self.path / "flows.shm"

    @property
    def radio_state(self) -> Path:
        """Shared-memory table of positions and RSRP, written by the emulation."""
        return self.path / "radio.shm"

    @property
    def logs(self) -> Path:
        return self.path / "log"

    @property
    def results(self) -> Path:
        return self.path / "results"


def current_run() -> RunFolder | None:
    """The run that is up, by the `current` link; None when there is none."""
    link = RUNS_ROOT / "current"
    return RunFolder(link.resolve()) if link.exists() else None

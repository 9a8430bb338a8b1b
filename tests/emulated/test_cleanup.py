"""Whatever kills a run, wherever it stands, removal leaves nothing and touches nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.contracts.run_folder import RunFolder
from tests.emulated import networks
from tests.emulated.conftest import new_run
from tests.waiting import wait_until
from topologies import cleanup, namespaces
from topologies.manifest import MAKING_PREFIX, RUN_ID_VARIABLE, Manifest, create_run_folder
from topologies.processes import is_running, start_ticks

pytestmark = pytest.mark.emulated

REPOSITORY = Path(__file__).parents[2]
SCENARIOS = REPOSITORY / "topologies" / "scenarios"

BUILDER = """
import json, os, signal, sys, time
from pathlib import Path
from controller.contracts.run_folder import RunFolder
from topologies import manifest
from topologies.network import build, enter_run_namespace
from topologies.ovs import PrivateOvs
from topologies.scenario.schema import Scenario

run, die_after = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
append = manifest.Manifest._append
written = 0

def append_or_die(self, entry):
    global written
    append(self, entry)
    written += 1
    if written == die_after:
        os.kill(os.getpid(), signal.SIGKILL)

manifest.Manifest._append = append_or_die
book = manifest.create_run_folder(run)
book.record_process(os.getpid(), "emulation")
ovs = PrivateOvs(run, book)
enter_run_namespace(run)
ovs.start()
network = build(Scenario.model_validate(json.loads(sys.argv[3])), run, book, "xapps")
ovs.enlarge_send_buffers()
print("built", written, flush=True)
time.sleep(600)
"""


@contextmanager
def builder(run: RunFolder, die_after: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that builds a network and kills itself right after its n-th record."""
    scenario = json.dumps(networks.two_cells())
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(run.path), str(die_after), scenario],
        env={**os.environ, RUN_ID_VARIABLE: run.run_id, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def records_when_built(process: subprocess.Popen[str]) -> int:
    """Waits for the network to stand; how many records that took."""
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:1] == ["built"]
    return int(words[1])


def machine() -> tuple[list[str], list[str]]:
    """Interfaces and sysctl of the machine that no run may change."""
    wmem_default = Path("/proc/sys/net/core/wmem_default").read_text()
    return sorted(os.listdir("/sys/class/net")), [wmem_default]


@contextmanager
def unchanged_machine() -> Iterator[None]:
    before = machine()
    yield
    assert machine() == before


@pytest.fixture(scope="module")
def records_of_a_build() -> int:
    """How many records a whole build writes: the steps at which it may be killed."""
    run = new_run()
    with builder(run) as process:
        records = records_when_built(process)
        cleanup.remove(run)
    assert cleanup.remains(run) == []
    return records


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
def test_killed_while_building(records_of_a_build: int, share: float) -> None:
    run = new_run()
    die_after = max(1, round(share * records_of_a_build))
    with unchanged_machine():
        with builder(run, die_after) as process:
            assert process.wait(30) == -signal.SIGKILL
        cleanup.clean_all(run.path.parent, only_stale=True)
        assert cleanup.remains(run) == []
        assert not list(run.path.parent.glob(f"{MAKING_PREFIX}{run.run_id}*"))


@pytest.mark.parametrize("victim", ["emulation", "ovs-vswitchd", "ovsdb-server", "host ue1"])
def test_killed_while_running(victim: str) -> None:
    run = new_run()
    with builder(run) as process:
        records_when_built(process)
        assert cleanup.is_alive(run)
        entry = next(e for e in Manifest(run.manifest).entries() if e.name == victim)
        assert entry.pid is not None
        os.kill(entry.pid, signal.SIGKILL)
        removed = cleanup.remove(run)
        assert process.wait(5) == -signal.SIGKILL
    assert run.namespace in removed.namespaces
    assert cleanup.remains(run) == []
    assert not cleanup.remove(run).anything  # the second time there is nothing to do


def test_removal_of_many_hosts_is_fast(make_testbed: Callable[..., Any]) -> None:
    """The whole crossroads: up within 4 s, down within 5 s."""
    document = yaml.safe_load((SCENARIOS / "crossroads.yaml").read_text())
    started_s = time.monotonic()
    with make_testbed(document) as built:
        up_s = time.monotonic() - started_s
        hosts = len(built.inventory.hosts)
        leaving_s = time.monotonic()
    down_s = time.monotonic() - leaving_s
    print(f"{hosts} hosts: up {up_s:.2f} s, down {down_s:.2f} s")
    assert hosts >= 14
    assert up_s <= 4 and down_s <= 5


class TestOnlyOurs:
    """Nothing that merely looks like ours is touched."""

    def test_a_pid_used_again_is_spared(self) -> None:
        run = new_run()
        manifest = create_run_folder(run)
        with subprocess.Popen(["sleep", "60"]) as stranger:
            ticks = start_ticks(stranger.pid)
            assert ticks is not None
            manifest.record_process(stranger.pid, "emulation")
            written = run.manifest.read_text()
            run.manifest.write_text(written.replace(str(ticks), str(ticks - 1)))
            cleanup.remove(run)
            assert is_running(stranger.pid)
            stranger.kill()

    def test_a_recorded_process_ends(self) -> None:
        run = new_run()
        manifest = create_run_folder(run)
        with subprocess.Popen(["sleep", "60"]) as ours:
            manifest.record_process(ours.pid, "anything")
            assert cleanup.remove(run).processes == [ours.pid]
            assert ours.wait(2) == -signal.SIGKILL

    def test_the_run_id_must_match_as_a_whole(self) -> None:
        run = new_run()
        create_run_folder(run).record_namespace(run.namespace)
        with (
            carrier(run.run_id + "0") as other,
            carrier(run.run_id) as ours,
        ):
            removed = cleanup.remove(run)
            assert removed.processes == [ours.pid]
            assert is_running(other.pid)
            other.kill()

    def test_a_run_refused_for_a_taken_name_does_not_end_the_other(self) -> None:
        run = new_run()
        namespaces.create(run.namespace)
        try:
            create_run_folder(run)
            with carrier(run.run_id) as other:
                cleanup.remove(run)
                assert is_running(other.pid)
                assert namespaces.exists(run.namespace)
                other.kill()
        finally:
            namespaces.delete(run.namespace)

    def test_folders_without_a_manifest_stay(self, tmp_path: Path) -> None:
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("not a run")
        assert cleanup.clean_all(tmp_path) == []
        assert (tmp_path / "precious" / "file").exists()

    def test_a_live_run_is_not_stale(self, tmp_path: Path) -> None:
        run = RunFolder(tmp_path / "r1")
        manifest = create_run_folder(run)
        with subprocess.Popen(["sleep", "60"]) as owner:
            manifest.record_process(owner.pid, cleanup.EMULATION_PROCESS)
            assert cleanup.clean_all(tmp_path, only_stale=True) == []
            assert is_running(owner.pid)
            owner.kill()
            wait_until(lambda: not is_running(owner.pid), 2.0)
            assert len(cleanup.clean_all(tmp_path, only_stale=True)) == 1

    def test_a_link_to_another_run_stays(self, tmp_path: Path) -> None:
        old, new = RunFolder(tmp_path / "r1"), RunFolder(tmp_path / "r2")
        link = tmp_path / "current"
        create_run_folder(old).record_link(link)
        create_run_folder(new).record_link(link)
        link.symlink_to("r2")
        cleanup.remove(old)
        assert os.readlink(link) == "r2"
        cleanup.remove(new)
        assert not link.is_symlink()


def test_a_removal_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r1")
    create_run_folder(run)
    run.path.rename(tmp_path / f"{cleanup.REMOVING_PREFIX}r1")
    run.manifest.unlink(missing_ok=True)
    cleanup.clean_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_started_in_the_namespace_ends_with_it() -> None:
    run = new_run()
    create_run_folder(run).record_namespace(run.namespace)
    namespaces.create(run.namespace)
    path = namespaces.named_path(run.namespace)
    with subprocess.Popen(namespaces.command_in(path, ["sleep", "60"])) as guest:
        wait_until(lambda: namespaces.same(f"/proc/{guest.pid}/ns/net", path), 2.0)
        assert cleanup.remove(run).processes == [guest.pid]
    assert cleanup.remains(run) == []


@contextmanager
def carrier(run_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this run id in its environment, there once it has been exec'ed."""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, RUN_ID_VARIABLE: run_id}) as process:
        wanted = f"{RUN_ID_VARIABLE}={run_id}".encode()
        environ = Path(f"/proc/{process.pid}/environ")
        wait_until(lambda: wanted in environ.read_bytes().split(b"\0"), 2.0)
        yield process

"""The doctor tries real things, says what is missing, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topologies import doctor, namespaces
from topologies.datapath import Datapath, missing_for_kernel_mode
from topologies.errors import NamespaceError, RequirementError

pytestmark = pytest.mark.emulated


def test_this_machine_can_run_the_testbed() -> None:
    namespaces_before = sorted(os.listdir("/run/netns"))
    interfaces_before = sorted(os.listdir("/sys/class/net"))
    report = doctor.examine()
    as_json = report.as_json()
    assert report.ok, report.lines()
    missing = missing_for_kernel_mode()
    expected = Datapath.USERSPACE if missing else Datapath.KERNEL
    assert (as_json["datapath"], as_json["delay"]) == (expected.value, expected.delay)
    assert as_json["meters"] is as_json["htb"] is True
    assert as_json["kernel_mode"].startswith("not possible" if missing else "possible")
    assert all(feature in as_json["kernel_mode"] for feature in missing)
    assert doctor.require() is expected
    assert doctor.require("userspace") is Datapath.USERSPACE
    assert sorted(os.listdir("/sys/class/net")) == interfaces_before
    left = {n for n in os.listdir("/run/netns") if n.startswith("holon-doctor")}
    assert not left - set(namespaces_before)


def test_a_missing_tool_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("unshare", "sh", "ip", "tc", "ovs-vswitchd"):
        found = next(
            Path(folder) / tool
            for folder in os.environ["PATH"].split(":")
            if (Path(folder) / tool).exists()
        )
        (tmp_path / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequirementError, match="apt-get install openvswitch-switch") as caught:
        doctor.require()
    assert "\n" not in str(caught.value)
    assert not doctor.examine().ok


def test_a_missing_kernel_feature_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = {"htb": ("tc qdisc add dev lo root no_such_qdisc", "a queue for each slice")}
    monkeypatch.setattr(doctor, "_KERNEL_PROBES", probes)
    with pytest.raises(RequirementError, match="^htb: this kernel refuses it"):
        doctor.require()


def test_root_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RequirementError, match="^root: not root.*sudo"):
        doctor.require()


def test_commands_in_a_namespace_that_is_not_there() -> None:
    with pytest.raises(NamespaceError, match="no-such"):
        namespaces.enter("/run/netns/no-such")

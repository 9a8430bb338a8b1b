"""Which datapath a machine gets, and what each mode makes of the same plan."""

from __future__ import annotations

import pytest

from tests.emulated.networks import two_cells
from topologies import datapath, doctor, hosts, netem
from topologies.bridges import transaction
from topologies.datapath import Choice, Datapath, choose
from topologies.errors import RequirementError
from topologies.plan import Plan, plan_network
from topologies.results.balance import Balance
from topologies.results.evidence import LoadSample
from topologies.results.load import backlog_drops
from topologies.results.validity import uncounted_allowed, validity
from topologies.scenario.schema import Scenario

pytestmark = pytest.mark.unit

MISSING = {"netem": "for delay and loss of links: unknown qdisc"}


@pytest.fixture
def plan() -> Plan:
    return plan_network(Scenario.model_validate(two_cells()))


def without(monkeypatch: pytest.MonkeyPatch, missing: dict[str, str]) -> None:
    monkeypatch.setattr(datapath, "missing_for_kernel_mode", lambda: missing)


def test_kernel_mode_where_all_it_needs_works(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, {})
    assert choose("auto").datapath is Datapath.KERNEL
    assert choose("userspace").datapath is Datapath.USERSPACE
    assert choose("auto").kernel_mode.startswith("possible")


def test_userspace_with_the_reason_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, MISSING)
    chosen = choose("auto")
    assert chosen.datapath is Datapath.USERSPACE
    assert chosen.kernel_mode == f"not possible here: netem ({MISSING['netem']})"


def test_kernel_mode_asked_for_in_vain_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, MISSING)
    with pytest.raises(RequirementError, match="no netem.*--set datapath=userspace") as caught:
        choose("kernel")
    assert "\n" not in str(caught.value)


def test_meters_are_tried_only_when_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(datapath.switch_probe, "try_meters", tried.append)
    monkeypatch.setattr(datapath, "try_in_scratch", lambda command: "no")
    assert list(datapath.missing_for_kernel_mode()) == ["openvswitch", "netem", "mirred"]
    monkeypatch.setattr(datapath, "try_in_scratch", lambda command: None)
    assert datapath.missing_for_kernel_mode() == {} and tried == ["system"]


def test_the_doctor_s_json_tells_the_choice_and_its_reason() -> None:
    report = doctor.Report((), Choice(Datapath.USERSPACE, MISSING)).as_json()
    assert (report["datapath"], report["delay"]) == ("userspace", "wirefilter")
    assert (report["openvswitch"], report["netem"]) == (True, False)
    assert "netem" in report["kernel_mode"]


@pytest.mark.parametrize("mode", list(Datapath))
def test_every_bridge_is_of_the_mode_s_type(plan: Plan, mode: Datapath) -> None:
    words = transaction(plan, 6653, 0.9, True, mode.ovs_type)
    assert words.count(f"datapath_type={mode.ovs_type}") == len(plan.switches)


def test_in_kernel_mode_frames_leave_their_sender_s_account(plan: Plan) -> None:
    """At the root, or below the shaper of a host whose link has a rate."""
    by_name = {h.name: h for h in plan.hosts}
    assert "dev ue1-eth0 root netem" in hosts.disowning(by_name["ue1"])
    assert "dev cloud-eth0 parent 1:1 netem" in hosts.disowning(by_name["cloud"])
    assert "root handle 1: tbf" in (hosts.shaping(by_name["cloud"]) or "")


def test_inner_ends_have_legal_names_of_their_own(plan: Plan) -> None:
    names = [name for port in plan.ports for name in netem.inner_ends(port.interface)]
    assert len(set(names) - {p.interface for p in plan.ports}) == 2 * len(plan.ports)
    assert all(len(name) <= 15 for name in netem.inner_ends("abcdefghij_100"))


def test_overrun_backlogs_make_a_run_invalid() -> None:
    counted = backlog_drops("0001e0da 00000ad5 00000018\n000011c8 00000001 00000011\n")
    assert counted == 0xAD5 + 1
    reasons = validity([], {"p99_ms": 0.1, "samples": 1, "max_ms": 0.1}, [], counted)["reasons"]
    assert any(f"{counted} frames were dropped by the processors' receive" in r for r in reasons)


def test_only_kernel_mode_may_lose_count_and_only_while_meters_change() -> None:
    assert uncounted_allowed("userspace", 50) == uncounted_allowed("kernel", 0) == 0
    allowed = uncounted_allowed("kernel", 3)
    for missing, verdict in ((allowed, "valid"), (allowed + 1, "invalid"), (-1, "invalid")):
        balance = Balance((1,), 100, 100 - missing, 0, 0, 0, 0)
        load = [LoadSample(at_ns=0, duration_s=1.0, machine_ratio=0.1, vswitchd_ratio=0.1)]
        punctual = {"p99_ms": 0.1, "samples": 1, "max_ms": 0.1}
        assert validity(load, punctual, [balance], 0, allowed)["verdict"] == verdict

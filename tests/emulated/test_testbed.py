"""The thin thread end to end: ./testbed.sh up, real packets, a decision, results, down.

Everything goes through the commands, as a user's script would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.utils import rdpcap

from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from tests.conftest import RunningTestbed
from tests.waiting import wait_until
from topologies.traffic.attack_frames import LAWFUL
from topologies.traffic.attempts import attempt_crossings

DECISION_TIMEOUT_S = 40.0
CRAFTED_FRAMES = 20
"""Of each kind."""


def environment_of(testbed: RunningTestbed) -> dict[str, str]:
    """What `eval "$(./testbed.sh env)"` leaves in a shell."""
    script = 'eval "$(./testbed.sh env)"; env -0'
    done = subprocess.run(
        ["bash", "-ec", script],
        capture_output=True,
        text=True,
        check=True,
        env=testbed.commands.environment(),
        cwd=Path(__file__).resolve().parents[2],
    )
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def test_status_lists_living_processes(testbed: RunningTestbed) -> None:
    status = testbed.commands.json("status")
    assert status["ready"]
    assert (status["scenario"], status["policy"], status["seed"]) == ("minimal", "xapps", 1)
    names = {process["name"] for process in status["processes"]}
    assert {"ryu", "ric", "local-edge1", "user-agents", "senders", "receivers"} <= names
    for process in status["processes"]:
        assert process["alive"], process
        assert Path(f"/proc/{process['pid']}").is_dir(), process


def test_second_testbed_is_refused_and_the_first_lives_on(testbed: RunningTestbed) -> None:
    line = testbed.commands.refusal("up", "minimal")
    assert testbed.run_folder.name in line
    assert "./testbed.sh down" in line
    assert testbed.commands.json("status")["ready"]
    names = {path.name for path in testbed.commands.runs_root.iterdir()}
    assert names == {testbed.run_folder.name, "current"}


def test_token_is_the_operators_alone(testbed: RunningTestbed) -> None:
    assert (testbed.run_folder / "token").stat().st_mode & 0o777 == 0o600


# -- in a host -------------------------------------------------------------------


def test_exec_passes_output_input_and_status_through(testbed: RunningTestbed) -> None:
    done = testbed.commands.run("exec", "ue1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_exec_is_in_the_hosts_namespace(testbed: RunningTestbed) -> None:
    links = json.loads(testbed.commands.output("exec", "ue1", "--", "ip", "-j", "link"))
    assert {link["ifname"] for link in links} == {"lo", "ue1-eth0"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("exec", "nobody", "--", "true"), "known: ue1, ue2"),
        (("exec", "ue1", "--", "no-such-program"), "not found"),
        (("measure", "--slice", "nothing"), "known: video"),
        (("capture", "nothing", "x.pcapng"), "known: video"),
        (("capture", "video", "x.pcap"), ".pcapng"),
        (("ue", "show", "nobody"), "known: ue1, ue2"),
        (("xapp", "deploy", "/nonexistent"), "/nonexistent"),
        (("xapp", "logs", "nothing"), "nothing"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: tuple[str, ...], words: str, testbed: RunningTestbed
) -> None:
    assert words in testbed.commands.refusal(*arguments)


def test_env_reaches_the_private_switches(testbed: RunningTestbed) -> None:
    environment = environment_of(testbed)
    bridges = subprocess.run(
        ["ovs-vsctl", "list-br"], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert set(bridges) == {"air", "ap1", "core"}
    flows = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "ap1"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    assert "cookie=0x" in flows


# -- what is in it -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "keys", "names"),
    [
        ("ue", {"ue_id", "kind", "cell_id", "sessions"}, {"ue1", "ue2"}),
        ("slice", {"s_nssai", "name", "sla", "reserved", "cells"}, {"video", "control"}),
        ("cell", {"cell_id"}, {"ap1"}),
        (
            "service",
            {"name", "s_nssai", "host", "address"},
            {"stream", "commands", "probe-video", "probe-control"},
        ),
        ("xapp", {"xapp_name", "version", "state", "pid"}, {"slice-planner"}),
    ],
)
def test_lists_have_the_contracts_keys(
    thing: str, keys: set[str], names: set[str], testbed: RunningTestbed
) -> None:
    items = testbed.commands.json(thing, "list")
    assert all(keys <= set(item) for item in items)
    name_key = next(key for key in ("ue_id", "xapp_name", "cell_id", "name") if key in items[0])
    assert {item[name_key] for item in items} == names


def test_twins_of_users_cells_and_slices_are_kept_in_step(testbed: RunningTestbed) -> None:
    def versions() -> dict[tuple[str, str], int]:
        items = testbed.commands.json("twin", "list")
        return {(item["kind"], item["id"]): item["version"] for item in items}

    before = versions()
    wanted = {
        ("user", "ue1"), ("user", "ue2"), ("cell", "ap1"),
        ("slice", "1-000001"), ("slice", "2-000002"),
    }  # fmt: skip
    assert set(before) == wanted
    wait_until(lambda: all(n > before[key] for key, n in versions().items()), 10.0)
    shown = testbed.commands.json("twin", "show", "ue1")
    assert (shown["kind"], shown["id"]) == ("user", "ue1")


def test_twins_have_every_group_of_attributes(testbed: RunningTestbed) -> None:
    user = testbed.commands.json("twin", "show", "ue1")
    assert 1 <= user["user"]["qoe_mos"]["value"] <= 4.5
    assert user["user"]["slices"]["value"] == ["1-000001"]
    assert user["user"]["compute_cores"]["value"] > 0
    assert user["resources"]["1-000001"]["queue_min_kbps"]["value"] > 0

    def operations() -> int:
        sensor = testbed.commands.json("twin", "show", "ue2")
        return int(sensor["use_case"]["operations"]["value"])

    wait_until(operations, 12.0)  # a sensor tells them each 10 s, and the first time at once
    slice_ = testbed.commands.json("twin", "show", "video")["attributes"]
    assert {"reserved_kbps", "sla_satisfied_ratio", "power_w", "energy_j"} <= set(slice_)
    assert slice_["strategy.reservation"]["value"]["method"] == "slice-planner"
    assert len(slice_["strategy.reservation"]["value"]["models"]) == 1
    assert set(slice_["demand_kbps.ap1"]["predicted"]["quantiles"]) == {"0.5", "0.9", "0.97"}


def test_a_slices_twin_says_what_its_switch_counted(testbed: RunningTestbed) -> None:
    """The mean of its history and the growth of the meter's own counter over the same span."""

    def counted() -> tuple[int, int]:
        sample = rpc.call(testbed.run_folder / "ric.sock", "counters")
        own = [c for c in sample["classes"] if c["slice_id"] == 1]
        return sample["taken_at_ns"], sum(c["arrived_bytes"] for c in own)

    since_ns, before = counted()
    wait_until(lambda: counted()[0] > since_ns + 4 * 10**9, 8.0)
    until_ns, after = counted()
    counted_kbps = (after - before) * 8e6 / (until_ns - since_ns)
    span = ("--since", str(since_ns), "--until", str(until_ns), "--aggregate", "mean")
    (told,) = testbed.commands.json(
        "twin", "history", "video", "--attribute", "arrived_kbps.ap1", *span
    )
    assert told["value"] == pytest.approx(counted_kbps, rel=0.2)
    assert told["samples"] >= 6


def test_a_users_history_is_asked_for_and_exported(testbed: RunningTestbed, tmp_path: Path) -> None:
    points = testbed.commands.json(
        "twin", "history", "ue1", "--attribute", "services.stream.down.demand_kbps",
        "--since", "6s", "--aggregate", "mean", "--every", "1s",
    )  # fmt: skip
    assert len(points) >= 5
    assert all(500 < point["value"] < 15_000 for point in points)
    files = testbed.commands.json("twin", "export", "--out", str(tmp_path))["files"]
    assert {Path(file).parent.name for file in files[:-1]} == {"ap1"}
    assert len(files) == 3


# -- figures -----------------------------------------------------------------------


def test_measure_sees_live_traffic(testbed: RunningTestbed) -> None:
    answer = testbed.commands.json("measure", "--duration", "2")
    by_name = {slice_["name"]: slice_ for slice_ in answer["slices"]}
    assert set(by_name) == {"video", "control"}
    assert by_name["video"]["goodput_mbps"] > 1
    assert by_name["control"]["owd_ms"]["p50"] > 0
    assert all(slice_["leaked_frames"] == 0 for slice_ in answer["slices"])


def test_capture_holds_packets_of_the_slice_only(testbed: RunningTestbed, tmp_path: Path) -> None:
    file = tmp_path / "video.pcapng"
    testbed.commands.output("capture", "video", str(file), "--duration", "2")
    packets = rdpcap(str(file))
    assert len(packets) > 100
    prefix = ip_network("10.1.0.0/16")
    for packet in packets:
        assert ip_address(packet[IP].src) in prefix
        assert ip_address(packet[IP].dst) in prefix


@pytest.mark.parametrize("attacker", ["ue1", "ue2"])
def test_no_attempt_crosses(testbed: RunningTestbed, attacker: str) -> None:
    """No crafted frame crosses a slice, while lawful ones arrive."""
    inventory = Inventory.load(testbed.run_folder / "inventory.json")
    crossings = attempt_crossings(inventory, CRAFTED_FRAMES, attacker)
    lawful = {name: crossings.pop(name).arrived for name in LAWFUL}
    assert set(lawful.values()) == {CRAFTED_FRAMES}, "without these, silence would prove nothing"
    assert len(crossings) >= 100
    leaked = {name: c for name, c in crossings.items() if c.leaked}
    assert not leaked


# -- the loop ------------------------------------------------------------------------


def test_an_xapps_decision_changes_a_queue_of_the_switch(testbed: RunningTestbed) -> None:
    """The last applied reservation and the queues that Open vSwitch really has agree."""

    def applied() -> list[dict[str, Any]]:
        decisions = testbed.commands.json("decision", "list")
        return [d for d in decisions if d["verdict"] == "applied" and d["action"] == "reserve"]

    wait_until(applied, DECISION_TIMEOUT_S)
    decision = applied()[-1]
    assert decision["xapp"] == "slice-planner"
    assert decision["trace_id"]
    assert decision["confirmations"]
    assert all(c["confirmed"] for c in decision["confirmations"])

    def queue_rates_bps() -> set[int]:
        listed = subprocess.run(
            ["ovs-vsctl", "--format=json", "--columns=other_config", "list", "queue"],
            capture_output=True, text=True, check=True, env=environment_of(testbed),
        ).stdout  # fmt: skip
        rows = json.loads(listed)["data"]
        return {int(dict(row[0][1])["min-rate"]) for row in rows if dict(row[0][1]).get("min-rate")}

    def agree() -> bool:
        reserved = {
            cell["min_kbps"] * 1000
            for slice_ in testbed.commands.json("slice", "list")
            for cell in slice_["reserved"]
        }
        return reserved <= queue_rates_bps()

    wait_until(agree, 10.0)


def test_effects_of_decisions_are_judged_from_packets(testbed: RunningTestbed) -> None:
    def judged() -> set[str]:
        return {d["effect"] for d in testbed.commands.json("decision", "list")} - {"pending"}

    wait_until(lambda: "verified" in judged(), DECISION_TIMEOUT_S)


def test_what_twins_saw_is_replayed_to_the_same_xapp(
    testbed: RunningTestbed, tmp_path: Path
) -> None:
    def has_decided_on_a_whole_history() -> bool:
        decisions = testbed.commands.json("decision", "list")
        received = [d["hops_ns"]["received"] for d in decisions if d["xapp"] == "slice-planner"]
        return bool(received) and max(received) - min(received) > 14e9

    wait_until(has_decided_on_a_whole_history, DECISION_TIMEOUT_S)
    rpc.call(RunFolder(testbed.run_folder).ric_socket, "flush", 30.0, out=str(tmp_path / "seen"))
    document = testbed.commands.json(
        *("replay", str(tmp_path / "seen"), "--xapp", "slice-planner", "--port", "0"),
        *("--speed", "50", "--out", str(tmp_path / "replayed")),
    )
    assert document["windows"] > 0
    assert document["refused_windows"] == {}
    assert document["decisions"]["applied"] > 0
    # It missed the first windows live; once that is out of its history it decides the same.
    assert document["as_recorded"]["same"] > 0
    again = json.loads((tmp_path / "replayed" / "replay.json").read_text())
    assert again == document
    assert (tmp_path / "replayed" / "decisions.parquet").is_file()


# -- what twins may cost -------------------------------------------------------------


def test_a_twin_budget_is_kept_on_the_wire_beside_the_operators_word(
    testbed: RunningTestbed,
) -> None:
    def shown() -> Any:
        return testbed.commands.json("twin", "budget", "show")

    def period_ms(ue_id: str) -> int:
        return int(testbed.commands.json("twin", "model", ue_id)["period_ms"])

    def intervals_ms(ue_id: str, count: int) -> list[float]:
        local = RunFolder(testbed.run_folder).local_controller_socket("edge1")
        return list(rpc.call(local, "inter_arrivals")[ue_id][-count:])

    wait_until(lambda: sum(u["bytes_per_s"] > 0 for u in shown()["users"]) == 2, 15)
    before = shown()
    cost = {u["ue_id"]: u["bytes_per_s"] for u in before["users"]}
    limit = before["total"]["bytes_per_s"] - 0.75 * cost["ue1"]
    testbed.commands.output("twin", "configure", "--ue", "ue2", "--period-ms", "500")
    testbed.commands.output("twin", "budget", "set", "--bytes-per-s", f"{limit:.0f}")
    try:
        wait_until(lambda: period_ms("ue1") > 900, 10)
        assert period_ms("ue2") == 500  # said by name
        wait_until(lambda: min(intervals_ms("ue1", 2)) > 850, 15)
        assert max(intervals_ms("ue2", 4)) < 850
        records = testbed.commands.json("decision", "list")
        mine = [r for r in records if r["xapp"] == "twin-budget"]
        assert mine and all(r["action"] == "configure_twin" for r in mine)
        (ric,) = (p for p in testbed.commands.json("status")["processes"] if p["name"] == "ric")
        os.kill(ric["pid"], signal.SIGKILL)
        wait_until(lambda: testbed.commands.run("twin", "budget", "show").returncode == 0, 20)
        wait_until(lambda: testbed.commands.json("status")["ready"], 20)
        assert shown()["budget"]["bytes_per_s"] == round(limit)
        assert period_ms("ue1") > 900
    finally:
        testbed.commands.output("twin", "budget", "clear")
        testbed.commands.output("twin", "configure", "--ue", "ue2", "--reset")
    assert (period_ms("ue1"), period_ms("ue2")) == (500, 500)
    assert shown()["budget"] is None

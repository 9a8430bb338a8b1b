"""A slice's life by ./testbed.sh on a running testbed with an xApp, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, RunningTestbed
from tests.waiting import wait_until

GAMING = {"sst": 1, "sd": "0000aa"}
ADDRESS, UE2 = "10.3.200.1", "10.3.1.2"
FILE = """\
name: gaming
s_nssai: {sst: 1, sd: "0000aa"}
sla: {guaranteed_mbps: 0.5, delay: {bound_ms: 50}}
users: [ue1, ue2]
services:
  - {name: play, traffic_class: elastic, host: edge1, port: 6000}
reservations: []  # the xApp, which may hold all the room at times, plans it
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slices") / "gaming.yaml"
    path.write_text(FILE)
    return path


def names(testbed: RunningTestbed) -> list[str]:
    return [item["name"] for item in testbed.commands.json("slice", "list")]


def gaming_reserved(testbed: RunningTestbed) -> list[dict[str, Any]]:
    """Applied plans of the xApp that have the slice, with a demand it forecast."""
    return [
        item
        for record in testbed.commands.json("decision", "list")
        if record["xapp"] == "slice-planner" and record["verdict"] == "applied"
        for item in record["parameters"].get("reservations", ())
        if item["s_nssai"] == GAMING and item["predicted_kbps"] > 100
    ]


def test_dry_run_shows_what_create_then_does(testbed: RunningTestbed, file: Path) -> None:
    told = testbed.commands.output("slice", "create", str(file), "--dry-run")
    assert "ap1: asked 0 Mbit/s" in told
    assert "+ queue 13 on ap1_1 12-20000 kbit/s" in told
    assert f"ipv4_src={ADDRESS}" in told
    assert names(testbed) == ["video", "control"]
    rehearsed = testbed.commands.json("slice", "create", str(file), "--dry-run")
    made = testbed.commands.json("slice", "create", str(file))
    assert all(c["confirmed"] for c in made["confirmations"])
    assert made["diff"]["flows"] == rehearsed["diff"]["flows"]
    assert names(testbed) == ["video", "control", "gaming"]
    assert testbed.commands.json("twin", "show", "gaming")["id"] == "1-0000aa"


def test_its_packets_pass_and_the_xapp_plans_for_them(testbed: RunningTestbed) -> None:
    """Programs of people's own: the agents report none of it, the switches count it."""
    flood = subprocess.Popen(
        ["./testbed.sh", "exec", "ue1", "--", "ping", "-q", "-i", "0.005", "-s", "1000", ADDRESS],
        cwd=REPOSITORY,
        env=testbed.commands.environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: gaming_reserved(testbed), 20)
    finally:
        flood.terminate()
        flood.wait()
    twin = testbed.commands.json("twin", "show", "gaming")["attributes"]
    assert twin["demand_kbps"]["value"] > 100


def test_a_users_share_holds_it_on_packets(testbed: RunningTestbed) -> None:
    """ue1 is sent 3 to 11 Mbit/s in `video`; a tenth of the slice's rate is less than that."""
    line = testbed.commands
    share = ("slice", "schedule", "video", "--user", "ue1=0.1")
    assert "+ meter" in line.output(*share, "--dry-run")
    record = line.json(*share)
    assert [c["confirmed"] for c in record["confirmations"]] == [True]
    assert record["diff"]["meters"]["ap1"], "no meter was added"

    def judged() -> dict[str, Any]:
        every = line.json("decision", "list")
        return next(d for d in every if d["decision_id"] == record["decision_id"])

    wait_until(lambda: judged()["effect"] != "pending", 8)
    assert judged()["effect"] == "verified", judged()["effect_detail"]
    of_user = judged()["effect_detail"]["users"]["ue1"]
    assert of_user["passed_kbps"] < of_user["arrived_kbps"], "nothing was held back"
    line.output("slice", "schedule", "video", "--clear")
    assert "sum to 1.200" in line.refusal(
        "slice", "schedule", "gaming", "--user", "ue1=0.6", "--user", "ue2=0.6"
    )


def test_a_killed_ric_comes_back_with_the_slice(testbed: RunningTestbed) -> None:
    processes = testbed.commands.json("status")["processes"]
    pid = next(p["pid"] for p in processes if p["name"] == "ric")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: testbed.commands.run("slice", "list").returncode == 0, 20)
    wait_until(lambda: "gaming" in names(testbed), 10)
    ping = testbed.commands.output(
        "exec", "ue1", "--", "ping", "-q", "-c", "3", "-i", "0.1", "-W", "1", UE2
    )
    assert "3 received" in ping


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "huge", "--guaranteed-mbps", "50"), "ap1: asked 50.0 Mbit/s"),
        (("create", "video", "--guaranteed-mbps", "0.1", "--sd", "00000b"), "named video"),
        (("create", "x", "--guaranteed-mbps", "0.1", "--user", "ue9"), "unknown user 'ue9'"),
        (("create", "x", "--guaranteed-mbps", "-1"), "greater than 0"),
        (("create", "x"), "--guaranteed-mbps is missing"),
        (("create", "nosuch.yaml"), "nosuch.yaml: cannot be read"),
        (("cover", "gaming", "ap9"), "unknown cell 'ap9'"),
        (("uncover", "gaming", "ap1"), "last cell"),
        (("delete", "nosuch"), "unknown slice 'nosuch'"),
        (("delete", "15"), "infrastructure"),
        (("reserve", "gaming", "ap1", "3", "2"), "outside 0-2000"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: tuple[str, ...], words: str, testbed: RunningTestbed
) -> None:
    before = testbed.commands.json("slice", "list")
    assert words in testbed.commands.refusal("slice", *arguments)
    after = testbed.commands.json("slice", "list")
    assert [s["name"] for s in after] == [s["name"] for s in before]


def test_a_file_s_mistake_has_its_line(testbed: RunningTestbed, file: Path) -> None:
    wrong = file.with_name("wrong.yaml")
    wrong.write_text(FILE.replace("users:", "user:"))
    line = testbed.commands.refusal("slice", "create", str(wrong))
    assert f"{wrong}:4: user" in line


def test_deleted_its_address_and_twin_are_gone(testbed: RunningTestbed) -> None:
    testbed.commands.output("slice", "delete", "gaming")
    assert names(testbed) == ["video", "control"]
    shown = testbed.commands.output("exec", "ue2", "--", "ip", "addr")
    assert UE2 not in shown
    assert "1-0000aa" not in {t["id"] for t in testbed.commands.json("twin", "list")}

"""The command line without a testbed: help, refusals, and what is pure in it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from controller.contracts import run_folder
from tests.waiting import wait_until
from topologies.cli import development, figures, pcapng, resources, summary, terminal, xapps
from topologies.cli.app import app, main
from topologies.cli.errors import CommandRefused
from topologies.cli.hosts import without_separator
from topologies.manifest import create_run_folder

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534
THINGS = ("slice", "ue", "cell", "service", "twin", "decision")
COMMANDS = (
    *[(name,) for name in (
        "setup", "doctor", "demo", "run", "up", "status", "env", "exec", "shell", "down", "clean",
        "measure", "capture", "report", "compare", "bench", "test", "train",
    )],
    *[(thing, verb) for thing in THINGS for verb in ("list", "show")],
    *[("slice", verb) for verb in ("create", "update", "delete")],
    ("service", "migrate"),
    *[("xapp", verb) for verb in (
        "new", "validate", "deploy", "list", "logs", "upgrade", "rollback", "undeploy",
    )],
    *[("vm", verb) for verb in ("run", "ssh", "test", "down")],
    ("models", "list"),
    ("models", "verify"),
)  # fmt: skip
"""The contract: scripts rely on every one of these."""


@pytest.fixture(autouse=True)
def no_testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "RUNS_ROOT", tmp_path / "runs")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that must be refused; its one line on stderr."""

    def run(*arguments: str) -> str:
        status = main(arguments)
        captured = capsys.readouterr()
        assert status != 0
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("testbed.sh: ")
        return lines[0]

    return run


def registered() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = {(str(c.name),) for c in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands = group.typer_instance.registered_commands
        found |= {(str(group.name), str(command.name)) for command in commands}
    return found


def test_every_command_of_the_contract_exists() -> None:
    assert set(COMMANDS) - registered() == set()


@pytest.mark.parametrize("command", sorted(registered()), ids=" ".join)
def test_help_shows_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"./testbed.sh {' '.join(command)}" in shown or f'$(./testbed.sh {command[0]})"' in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-command",), "see ./testbed.sh --help"),
        (("up",), "see ./testbed.sh up --help"),
        (("twin", "show"), "see ./testbed.sh twin show --help"),
        (("run", "minimal", "--policy", "magic"), "'placebo'"),
        (("run", "minimal", "--duration", "soon"), "--duration"),
        (("run", "minimal", "--unknown"), "--unknown"),
        (("up", "minimall"), "did you mean 'minimal'?"),
        (("up", "minimal", "--set", "no_such_key=1"), "no_such_key"),
        (("status",), "./testbed.sh up minimal"),
        (("env",), "./testbed.sh up minimal"),
        (("ue", "list"), "./testbed.sh up minimal"),
        (("measure",), "./testbed.sh up minimal"),
        (("report", "/nonexistent"), "/nonexistent/summary.json"),
        (("policy", "define", "/nonexistent"), "No such file or directory; give a JSON file"),
        (("bench", "no-such-benchmark"), "known: "),
        (("train", "no-such-model"), "known: "),
        (("xapp", "new", "Bad Name"), "lower case"),
        (("xapp", "validate", "/nonexistent"), "config-file.json"),
    ],
)
def test_refusals_are_one_line_with_the_next_step(
    arguments: tuple[str, ...], words: str, refused: Any
) -> None:
    assert words in refused(*arguments)


@pytest.fixture
def nobody() -> Iterator[None]:
    """This process without root's rights; the modules that commands load late are here already."""
    if os.geteuid() == 0:
        from topologies import cleanup, doctor, lifecycle  # noqa: F401
        from topologies.scenario import loader  # noqa: F401
        from topologies.vm import images, machine  # noqa: F401

        os.seteuid(NOBODY)
        if not os.access(REPOSITORY / "topologies" / "scenarios", os.R_OK, effective_ids=True):
            os.seteuid(0)
            pytest.skip("this checkout cannot be read without root")
    yield
    if os.getuid() == 0:
        os.seteuid(0)


@pytest.mark.parametrize(
    "command",
    ["up minimal", "run minimal", "demo", "down", "clean", "shell ue1", "exec ue1 -- true",
     "capture video x.pcapng", "vm run", "vm test"],
)  # fmt: skip
def test_without_root_one_line_says_sudo(command: str, nobody: None, refused: Any) -> None:
    assert "sudo ./testbed.sh" in refused(*command.split())


def test_without_root_a_running_testbed_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: None, refused: Any
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as root:
        monkeypatch.setattr(run_folder, "RUNS_ROOT", Path(root))
        run = run_folder.RunFolder(Path(root) / "r1")
        create_run_folder(run)
        run.manifest.chmod(0)
        (Path(root) / "current").symlink_to("r1")
        line = refused("status")
        assert str(run.manifest) in line and "sudo ./testbed.sh" in line


def test_a_file_that_the_machine_does_not_give_is_one_line(refused: Any) -> None:
    assert "/proc/mine: " in refused("xapp", "new", "mine", "--dir", "/proc/mine")


def test_status_as_json_without_a_testbed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"run_id": None, "ready": False, "processes": []}


def test_script_that_is_not_set_up_says_so_and_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "testbed.sh", tmp_path)
    shutil.copytree(REPOSITORY / "requirements", tmp_path / "requirements")
    done = subprocess.run(
        [tmp_path / "testbed.sh", "--help"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "./testbed.sh demo" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"testbed.sh", "requirements"}


# -- what commands are made of --------------------------------------------------


def test_command_after_separator_keeps_later_separators() -> None:
    assert without_separator(["--", "sh", "-c", "x", "--", "y"]) == ["sh", "-c", "x", "--", "y"]
    assert without_separator(["ip", "-j", "link"]) == ["ip", "-j", "link"]
    with pytest.raises(CommandRefused, match="which command"):
        without_separator(["--"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"sst": 1, "sd": "000001"}, "1-000001"),
        (None, "-"),
        ([], "-"),
        (["a", "b"], "a, b"),
        ({"min_kbps": 8000, "max": None}, "min_kbps=8000"),
        (0.123456, "0.1235"),
        (123456.7, "123457"),
        (0, "0"),
        (False, "False"),
    ],
)
def test_cells(value: Any, shown: str) -> None:
    assert terminal.cell(value) == shown


def test_json_refuses_what_a_reader_cannot_parse() -> None:
    with pytest.raises(ValueError, match="JSON"):
        terminal.print_json({"value": float("nan")})


def test_waiting_shows_progress_and_ends_on_time(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = iter(range(0, 100, 2))
    terminal.wait_with_progress("measuring", 11.0, clock=lambda: float(next(now_s)))
    lines = capsys.readouterr().err.split("\n")
    assert [line.strip() for line in lines if line] == [
        "measuring: 6 of 11 s",
        "measuring: 10 of 11 s",
    ]


def test_a_long_step_shows_signs_of_life(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    with terminal.signs_of_life("checking", period_s=0.02):

        def told() -> bool:
            nonlocal shown
            shown += capsys.readouterr().err
            return shown.count("  checking: 0 s") >= 2

        wait_until(told, 5.0)
    capsys.readouterr()
    with terminal.signs_of_life("checking", period_s=5.0):
        pass
    assert capsys.readouterr().err == ""


def test_waiting_ends_when_finished() -> None:
    answers = iter([False, True])
    terminal.wait_with_progress("measuring", None, lambda: next(answers))
    assert next(answers, "used up") == "used up"


SLICES = next(r for r in resources.RESOURCES if r.command == "slice")


@pytest.mark.parametrize("wanted", ["video", "1-000001", "1"])
def test_slice_is_found_by_name_s_nssai_and_id(wanted: str) -> None:
    items = [
        {"name": "other", "slice_id": 2, "s_nssai": {"sst": 2, "sd": "ffffff"}},
        {"name": "video", "slice_id": 1, "s_nssai": {"sst": 1, "sd": "000001"}},
    ]
    assert resources.find(SLICES, items, wanted)["name"] == "video"


def test_unknown_thing_names_the_known_ones() -> None:
    with pytest.raises(CommandRefused, match="unknown slice 'x'; known: video"):
        resources.find(SLICES, [{"name": "video", "slice_id": 1}], "x")


def test_xapp_configuration_is_json_where_it_can_be() -> None:
    assert xapps.configuration(["a=0.5", "b=true", "c=text", "d=[1]"]) == {
        "a": 0.5, "b": True, "c": "text", "d": [1],
    }  # fmt: skip
    with pytest.raises(CommandRefused, match="KEY=VALUE"):
        xapps.configuration(["novalue"])


def test_new_xapp_is_valid_and_has_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    assert main(["xapp", "new", "my-xapp", "--dir", str(folder)]) == 0
    assert json.loads((folder / "config-file.json").read_text())["xapp_name"] == "my-xapp"
    assert main(["xapp", "validate", str(folder)]) == 0
    assert "my-xapp" in capsys.readouterr().out


def test_new_xapp_never_overwrites(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    assert "exists already" in refused("xapp", "new", "mine", "--dir", str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_benchmarks_are_listed_with_what_they_measure() -> None:
    found = figures.benchmarks()
    assert "goodput" in found
    assert all(found.values())


# -- pcapng ----------------------------------------------------------------------


def test_pcapng_is_read_back_by_another_program(tmp_path: Path) -> None:
    at_ns = 1_700_000_000_123_456_789
    file = tmp_path / "two.pcapng"
    file.write_bytes(
        pcapng.section_header()
        + pcapng.interface_description("ap1-eth1")
        + pcapng.interface_description("ap2-eth1")
        + pcapng.enhanced_packet(1, at_ns, b"\x01" * 61, 1500)
    )
    with RawPcapNgReader(str(file)) as reader:
        frame, metadata = next(reader)
    details: Any = metadata  # scapy's own types do not know this format's fields
    assert frame == b"\x01" * 61
    assert details.wirelen == 1500
    assert (details.tshigh << 32) + details.tslow == at_ns
    assert details.tsresol == 1_000_000_000
    assert details.ifname == b"ap2-eth1"


def test_pcap_stream_ends_at_a_torn_record() -> None:
    header = pcapng.PCAP_HEADER.pack(pcapng.PCAP_NANOSECOND_MAGIC, 2, 4, 0, 0, 262144, 1)
    record = pcapng.PCAP_RECORD.pack(7, 5, 3, 60) + b"abc"
    torn = pcapng.PCAP_RECORD.pack(8, 0, 100, 100) + b"abc"
    found = list(pcapng.packets_of_pcap(io.BytesIO(header + record + torn)))
    assert found == [(7_000_000_005, b"abc", 60)]


def test_pcap_stream_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="nanosecond"):
        list(pcapng.packets_of_pcap(io.BytesIO(b"\xd4\xc3\xb2\xa1" + bytes(20))))


# -- models ------------------------------------------------------------------------


def test_model_with_another_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not the model")
    card = {"sha256": "0" * 64, "inputs": []}
    assert "SHA-256" in str(development.problem_of(tmp_path, card))


def test_missing_model_file_is_named(tmp_path: Path) -> None:
    problem = development.problem_of(tmp_path, {"sha256": "0" * 64, "inputs": []})
    assert f"{tmp_path / 'model.onnx'} is missing" == problem


# -- summary -------------------------------------------------------------------------


def summary_document(policy: str, satisfied_ratio: float) -> dict[str, Any]:
    return {
        "scenario": "minimal", "seed": 1, "policy": policy, "duration_s": 20,
        "datapath": "userspace",
        "validity": {"verdict": "invalid", "reasons": ["timer slip 3 ms"]},
        "slices": [{
            "name": "video", "s_nssai": {"sst": 1, "sd": "000001"}, "offered_mbps": 8.0,
            "goodput_mbps": 7.9, "reserved_mbps": 9.25, "loss_ratio": 0.0125,
            "owd_ms": {"p50": 0.5, "p99": None}, "sla_satisfied_ratio": satisfied_ratio,
            "leaked_frames": 0,
        }],
        "loop_latency_ms": {"p50": None, "p99": None, "samples": 0},
        "decisions": {"applied": 3, "rejected": 1, "superseded": 0, "verified": 2, "refuted": 0,
                      "not_exercised": 1},
        "handovers": {"count": 0, "lost_packets": 0},
    }  # fmt: skip


def test_summary_shows_slices_and_the_verdict_with_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary.print_summary(summary_document("xapps", 0.975))
    shown = capsys.readouterr().out
    for words in ("video", "1-000001", "9.25", "97.5", "invalid: timer slip 3 ms", "3 applied"):
        assert words in shown
    table = shown.partition("rates in")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_figures_stand_under_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(
        ("name", "kbps"), [{"name": "a", "kbps": 7.5}, {"name": "long", "kbps": 12000}]
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name  kbps", "a      7.5", "long 12000"]


def test_compare_puts_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for policy, satisfied_ratio in (("xapps", 0.9), ("static", 0.7)):
        (tmp_path / policy).mkdir()
        document = summary_document(policy, satisfied_ratio)
        (tmp_path / policy / "summary.json").write_text(json.dumps(document))
    assert main(["compare", str(tmp_path / "xapps"), str(tmp_path / "static"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["policy"], row["sla_satisfied_ratio"]) for row in rows] == [
        ("xapps", 0.9),
        ("static", 0.7),
    ]

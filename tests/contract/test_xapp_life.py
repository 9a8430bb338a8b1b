"""Life of xApps on a running RIC: deployed, confined, watched, refused, undeployed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ric_bench import LISTENING, RunningRic, write_xapp
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def deploy(ric: RunningRic, folder: Path, **fields: Any) -> requests.Response:
    return ric.call("POST", "xapps", json={"descriptor_dir": str(folder), **fields})


def test_life_of_an_xapp(ric: RunningRic, tmp_path: Path, namespaces: dict[str, int]) -> None:
    folder = write_xapp(tmp_path / "listener", LISTENING)
    answer = deploy(ric, folder, placement="edge1", config={"forecaster": "y"})
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert (document["xapp_name"], document["version"]) == ("listener", "1.2.3")
    assert document["state"] == "running"
    pid = document["pid"]
    assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink(
        f"/proc/{namespaces['edge1']}/ns/net"
    ), "it runs where it was placed"
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert "2147483648" in next(line for line in limits if line.startswith("Max address space"))
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, ric.process.pid)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert ric.run.token.read_text().strip().encode() not in environment
    assert f"HOLON_RUN_ID={ric.inventory.run_id}".encode() in environment
    assert ric.get("xapps") == [ric.get("xapps/listener")]
    assert deploy(ric, folder).status_code == 409
    second = deploy(ric, folder, name="listener-2").json()
    assert second["xapp_name"] == "listener-2"

    def log() -> list[str]:
        lines: list[str] = ric.get("xapps/listener/logs", lines=50)["lines"]
        return lines

    wait_until(lambda: ric.status()["stream"]["consumers"] == 2, 5)
    sent = ric.send_aggregate()
    wait_until(lambda: f"saw {sent['trace_id']}" in log(), 5)
    assert 'config {"forecaster": "y", "margin": 0.1}' in log()
    for name in ("listener", "listener-2"):
        gone = ric.call("DELETE", f"xapps/{name}")
        assert gone.status_code == 200
        assert gone.json()["state"] == "stopped"
    assert ric.get("xapps") == []
    assert not Path(f"/proc/{pid}").exists()
    assert deploy(ric, folder).status_code == 201
    assert ric.call("DELETE", "xapps/listener").status_code == 200


def test_an_xapp_decides_in_its_own_name_and_scope(ric: RunningRic, tmp_path: Path) -> None:
    source = """
import urllib.error
def code(method, path, body=None):
    try:
        return call(method, path, body).status
    except urllib.error.HTTPError as error:
        return error.code
move = {"trace_id": "t", "xapp": name, "action": "handover",
        "target": {"ue_id": "ue1"}, "parameters": {"cell_id": "ap2"}}
print("codes", code("GET", "ues"), code("POST", "decisions", move),
      code("POST", "decisions", {**move, "action": "reserve", "xapp": "operator"}),
      code("POST", "xapps", {"descriptor_dir": "/x"}), code("DELETE", "xapps/" + name),
      code("POST", "xapps/other/ready"), flush=True)
"""
    folder = write_xapp(tmp_path / "curious", source + LISTENING)
    assert deploy(ric, folder).status_code == 201
    lines = ric.get("xapps/curious/logs")["lines"]
    assert "codes 200 403 403 403 403 403" in lines
    ric.call("DELETE", "xapps/curious")


CURIOUS = """
from pathlib import Path
def tried(path):
    try:
        return Path(path).read_bytes() if not Path(path).is_dir() else os.listdir(path)
    except OSError as error:
        return error.strerror
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print("own", tried("note.txt"), tried(str(Path(__file__).parent / "deep" / "note.txt")))
print("ids", *{*status["Uid"].split(), *status["Gid"].split()}, "groups", status["Groups"].split())
print("caps", status["CapPrm"].strip(), status["CapBnd"].strip(), status["NoNewPrivs"].strip())
for path in config["paths"]:
    print("read", path, tried(path))
import onnxruntime, holon_xapp
print("imported", flush=True)
"""


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_an_xapp_is_nobody_and_reads_no_secrets(ric: RunningRic, tmp_path: Path, mode: int) -> None:
    """`tmp_path` is in a folder that only root can enter, as /root is.  With mode 0600 the xApp's
    own files are its owner's only."""
    other = write_xapp(tmp_path / "other", LISTENING)
    assert deploy(ric, other).status_code == 201
    pid = ric.get("xapps/other")["pid"]
    name = f"curious-{mode:o}"
    folder = write_xapp(tmp_path / name, CURIOUS + LISTENING)
    (folder / "deep").mkdir(mode=0o755 if mode == 0o644 else 0o700)
    for note in (folder / "note.txt", folder / "deep" / "note.txt"):
        note.write_text("mine")
    for path in folder.rglob("*.*"):
        path.chmod(mode)
    secret = tmp_path / "beside.txt"
    secret.write_text("of root")
    paths = [ric.run.token, ric.run.path / "intents.jsonl", secret, other / "xapp.py",
             f"/proc/{pid}/environ", f"/proc/{ric.process.pid}/environ", "/etc/shadow"]  # fmt: skip
    answer = deploy(ric, folder, config={"paths": [str(path) for path in paths]})
    assert answer.status_code == 201, answer.text
    uid = answer.json()["uid"]
    assert uid != ric.get("xapps/other")["uid"] and uid >= 60_000
    lines = ric.get(f"xapps/{name}/logs", lines=60)["lines"]
    assert "own b'mine' b'mine'" in lines
    assert f"ids {uid} groups []" in lines
    assert "caps 0000000000000000 0000000000000000 1" in lines
    reads = [line for line in lines if line.startswith("read ")]
    assert len(reads) == len(paths)
    for line in reads:
        assert line.endswith(("Permission denied", "No such file or directory")), line
    assert "imported" in lines
    for each in (name, "other"):
        ric.call("DELETE", f"xapps/{each}")
    mounts = Path("/proc/mounts").read_text()
    assert str(folder) not in mounts and str(tmp_path) not in mounts


def test_an_xapp_that_dies_is_failed_with_its_last_words(ric: RunningRic, tmp_path: Path) -> None:
    dying = 'with call("GET", "stream") as s:\n    next(iter(s))\nsys.exit("no more models")\n'
    assert deploy(ric, write_xapp(tmp_path / "mortal", dying)).status_code == 201
    ric.send_aggregate()
    wait_until(lambda: ric.get("xapps/mortal")["state"] == "failed", 5)
    document = ric.get("xapps/mortal")
    assert document["reason"] == "exited with status 1: no more models"
    assert document["pid"] is None
    ric.call("DELETE", "xapps/mortal")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import absent_module\n", "exited with status 1: ModuleNotFoundError: No module named"),
        ("sys.exit(7)\n", "exited with status 7"),
        ("os.kill(os.getpid(), 9)\n", "was ended by SIGKILL"),
        ("x = bytearray(4 * 1024**3)\n", "MemoryError"),
    ],
)
def test_an_xapp_that_does_not_start_is_one_clear_line(
    ric: RunningRic, tmp_path: Path, source: str, words: str
) -> None:
    answer = deploy(ric, write_xapp(tmp_path / "broken", source))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("xApp broken did not start: ")
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert ric.get("xapps/broken")["state"] == "failed"
    ric.call("DELETE", "xapps/broken")


def with_model(sha256: str) -> Any:
    def prepare(document: dict[str, Any]) -> None:
        document["holon"]["models"] = [{"path": "model.onnx", "sha256": sha256}]

    return prepare


def test_what_cannot_be_deployed_is_refused_before_it_starts(
    ric: RunningRic, tmp_path: Path
) -> None:
    bad_hash = write_xapp(tmp_path / "hash", LISTENING, with_model("0" * 64))
    (bad_hash / "model.onnx").write_bytes(b"weights")
    image_only = write_xapp(tmp_path / "image", "", lambda d: d.pop("holon"))
    for folder, fields, words in (
        (bad_hash, {}, "has SHA-256"),
        (write_xapp(tmp_path / "lost", "", with_model("0" * 64)), {}, "model.onnx is neither in"),
        (image_only, {}, "no holon.entry_point"),
        (tmp_path / "nowhere", {}, "no xApp descriptor at"),
        (write_xapp(tmp_path / "far", LISTENING), {"placement": "moon"}, "placed at 'moon'"),
    ):
        answer = deploy(ric, folder, **fields)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["error"]
    assert ric.get("xapps") == []
    assert deploy(ric, tmp_path, name="../up").status_code == 422
    assert deploy(ric, Path("a\0b")).status_code == 422

"""Descriptors in the shapes that O-RAN SC's xApps use, and our own section in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from controller.xapp_descriptor import (
    DescriptorError,
    entry_command,
    load_descriptor,
    parse_descriptor,
    verify_models,
)


def container(name: str) -> dict[str, Any]:
    image = {"registry": "registry.example:10002", "name": f"o-ran-sc/{name}", "tag": "1.0.0"}
    return {"name": name, "image": image}


def rmr_ports(name: str, rx: list[str], tx: list[str], policies: list[int]) -> dict[str, Any]:
    return {
        "ports": [
            {
                "name": "rmr-data",
                "container": name,
                "port": 4560,
                "rxMessages": rx,
                "txMessages": tx,
                "policies": policies,
                "description": f"data port of {name}",
            },
            {"name": "rmr-route", "container": name, "port": 4561, "description": "routes"},
        ]
    }


LEGACY_RMR = {
    "protPort": "tcp:4560",
    "maxSize": 2072,
    "numWorkers": 1,
    "rxMessages": ["A"],
    "txMessages": ["B"],
    "policies": [20008],
}
STEERING = {  # the shape of the traffic steering xApp: both message sections, controls
    "xapp_name": "trafficxapp",
    "version": "1.2.2",
    "containers": [container("trafficxapp")],
    "messaging": rmr_ports("trafficxapp", ["PREDICTION", "A1_POLICY_REQ"], ["UE_LIST"], [20008]),
    "rmr": LEGACY_RMR,
    "controls": {"ts_control_api": "grpc", "ts_control_ep": "localhost:50051"},
}
PREDICTOR: dict[str, Any] = {  # the shape of qp
    "xapp_name": "qp",
    "version": "0.0.3",
    "containers": [container("qp")],
    "messaging": rmr_ports("qp", ["UE_LIST"], ["PREDICTION"], []),
    "rmr": LEGACY_RMR,
}
ANOMALY = {  # the shape of ad in its older form: `name`, and the legacy section alone
    "name": "ad",
    "version": "1.0.2",
    "containers": [container("ad")],
    "rmr": LEGACY_RMR,
}
MONITOR = {  # the shape of kpimon: an http port besides
    "xapp_name": "xappkpimon",
    "version": "1.0.0",
    "containers": [container("xappkpimon")],
    "messaging": {"ports": [{"name": "http", "container": "xappkpimon", "port": 8080}]},
}
HELLO = {  # the shape of hw-python: probes, metrics, a command, nested controls
    "name": "hw-python",
    "version": "1.0.0",
    "containers": [{**container("hw-python"), "command": ["/bin/sh", "-c", "run"], "args": ["x"]}],
    "livenessProbe": {
        "httpGet": {"path": "ric/v1/health/alive", "port": 8080},
        "initialDelaySeconds": 5,
        "periodSeconds": 15,
    },
    "readinessProbe": {"exec": {"command": ["/usr/bin/probe", "-p", "4560"]}},
    "messaging": rmr_ports("hw-python", ["RIC_SUB_RESP"], ["RIC_SUB_REQ"], [1]),
    "controls": {"fileStrategy": {"baseDir": "/plt/a1"}, "active": True},
    "metrics": [
        {
            "objectName": "UeRateCounter",
            "objectInstance": "Total",
            "name": "rate",
            "type": "counter",
            "description": "messages",
        }
    ],
}


def test_shapes_in_use_validate() -> None:
    names = [
        parse_descriptor(json.dumps(document), "here").xapp_name
        for document in (STEERING, PREDICTOR, ANOMALY, MONITOR, HELLO)
    ]
    assert names == ["trafficxapp", "qp", "ad", "xappkpimon", "hw-python"]


def test_container_only_descriptor_is_valid_but_cannot_be_started(tmp_path: Path) -> None:
    descriptor = parse_descriptor(json.dumps(PREDICTOR), "here")
    with pytest.raises(DescriptorError, match="qp has no holon.entry_point"):
        entry_command(descriptor, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "latest"}, "version"),
        ({"version": 3}, "version"),
        ({"xapp_name": "../../etc"}, "xapp_name"),
        ({"containers": []}, "containers"),
        ({"containers": [{"name": "qp"}]}, "containers.0.image"),
        ({"messaging": rmr_ports("other", [], [], [])}, "names container 'other'"),
        ({"holon": {"entry_point": "xapp.py", "scope": ["read"]}}, "holon.scope: Extra inputs"),
        ({"holon": {"entry_point": "xapp.py", "scopes": ["fly"]}}, "unknown scope 'fly'"),
        ({"holon": {"models": []}}, "holon.entry_point: Field required"),
        (
            {"holon": {"entry_point": "x.py", "models": [{"path": "m.onnx", "sha256": "12"}]}},
            "holon.models.0.sha256",
        ),
    ],
)
def test_faults_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptorError) as refusal:
        parse_descriptor(json.dumps({**PREDICTOR, **change}), "here")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a":' * 100_000])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(DescriptorError, match="here"):
        parse_descriptor(text, "here")


def write_xapp(folder: Path, entry_point: str = "xapp.py", **holon: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    document = {**PREDICTOR, "holon": {"entry_point": entry_point, **holon}}
    (folder / "config-file.json").write_text(json.dumps(document))
    (folder / "xapp.py").write_text("pass\n")
    return folder


def test_entry_point_is_a_file_of_the_folder_or_a_module(tmp_path: Path) -> None:
    folder = write_xapp(tmp_path / "a")
    assert entry_command(load_descriptor(folder), folder) == [str(folder / "xapp.py")]
    folder = write_xapp(tmp_path / "b", "package.xapp")
    assert entry_command(load_descriptor(folder), folder) == ["-m", "package.xapp"]
    (tmp_path / "outside.py").write_text("pass\n")
    for entry_point, message in (
        ("gone.py", "missing"),
        ("../outside.py", "outside its folder"),
        ("-c import os", "neither"),
    ):
        folder = write_xapp(tmp_path / "c", entry_point)
        with pytest.raises(DescriptorError, match=message):
            entry_command(load_descriptor(folder), folder)


def test_a_folder_without_descriptor_is_named(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="no xApp descriptor at .*config-file.json"):
        load_descriptor(tmp_path)


def test_a_model_must_have_the_stated_hash(tmp_path: Path) -> None:
    content = b"weights" * 100
    model = {"path": "models/m.onnx", "sha256": hashlib.sha256(content).hexdigest().upper()}
    folder = write_xapp(tmp_path / "xapps" / "a", models=[model])
    path = tmp_path / "models" / "m.onnx"
    path.parent.mkdir()
    descriptor = load_descriptor(folder)

    with pytest.raises(DescriptorError, match="m.onnx is neither in"):
        verify_models(descriptor, folder, tmp_path)
    path.write_bytes(content)
    assert [m.path for m in verify_models(descriptor, folder, tmp_path)] == [path]
    for broken in (content[:-1], b"", b"X" + content[1:]):
        path.write_bytes(broken)
        with pytest.raises(DescriptorError, match=rf"{len(broken)} bytes.*descriptor states"):
            verify_models(descriptor, folder, tmp_path)


def test_a_missing_contract_is_named(tmp_path: Path) -> None:
    content = b"weights"
    model = {"path": "m.onnx", "sha256": hashlib.sha256(content).hexdigest(), "contract": "m.json"}
    folder = write_xapp(tmp_path, models=[model])
    (folder / "m.onnx").write_bytes(content)
    with pytest.raises(DescriptorError, match="m.json is neither in"):
        verify_models(load_descriptor(folder), folder, tmp_path)
    (folder / "m.json").write_text("{}")
    assert verify_models(load_descriptor(folder), folder, tmp_path)[0].contract == folder / "m.json"

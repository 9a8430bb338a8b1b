"""A1 policies through the running RIC: types, instances, an xApp that answers, the truth of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ric_bench import LISTENING, RunningRic, running_ric, write_xapp
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

TYPE_ID = 20100
TYPE = {
    "name": "headroom",
    "policy_type_id": TYPE_ID,
    "create_schema": {
        "type": "object",
        "properties": {"headroom_ratio": {"type": "number", "minimum": 0}},
        "required": ["headroom_ratio"],
        "additionalProperties": False,
    },
}
HANDLING = """
from holon_xapp import Xapp
xapp = Xapp.from_environment()
xapp.ready()
for policy in xapp.policies():
    print(policy.operation, policy.policy_instance_id, dict(policy.payload), flush=True)
    if policy.operation == "DELETE":
        xapp.answer(policy, "DELETED")
    elif policy.payload["headroom_ratio"] > 1:
        xapp.answer(policy, "ERROR", "more than there is")
    elif policy.payload["headroom_ratio"] > 0:
        xapp.answer(policy)
"""


def a1(ric: RunningRic, method: str, path: str, **arguments: Any) -> requests.Response:
    return ric.session.request(method, f"{ric.url}/A1-P/v2/{path}", timeout=10, **arguments)


def policy(name: str = "evening") -> str:
    return f"policytypes/{TYPE_ID}/policies/{name}"


def status(ric: RunningRic) -> tuple[str, str]:
    said = a1(ric, "GET", f"{policy()}/status").json()
    return said["enforceStatus"], said["enforceReason"]


def handler(folder: Path, types: list[int]) -> Path:
    port = {"name": "a1", "container": folder.name, "port": 4560, "policies": types}
    return write_xapp(folder, HANDLING, lambda d: d.update({"messaging": {"ports": [port]}}))


@pytest.fixture
def typed(ric: RunningRic) -> Any:
    assert a1(ric, "PUT", f"policytypes/{TYPE_ID}", json=TYPE).status_code == 201
    yield ric
    for name in a1(ric, "GET", f"policytypes/{TYPE_ID}/policies").json():
        a1(ric, "DELETE", policy(name))
    assert a1(ric, "DELETE", f"policytypes/{TYPE_ID}").status_code == 200
    for xapp in ric.get("xapps"):
        ric.call("DELETE", f"xapps/{xapp['xapp_name']}")


def test_a_policy_is_enforced_when_its_xapp_says_so_of_this_payload(
    typed: RunningRic, tmp_path: Path
) -> None:
    ric = typed
    assert a1(ric, "GET", "policytypes").json() == [TYPE_ID]
    assert a1(ric, "PUT", policy(), json={"headroom_ratio": 0.4}).status_code == 201
    assert status(ric) == ("NOT_ENFORCED", f"no running xApp handles policy type {TYPE_ID}")
    for name, types in (("handler", [TYPE_ID]), ("deaf", [7])):
        folder = str(handler(tmp_path / name, types))
        assert ric.call("POST", "xapps", json={"descriptor_dir": folder}).status_code == 201
    # It stood before the xApp listened; the other is not told and not asked.
    wait_until(lambda: status(ric) == ("ENFORCED", "enforced by handler"), 5)
    assert a1(ric, "PUT", policy(), json={"headroom_ratio": 2}).status_code == 200
    wait_until(lambda: status(ric) == ("NOT_ENFORCED", "handler: more than there is"), 5)
    a1(ric, "PUT", policy(), json={"headroom_ratio": 0.2})
    wait_until(lambda: status(ric)[0] == "ENFORCED", 5)
    # A payload that it says nothing of is not enforced because the one before was.
    a1(ric, "PUT", policy(), json={"headroom_ratio": 0})
    assert status(ric) == ("NOT_ENFORCED", "handler has not answered")
    a1(ric, "PUT", policy(), json={"headroom_ratio": 0.3})
    wait_until(lambda: status(ric)[0] == "ENFORCED", 5)
    assert a1(ric, "DELETE", policy()).status_code == 200

    def log(name: str) -> str:
        return "\n".join(ric.get(f"xapps/{name}/logs", lines=50)["lines"])

    wait_until(lambda: "DELETE evening" in log("handler"), 5)
    assert "evening" not in log("deaf")
    a1(ric, "PUT", policy(), json={"headroom_ratio": 0.3})
    wait_until(lambda: status(ric)[0] == "ENFORCED", 5)
    ric.call("DELETE", "xapps/handler")
    assert status(ric) == ("NOT_ENFORCED", f"no running xApp handles policy type {TYPE_ID}")


def test_what_cannot_be_is_refused(typed: RunningRic) -> None:
    ric = typed
    for payload in ({"headroom_ratio": -1}, {"headroom_ratio": "much"}, {}, {"other": 1}):
        assert a1(ric, "PUT", policy(), json=payload).status_code == 422, payload
    a1(ric, "PUT", policy(), json={"headroom_ratio": 1})
    assert a1(ric, "DELETE", f"policytypes/{TYPE_ID}").status_code == 409
    other = {**TYPE, "create_schema": {"type": "object"}}
    assert a1(ric, "PUT", f"policytypes/{TYPE_ID}", json=other).status_code == 409
    assert a1(ric, "PUT", "policytypes/5", json=TYPE).status_code == 422
    for schema in ({"type": "no such"}, {"$ref": "http://127.0.0.1:9/schema.json"}):
        wanted = {"name": "x", "policy_type_id": 5, "create_schema": schema}
        made = a1(ric, "PUT", "policytypes/5", json=wanted)
        used = a1(ric, "PUT", "policytypes/5/policies/a", json={"b": 1})
        assert 422 in (made.status_code, used.status_code), schema
        a1(ric, "DELETE", "policytypes/5")
    assert a1(ric, "GET", "policytypes/5/policies").status_code == 404
    assert a1(ric, "GET", policy("none")).status_code == 404


def test_xapps_change_no_policies_and_speak_for_themselves_only(
    typed: RunningRic, tmp_path: Path
) -> None:
    source = """
import urllib.error
def code(method, path, body):
    request = urllib.request.Request(
        os.environ["HOLON_URL"] + path, method=method, data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["HOLON_TOKEN"],
                 "Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
a1, said = "/A1-P/v2/policytypes/20100", {
    "policy_type_id": 20100, "policy_instance_id": "evening", "status": "OK", "revision": 1}
print("codes", code("PUT", a1 + "/policies/x", {"headroom_ratio": 1}), code("DELETE", a1, {}),
      code("POST", "/api/v1/policy-replies", {**said, "handler_id": "handler"}),
      code("POST", "/api/v1/policy-replies", {**said, "handler_id": name}), flush=True)
"""
    folder = write_xapp(tmp_path / "sly", source + LISTENING)
    assert typed.call("POST", "xapps", json={"descriptor_dir": str(folder)}).status_code == 201
    assert "codes 403 403 403 200" in typed.get("xapps/sly/logs")["lines"]


def test_a_restarted_ric_goes_on_with_policies_and_asks_again(
    ric: RunningRic, tmp_path: Path
) -> None:
    run = ric.run
    ric.stop()
    kept = {"type": TYPE_ID, "id": "evening", "payload": {"headroom_ratio": 0.4}, "revision": 3}
    content = {"revision": 3, "types": [{**TYPE, "description": ""}], "policies": [kept]}
    run.policies.write_text(json.dumps(content))
    with running_ric(run, ric.inventory) as again:
        assert a1(again, "GET", policy()).json() == {"headroom_ratio": 0.4}
        assert status(again)[0] == "NOT_ENFORCED"
        folder = str(handler(tmp_path / "handler", [TYPE_ID]))
        assert again.call("POST", "xapps", json={"descriptor_dir": folder}).status_code == 201
        wait_until(lambda: status(again)[0] == "ENFORCED", 5)
        a1(again, "PUT", policy("night"), json={"headroom_ratio": 0.1})
        assert json.loads(run.policies.read_bytes())["revision"] == 4
    run.policies.unlink()

"""A1 policies of slice-planner: what an operator wants holds while it stands, no longer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from guidance import POLICY_TYPE_ID, Guidance
from holon_xapp import PolicyEvent
from planner import Policy

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).resolve().parents[2] / "xapps" / "slice_planner"
SETTINGS = {"margin_ratio": 0.1, "floor_kbps": 50.0}


class Answers(list[tuple[str, str, str]]):
    """What the xApp said, in order: (policy, status, reason)."""

    def answer(self, policy: PolicyEvent, status: str = "OK", reason: str = "") -> None:
        self.append((policy.policy_instance_id, status, reason))


def event(operation: str, name: str, **payload: Any) -> PolicyEvent:
    return PolicyEvent(operation, POLICY_TYPE_ID, name, 1, payload)


def played(*events: PolicyEvent) -> tuple[list[Policy], Answers]:
    adopted: list[Policy] = []
    answers = Answers()
    guidance = Guidance(SETTINGS, adopted.append)
    for one in events:
        guidance.on_policy(answers, one)
    return adopted, answers


def test_a_policy_goes_over_the_settings_and_they_come_back_with_its_end() -> None:
    adopted, answers = played(
        event("CREATE", "evening", margin_ratio=0.4),
        event("UPDATE", "evening", real_time_margin_ratio=0.5),
        event("DELETE", "evening"),
    )
    first, second, last = adopted
    assert (first.margin_ratio, first.floor_kbps) == (0.4, 50.0)
    assert (second.margin_ratio, second.real_time_margin_ratio) == (0.1, 0.5)
    assert last == Policy.from_config(SETTINGS)
    assert [status for _, status, _ in answers] == ["OK", "OK", "DELETED"]


def test_one_stands_at_a_time_and_what_does_not_fit_changes_nothing() -> None:
    adopted, answers = played(
        event("CREATE", "evening", margin_ratio=0.4),
        event("CREATE", "night", margin_ratio=0.0),
        event("DELETE", "night"),
        event("UPDATE", "evening", margin_ratio=-1),
    )
    assert [policy.margin_ratio for policy in adopted] == [0.4]
    assert [status for _, status, _ in answers] == ["OK", "ERROR", "DELETED", "ERROR"]
    assert "evening" in answers[1][2] and "margin_ratio" in answers[3][2]


def test_its_type_names_only_what_the_planner_knows_and_its_descriptor_names_the_type() -> None:
    document = json.loads((FOLDER / "policy-type.json").read_text())
    schema = document["create_schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert document["policy_type_id"] == POLICY_TYPE_ID
    assert Policy.from_config(dict.fromkeys(schema["properties"], 1))
    descriptor = json.loads((FOLDER / "config-file.json").read_text())
    assert descriptor["messaging"]["ports"][0]["policies"] == [POLICY_TYPE_ID]

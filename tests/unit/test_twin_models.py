"""Twin models: the documents, how overrides resolve, and what an agent makes of its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from controller.contracts.addressing import COLLECTOR_IP, COLLECTOR_UDP_PORT
from controller.contracts.twin_models import (
    FOLDER,
    SCHEMA,
    Changes,
    Override,
    Subject,
    TwinModelError,
    TwinSettings,
    Upload,
    agent_settings,
    combined,
    json_schema,
    load_models,
    resolve,
)
from controller.twins.level_one import UNITS as LEVEL_ONE_UNITS
from controller.twins.twin import UNITS as LEVEL_TWO_UNITS
from topologies.agent_orders import BadOrder, first_settings, fitted, parse_order, rounded

MODELS = load_models()
VEHICLE = Subject(ue_id="ue1", type="vehicle", s_nssais=("1-000001",), edge="edge1")
COLLECTOR = (COLLECTOR_IP, COLLECTOR_UDP_PORT)


def settings(*overrides: Override, subject: Subject = VEHICLE) -> TwinSettings:
    return resolve(MODELS[subject.type], subject, overrides, 500, 600)


def override(changes: dict[str, Any], **scope: str) -> Override:
    return Override.model_validate({**scope, "changes": changes})


# -- documents ------------------------------------------------------------------------


def test_every_type_has_a_document_that_the_schema_accepts() -> None:
    assert set(MODELS) == {"vehicle", "phone", "sensor", "robot", "uav-access-point", "slice"}
    schema = json.loads(SCHEMA.read_text())
    assert schema == json_schema()
    for path in FOLDER.glob("*.yaml"):
        Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))


def test_units_are_those_of_the_twins() -> None:
    for model in MODELS.values():
        units = LEVEL_ONE_UNITS if model.level == 1 else LEVEL_TWO_UNITS
        for name, attribute in model.attributes.items():
            assert units[name.rpartition(".")[2]] == attribute.unit, name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type: tank\nlevel: 1\ndescription: d\nattributes: {}\nsurprise: 1\n", "surprise"),
        ("type: other\nlevel: 1\ndescription: d\nattributes: {}\n", "file's name is its type"),
        ("type: tank\nlevel: 1\ndescription: d\nupload: shout\nattributes: {}\n", "upload"),
        ("{", "not YAML"),
    ],
)
def test_a_bad_document_is_one_line_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tank.yaml").write_text(text)
    with pytest.raises(TwinModelError, match=words) as raised:
        load_models(tmp_path)
    assert "tank.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


# -- overrides ------------------------------------------------------------------------


def test_the_particular_goes_over_the_general_whatever_came_first() -> None:
    by_user = override({"period_ms": 100}, ue_id="ue1")
    by_type = override({"period_ms": 200, "history_length": 7}, type="vehicle")
    by_slice = override({"period_ms": 300}, s_nssai="1-000001")
    by_edge = override({"period_ms": 400}, edge="edge1")
    everything = (by_user, by_edge, by_slice, by_type)
    assert settings(*everything).period_ms == 100
    assert settings(*everything).history_length == 7
    assert settings(*everything[1:]).period_ms == 400
    assert settings(*everything[2:]).period_ms == 300
    assert settings(*everything[3:]).period_ms == 200
    assert settings().period_ms == 500
    other = VEHICLE.model_copy(update={"ue_id": "ue2", "type": "phone"})
    assert settings(by_user, by_type, subject=other).period_ms == 500


def test_saying_more_of_a_scope_keeps_what_was_said() -> None:
    first = combined([], override({"precision": {"user.speed_mps": 1}}, type="vehicle"))
    both = combined(
        first, override({"precision": {"user.location_m": 5}, "period_ms": 50}, type="vehicle")
    )
    (kept,) = both
    assert kept.changes == Changes(
        period_ms=50, precision={"user.speed_mps": 1, "user.location_m": 5}
    )


def test_a_reset_forgets_the_scope_and_only_it() -> None:
    said = combined([], override({"period_ms": 50}, type="vehicle"))
    said = combined(said, override({"period_ms": 70}, ue_id="ue1"))
    said = combined(said, override({"reset": True, "history_length": 3}, type="vehicle"))
    assert settings(*said).period_ms == 70
    assert settings(*said).history_length == 3
    left = combined(said, override({"reset": True}, ue_id="ue1"))
    assert [o.scope for o in left] == ["type:vehicle"]
    assert settings(*left).period_ms == 500


def test_anybodys_word_goes_over_the_testbeds_own() -> None:
    automatic = override({"period_ms": 4000, "history_length": 9}, ue_id="ue1", layer="twin-budget")
    for scope in ({"type": "vehicle"}, {"ue_id": "ue1"}):
        said = (override({"period_ms": 300}, **scope), automatic)
        assert settings(*said).period_ms == 300
        assert settings(*said).history_length == 9
    assert settings(automatic).period_ms == 4000


@pytest.mark.parametrize(
    "document",
    [
        {"changes": {"period_ms": 100}},
        {"type": "phone", "ue_id": "ue1", "changes": {"period_ms": 100}},
        {"type": "phone", "changes": {}},
        {"type": "phone", "changes": {"period_ms": 1}},
        {"type": "phone", "changes": {"precision": {"user.speed_mps": float("nan")}}},
        {"type": "phone", "changes": {"surprise": 1}},
    ],
)
def test_an_override_that_cannot_be_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Override.model_validate(document)


def test_a_batch_must_not_be_stale_when_it_arrives() -> None:
    with pytest.raises(TwinModelError, match="at most 4000 ms"):
        settings(override({"upload": "batch", "batch_reports": 9}, type="vehicle"))
    fits = settings(override({"upload": "batch", "batch_reports": 8}, type="vehicle"))
    assert fits.upload_period_ms == 4000


def test_the_version_is_of_the_content() -> None:
    coarse = override({"precision": {"user.location_m": 5}}, type="vehicle")
    hidden = override({"readers": {"user.location_m": "operator"}}, type="vehicle")
    assert agent_settings(settings()).version == agent_settings(settings()).version != 0
    assert agent_settings(settings(coarse)).version != agent_settings(settings()).version
    # Who may read is no matter of the agent's.
    assert agent_settings(settings(hidden)).version == agent_settings(settings()).version


# -- agents ---------------------------------------------------------------------------

REPORT = {
    "window": 7,
    "rsrp_dbm": {"ap1": -80.26},
    "position_m": [1.234, 5.678],
    "speed_mps": 3.21,
    "flows": [{"service": "s", "demand_kbps": 1234.5, "owd_p95_ms": None, "up": False}],
}


def test_a_report_is_rounded_and_leaves_out_what_is_not_due() -> None:
    changes = {
        "precision": {"user.location_m": 0.5, "services.demand_kbps": 100},
        "attribute_period_ms": {"connectivity.rsrp_dbm": 4000},
    }
    agent = agent_settings(settings(override(changes, type="vehicle")))
    made = fitted(REPORT, agent, in_full=False)
    assert made["rsrp_dbm"] == {}  # window 7 is no multiple of 8
    assert made["position_m"] == [1.0, 5.5]
    assert made["flows"][0] == {
        "service": "s", "demand_kbps": 1200, "owd_p95_ms": None, "up": False,
    }  # fmt: skip
    assert made["settings_version"] == agent.version
    assert fitted(REPORT, agent, in_full=True)["rsrp_dbm"] == {"ap1": -80.26}
    assert fitted({**REPORT, "window": 8}, agent, in_full=False)["rsrp_dbm"] == {"ap1": -80.26}


def test_types_differ_on_the_wire() -> None:
    sizes = {}
    for kind in ("vehicle", "sensor"):
        subject = VEHICLE.model_copy(update={"type": kind})
        report = fitted(REPORT, agent_settings(settings(subject=subject)), in_full=False)
        sizes[kind] = len(orjson.dumps(report))
    assert sizes["sensor"] < 0.8 * sizes["vehicle"]


def test_before_any_settings_a_report_is_as_measured() -> None:
    made = fitted(REPORT, first_settings(500), in_full=False)
    assert {k: made[k] for k in REPORT} == REPORT
    assert made["settings_version"] == 0


@pytest.mark.parametrize(
    ("value", "step", "nearest"), [(1.26, 0.5, 1.5), (0.3, 0.1, 0.3), (7, 0, 7)]
)
def test_rounding(value: float, step: float, nearest: float) -> None:
    assert rounded(value, step) == nearest


def test_orders_are_settings_or_a_poll_of_a_local_controller() -> None:
    wanted = agent_settings(settings(override({"upload": "poll"}, ue_id="ue1")))
    order = orjson.dumps({"settings": wanted.model_dump(mode="json")})
    assert parse_order(order, COLLECTOR) == wanted
    assert wanted.upload is Upload.POLL
    assert parse_order(b'{"poll":true}', COLLECTOR) is None
    for payload, source in (
        (order, ("10.0.0.9", COLLECTOR_UDP_PORT)),
        (order, (COLLECTOR_IP, 1)),
        (b"{", COLLECTOR),
        (b"[]", COLLECTOR),
        (b'{"settings":{"version":1}}', COLLECTOR),
        (b" " * 5000, COLLECTOR),
    ):
        with pytest.raises(BadOrder):
            parse_order(payload, source)

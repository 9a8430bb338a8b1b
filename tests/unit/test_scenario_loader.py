"""Every mistake in a scenario file is named with its line, its key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from topologies.scenario.errors import SHOWN_PROBLEMS, ScenarioError
from topologies.scenario.loader import SCENARIOS_FOLDER, load, scenario_names

MINIMAL = (SCENARIOS_FOLDER / "minimal.yaml").read_text(encoding="utf-8")


def problems_of(tmp_path: Path, old: str = "", new: str = "", *overrides: str) -> list[str]:
    """Problems of minimal.yaml with one text replaced, folder stripped."""
    assert old in MINIMAL
    file = tmp_path / "changed.yaml"
    file.write_text(MINIMAL.replace(old, new, 1) if old else MINIMAL, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load(file, overrides)
    return [line.replace(f"{file}:", "") for line in caught.value.problems]


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(MINIMAL.splitlines(), start=1) if text in line)


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_load(name: str) -> None:
    assert load(name).name == name
    assert load(SCENARIOS_FOLDER / f"{name}.yaml") == load(name)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ScenarioError, match=r"did you mean 'minimal'\? known: .*crossroads"):
        load("minimall")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such scenario file"):
        load(tmp_path / "absent.yaml")


EDGE_LINE = line_of("name: edge1")
UNIT_MISTAKES = [
    ("link: {delay: 10}", "servers.edge1.link.delay", "write delay_ms: 10 (milliseconds)"),
    ("link: {delay: 10ms}", "servers.edge1.link.delay", "write delay_ms: 10 (milliseconds)"),
    ("link: {delay: 0.01 s}", "servers.edge1.link.delay", "write delay_ms: 10 (milliseconds)"),
    ("link: {delay_s: 0.01}", "servers.edge1.link.delay_s", "write delay_ms: 10 (milliseconds)"),
    ("link: {rate: 5Mbit}", "servers.edge1.link.rate", "write rate_mbps: 5 (Mbit/s)"),
    ("link: {rate_kbps: 500}", "servers.edge1.link.rate_kbps", "write rate_mbps: 0.5 (Mbit/s)"),
    ("link: {loss: 1%}", "servers.edge1.link.loss", "write loss_ratio: 0.01 (a ratio of 1)"),
    ('link: {delay_ms: "10ms"}', "servers.edge1.link.delay_ms", "write delay_ms: 10"),
]


@pytest.mark.parametrize(("link", "key", "right"), UNIT_MISTAKES)
def test_unit_mistakes_name_the_right_key(tmp_path: Path, link: str, key: str, right: str) -> None:
    (problem,) = problems_of(tmp_path, "attach: ap1", f"attach: ap1, {link}")
    assert problem.startswith(f"{EDGE_LINE}: {key}: ")
    assert problem.endswith(right)


FILE_MISTAKES = [
    ("seed: 1", "sed: 1", "seed: 1", "sed: unknown key; did you mean 'seed'?"),
    ("seed: 1", "seed: -1", "seed: 1", "seed: -1 is wrong"),
    ("default_class: elastic", "default_class: elastik", "default_class: elastic",
     "did you mean 'elastic'? choose one of best_effort, elastic, real_time, control"),
    ("kind: static", "kind: statik", "name: ue1", "users.ue1.mobility.kind: 'statik' is none"),
    ("{kind: static, ", "{", "name: ue1", "users.ue1.mobility: missing `kind`"),
    ("attach: ap1", "attach: ap2", "name: edge1",
     "servers.edge1.attach: unknown switch 'ap2'; did you mean 'ap1'? known: ap1, core"),
    ("slices: [video]", "slices: [vido]", "name: ue1", "unknown slice 'vido'; did you mean"),
    ("users: [ue1]", "users: [ue2]", "    users: [ue1]",
     "user 'ue2' has no session in slice 'video'"),
    ("name: ue2", "name: ue1", "name: ue2", "duplicate name 'ue1'"),
    ("name: ue2", "name: centre", "name: ue2", "taken by the testbed itself"),
    ("sd: \"000002\"", "sd: 000002", 'sd: "000002"', "sd: 2 is wrong"),
    ("low_mbps: 3,", "low_mbps: 30,", "low_mbps: 3,", "30 is above high_mbps 11"),
    ("period_s: 10, ramp_s: 2", "period_s: 10, ramp_s: 4", "low_mbps: 3,",
     "do not fit in period_s 10; at most 3"),
    ("slice: video, min_mbps: 8", "slice: video, min_mbps: 17", "slice: control, min_mbps: 2",
     "reservations of ap1 exceed 18 Mbit/s here"),
    ("service: stream", "service: stream\n    kind: tcp", "    service: stream",
     "needs a service of protocol tcp"),
    ("down_mbps: 20", "down_mbps: .nan", "name: ap1", "nan is no usable number"),
    ("seed: 1\n", "seed: 1\nseed: 2\n", "duration_s: 20", "seed: duplicate key"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "at", "message"), FILE_MISTAKES)
def test_mistakes_name_their_line(
    tmp_path: Path, old: str, new: str, at: str, message: str
) -> None:
    found = problems_of(tmp_path, old, new)
    assert any(p.startswith(f"{line_of(at)}: ") and message in p for p in found), found


def test_all_problems_of_a_file_come_together(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    text = MINIMAL.replace("seed: 1", "sed: 1").replace("attach: ap1", "attach: ap2")
    file.write_text(text.replace("down_mbps: 20", "down_mbps: -20"), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load(file)
    keys = ["sed", "access_points.ap1.down_mbps", "servers.edge1.attach"]
    assert [p.split(": ")[1] for p in caught.value.problems] == keys


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    error = ScenarioError([f"problem {n}" for n in range(SHOWN_PROBLEMS + 3)])
    assert str(error).splitlines()[-1] == "... and 3 more"
    assert len(str(error).splitlines()) == SHOWN_PROBLEMS + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: a scenario is a mapping"),
        ("- a\n- b\n", ":1: a scenario is a mapping"),
        ("name: [1\nseed: 2\n", ":2: not YAML"),
        ("name: &a [*a]\n", "an alias contains itself"),
        ("a: \x00\n", "not YAML"),
        ("a: !!python/object:os.system x\n", "not YAML"),
    ],
)
def test_what_is_no_scenario_at_all(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=message):
        load(file)


def test_exploding_aliases_are_refused_quickly(tmp_path: Path) -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ScenarioError, match="too many aliases"):
        load(file)


def test_overrides_reach_lists_by_name_and_index() -> None:
    scenario = load(
        "crossroads",
        [
            "background.rate_ratio=1.2",
            "access_points.sbs1.down_mbps=30",
            "slices.embb.sla.guaranteed_mbps=3",
            "users.0.mobility.waypoints_m.1.0=-30",
            "handover.hysteresis_db=2",
            "slicing=false",
        ],
    )
    assert scenario.background and scenario.background.rate_ratio == 1.2
    assert scenario.access_points[1].down_mbps == 30
    assert scenario.slices[0].sla.guaranteed_mbps == 3
    assert scenario.handover.hysteresis_db == 2
    assert not scenario.slicing
    assert scenario.users[0].mobility.waypoints_m[1] == (-30, -10)  # type: ignore[union-attr]
    assert scenario.users[1].mobility.waypoints_m[1] == (-20, -10)  # type: ignore[union-attr]


OVERRIDE_MISTAKES = [
    ("slicing", "write key=value"),
    (".seed=1", "write key=value"),
    ("seed=[1", "the value is not YAML"),
    ("seed.x=1", "seed is a single value"),
    ("access_points.ap2.down_mbps=1", "no element 'ap2'; did you mean 'ap1'? known: ap1"),
    ("users.7.type=phone", "users has no element 7; its indices are 0-1"),
    ("bacground.rate_ratio=1", "bacground: unknown key; did you mean 'background'?"),
    ("access_points.ap1.down_mbps=5Mbit", "write down_mbps: 5"),
    ("access_points.ap1.down_mbps=.inf", "inf is no usable number"),
    ("servers.edge1.link.delay=4ms", "write delay_ms: 4 (milliseconds)"),
    ("services.stream.slice=vido", "unknown slice 'vido'"),
]


@pytest.mark.parametrize(("override", "message"), OVERRIDE_MISTAKES)
def test_override_mistakes_name_the_override(tmp_path: Path, override: str, message: str) -> None:
    found = problems_of(tmp_path, "", "", override)
    assert any(p.startswith(f"--set {override}: ") and message in p for p in found), found

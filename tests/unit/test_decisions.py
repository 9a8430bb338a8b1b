"""The pipeline of decisions on an in-memory enforcement: verdicts, order, idempotence, traces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from controller.audit import AppendOnlyLog, Audit
from controller.contracts.decisions import Action, DecisionRequest, Effect, Verdict
from controller.contracts.run_folder import RunFolder
from controller.contracts.twin_messages import CellAggregate
from controller.guard import GuardLimits
from controller.ric.attempts import Applied, Clock, Decided
from controller.ric.decision_log import DecisionLog
from controller.ric.decisions import Pipeline
from controller.ric.errors import Conflict, Malformed, NotFound
from controller.ric.slices import SliceLife
from controller.ric.traces import TraceBook
from controller.ric.user_decisions import UserDecisions
from tests.in_memory_enforcer import InMemoryEnforcer
from tests.ric_inventory import CONTROL, VIDEO, ric_inventory

START_NS = 1_700_000_000_000_000_000


@dataclass
class HandClock:
    """Both clocks, moved by the test."""

    at_s: float = 100.0

    def clock(self) -> Clock:
        return Clock(lambda: START_NS + int(self.at_s * 1e9), lambda: self.at_s)

    @property
    def now_ns(self) -> int:
        return START_NS + int(self.at_s * 1e9)


@dataclass
class Bench:
    pipeline: Pipeline
    enforcer: InMemoryEnforcer
    log: DecisionLog
    traces: TraceBook
    hand: HandClock
    folder: Path
    applied: list[Applied] = field(default_factory=list)

    async def decide(self, **fields: Any) -> Decided:
        return await self.pipeline.decide(request(**fields))

    def min_kbps(self, cell_id: str = "ap1") -> dict[int, int]:
        return {r.slice_id: r.min_kbps for r in self.enforcer.reservations(cell_id)}

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def request(**fields: Any) -> DecisionRequest:
    base: dict[str, Any] = {
        "trace_id": "t1",
        "xapp": "planner",
        "action": "reserve",
        "target": {"cell_id": "ap1", "s_nssai": VIDEO},
        "parameters": {"min_kbps": 10_000, "max_kbps": 20_000},
    }
    return DecisionRequest.model_validate({**base, **fields})


def plan(*rates: tuple[dict[str, Any], float]) -> dict[str, Any]:
    reservations = [{"s_nssai": s, "min_kbps": r, "max_kbps": 20_000} for s, r in rates]
    return {"target": {"cell_id": "ap1"}, "parameters": {"reservations": reservations}}


def handover(ue_id: str = "ue1", cell_id: str = "ap2", **fields: Any) -> dict[str, Any]:
    return {
        "action": "handover",
        "target": {"ue_id": ue_id},
        "parameters": {"cell_id": cell_id},
        **fields,
    }


def on_bench(tmp_path: Path, scene: Callable[[Bench], Awaitable[None]], **limits: float) -> None:
    """Runs `scene` with slices installed; `limits` replace the guard's."""

    async def play() -> None:
        inventory = ric_inventory()
        enforcer = InMemoryEnforcer(inventory)
        await enforcer.install()
        hand, traces = HandClock(), TraceBook()
        applied: list[Applied] = []
        log = DecisionLog(AppendOnlyLog(tmp_path / "decisions.jsonl"))
        audit = Audit(AppendOnlyLog(tmp_path / "audit.jsonl"))
        pipeline = Pipeline(
            inventory,
            enforcer,
            log,
            audit,
            traces,
            applied.append,
            replace(GuardLimits(), **limits),  # type: ignore[arg-type]
            hand.clock(),
            slices=SliceLife(RunFolder(tmp_path), enforcer, audit, lambda: None),
            users=UserDecisions(RunFolder(tmp_path), inventory, enforcer),
        )
        await scene(Bench(pipeline, enforcer, log, traces, hand, tmp_path, applied))

    asyncio.run(play())


def test_a_reservation_is_applied_confirmed_and_timed(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        record = (await bench.decide(hops_ns={"inferred": bench.hand.now_ns - 5_000_000})).record
        assert record.verdict is Verdict.APPLIED
        assert [c.switch for c in record.confirmations] == ["ap1"]
        assert bench.min_kbps() == {1: 10_000, 2: 2000}
        assert record.diff == {"queues": ["1/elastic"]}
        hops = record.hops_ns
        assert hops["inferred"] < hops["received"] <= hops["guarded"]
        assert {"enforced", "confirmed"} <= hops.keys()
        assert record.effect is Effect.PENDING
        assert bench.applied[0].before is not None
        before = bench.applied[0].before.reservations
        assert {r.min_kbps for r in before.values()} == {8000, 2000}

    on_bench(tmp_path, scene)


def test_a_plan_is_all_or_nothing(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        decided = await bench.decide(**plan((VIDEO, 15_000), (CONTROL, 4000)))
        assert decided.rule == "admission"
        assert decided.record.verdict is Verdict.REJECTED
        assert bench.min_kbps() == {1: 8000, 2: 2000}
        assert bench.enforcer.calls == []
        decided = await bench.decide(**plan((VIDEO, 14_000), (CONTROL, 4000)))
        assert decided.record.verdict is Verdict.APPLIED
        assert bench.min_kbps() == {1: 14_000, 2: 4000}

    on_bench(tmp_path, scene)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"parameters": {"min_kbps": 1, "max_kbps": 1e9}}, "bounds"),
        ({"parameters": {"min_kbps": 5000, "max_kbps": 1000}}, "bounds"),
        ({"parameters": {"min_kbps": 19_000, "max_kbps": 20_000}}, "slew"),
        ({"hops_ns": {"twin_completed": START_NS + 98 * 10**9}}, "stale"),
        (handover(cell_id="ap1"), "no_change"),
    ],
)
def test_each_rule_rejects_with_a_record_and_changes_nothing(
    tmp_path: Path, fields: dict[str, Any], rule: str
) -> None:
    async def scene(bench: Bench) -> None:
        decided = await bench.decide(**fields)
        assert decided.rule == rule
        assert decided.record.verdict is Verdict.REJECTED
        assert decided.record.reason
        assert bench.enforcer.calls == []
        assert bench.lines("decisions.jsonl")[0]["verdict"] == "rejected"
        assert bench.lines("audit.jsonl")[0]["rule"] == rule
        assert bench.log.counts()["by_rule"] == {rule: 1}

    on_bench(tmp_path, scene)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"target": {"cell_id": "ap9", "s_nssai": VIDEO}}, NotFound),
        ({"target": {"cell_id": "ap1", "s_nssai": {"sst": 9, "sd": "000009"}}}, NotFound),
        (
            {"parameters": {"min_kbps": 1, "max_kbps": 99, "traffic_class": "real_time"}},
            NotFound,
        ),
        (handover("ue9"), NotFound),
        (handover(cell_id="ap9"), NotFound),
        ({"target": {}}, Malformed),
        ({"target": {"cell_id": 5, "s_nssai": VIDEO}}, Malformed),
        ({"target": {"cell_id": "ap1"}}, Malformed),
        ({"target": {"cell_id": "ap1"}, "parameters": {"reservations": []}}, Malformed),
        ({"target": {"cell_id": "ap1", "s_nssai": {"sst": 1, "sd": "xyz"}}}, Malformed),
        ({"parameters": {"min_kbps": "10000", "max_kbps": 20_000}}, Malformed),
        ({"parameters": {"min_kbps": float("nan"), "max_kbps": 20_000}}, Malformed),
        ({"parameters": {"min_kbps": 1, "max_kbps": float("inf")}}, Malformed),
        ({"parameters": {"min_kbps": -1, "max_kbps": 20_000}}, Malformed),
        ({"parameters": {"min_kbps": True, "max_kbps": 20_000}}, Malformed),
        ({"parameters": {"min_kbps": 10**400, "max_kbps": 20_000}}, Malformed),
        ({"parameters": {"min_kbps": 1, "max_kbps": 9, "mim_kbps": 1}}, Malformed),
        ({"parameters": {}}, Malformed),
        ({"target": {"cell_id": "\ud800", "s_nssai": VIDEO}}, Malformed),
        ({"based_on": ["x"] * 65}, Malformed),
        ({"hops_ns": {"h" * 200: 1}}, Malformed),
    ],
)
def test_what_means_nothing_here_is_refused_without_a_record(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception]
) -> None:
    async def scene(bench: Bench) -> None:
        with pytest.raises(error):
            await bench.decide(**fields)
        assert bench.enforcer.calls == []
        assert bench.log.newest(10) == []

    on_bench(tmp_path, scene)


def test_the_same_id_is_carried_out_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        first = await bench.decide(decision_id="d1")
        again = await bench.decide(decision_id="d1", trace_id="t2")
        assert again.record == first.record
        assert len(bench.enforcer.calls) == 1
        with pytest.raises(Conflict, match="another content"):
            await bench.decide(decision_id="d1", parameters={"min_kbps": 1, "max_kbps": 20_000})

    on_bench(tmp_path, scene)


def test_the_same_id_meanwhile_gets_the_answer_of_the_first(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        bench.enforcer.gate.clear()
        both = [asyncio.ensure_future(bench.decide(decision_id="d1")) for _ in range(2)]
        await until(lambda: bench.enforcer.calls)
        bench.enforcer.gate.set()
        first, second = await asyncio.gather(*both)
        assert first.record == second.record
        assert len(bench.enforcer.calls) == 1

    on_bench(tmp_path, scene)


def test_a_caller_that_hangs_up_leaves_no_half_made_change(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        bench.enforcer.gate.clear()
        caller = asyncio.ensure_future(bench.decide(decision_id="d1"))
        await until(lambda: bench.enforcer.calls)
        caller.cancel()
        bench.enforcer.gate.set()
        await until(lambda: bench.log.get("d1"))
        record = bench.log.get("d1")
        assert record is not None
        assert record.verdict is Verdict.APPLIED
        assert bench.min_kbps()[1] == 10_000

    on_bench(tmp_path, scene)


def test_dry_run_shows_the_diff_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        record = (await bench.decide(dry_run=True, decision_id="d1")).record
        assert record.diff == {"queues": ["1/elastic"]}
        assert "dry run" in record.reason
        assert bench.min_kbps() == {1: 8000, 2: 2000}
        assert bench.log.get("d1") is None
        rejected = await bench.decide(
            dry_run=True, parameters={"min_kbps": 19_000, "max_kbps": 20_000}
        )
        assert rejected.rule == "slew"
        assert (await bench.decide(decision_id="d1")).record.verdict is Verdict.APPLIED

    on_bench(tmp_path, scene)


def test_a_waiting_decision_gives_way_to_a_newer_one_for_its_target(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        bench.enforcer.gate.clear()
        rates = (9000, 9500, 10_000)
        waiting = []
        for rate in rates:
            parameters = {"min_kbps": rate, "max_kbps": 20_000}
            waiting.append(asyncio.ensure_future(bench.decide(parameters=parameters)))
            await asyncio.sleep(0)
            await until(lambda: bench.enforcer.calls)
        bench.enforcer.gate.set()
        verdicts = [decided.record.verdict for decided in await asyncio.gather(*waiting)]
        assert verdicts == [Verdict.APPLIED, Verdict.SUPERSEDED, Verdict.APPLIED]
        assert bench.min_kbps()[1] == 10_000

    on_bench(tmp_path, scene)


def test_older_twin_data_do_not_undo_newer(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        newer, older = bench.hand.now_ns - 10_000_000, bench.hand.now_ns - 20_000_000
        await bench.decide(hops_ns={"twin_completed": newer})
        late = await bench.decide(
            hops_ns={"twin_completed": older}, parameters={"min_kbps": 0, "max_kbps": 20_000}
        )
        assert late.record.verdict is Verdict.SUPERSEDED
        assert bench.min_kbps()[1] == 10_000

    on_bench(tmp_path, scene)


def test_an_xapp_over_its_rate_may_try_the_same_id_again(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        fields = {**plan((VIDEO, 8000)), "target": {"cell_id": "ap2"}}
        for _ in range(2):
            assert not (await bench.decide(**fields)).rule
        refused = await bench.decide(**fields, decision_id="d9")
        assert refused.rule == "xapp_rate"
        assert not (await bench.decide(**fields, xapp="other")).rule
        bench.hand.at_s += 1.0
        assert (await bench.decide(**fields, decision_id="d9")).record.verdict is Verdict.APPLIED
        assert bench.log.counts()["rejected"] == 1

    on_bench(tmp_path, scene, xapp_rate_per_s=1.0, xapp_burst=2.0, cell_burst=100.0)


def test_a_cell_is_changed_only_so_often_whoever_asks(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        rules = [
            (await bench.decide(xapp=f"x{i}", parameters=kbps(8000 + i))).rule for i in range(4)
        ]
        assert rules == ["", "", "", "cell_rate"]
        other = await bench.decide(target={"cell_id": "ap2", "s_nssai": VIDEO})
        assert other.record.verdict is Verdict.APPLIED
        bench.hand.at_s += 0.5
        assert not (await bench.decide(xapp="x9", parameters=kbps(9000))).rule

    on_bench(tmp_path, scene)


def kbps(min_kbps: float) -> dict[str, float]:
    return {"min_kbps": min_kbps, "max_kbps": 20_000}


def test_local_controllers_may_hand_over_in_bursts(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        for index in range(20):
            bench.hand.at_s += 0.02
            fields = handover("ue1", ("ap2", "ap1")[index % 2], xapp="a3-handover")
            decided = await bench.pipeline.decide(request(**fields), trusted=True)
            assert decided.rule != "xapp_rate"

    on_bench(tmp_path, scene)


def test_handover_moves_the_user_and_not_back_at_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        assert (await bench.decide(**handover())).record.verdict is Verdict.APPLIED
        assert bench.enforcer.attachments()["ue1"] == "ap2"
        assert bench.applied[0].before is None
        assert (await bench.decide(**handover(cell_id="ap1"))).rule == "rate"
        bench.hand.at_s += 0.6
        assert not (await bench.decide(**handover(cell_id="ap1"))).rule

    on_bench(tmp_path, scene)


@pytest.mark.parametrize("how", ["failure", "unconfirmed"])
def test_what_the_switches_did_not_confirm_is_not_applied(tmp_path: Path, how: str) -> None:
    async def scene(bench: Bench) -> None:
        if how == "failure":
            bench.enforcer.failure = RuntimeError("ap1 is gone")
        else:
            bench.enforcer.unconfirmed = "ap1"
        decided = await bench.decide()
        assert decided.record.verdict is Verdict.REJECTED
        assert "ap1" in decided.record.reason
        assert bench.applied == []
        assert bench.min_kbps()[1] == 8000
        bench.enforcer.failure = bench.enforcer.unconfirmed = None
        assert (await bench.decide()).record.verdict is Verdict.APPLIED

    on_bench(tmp_path, scene)


def test_loop_latency_is_the_rics_own_knowledge_of_the_trace(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        completed_ns = bench.hand.now_ns - 20_000_000
        aggregate = CellAggregate(
            trace_id="t1",
            edge="edge1",
            cell_id="ap1",
            window=1,
            period_ms=500,
            completed_at_ns=completed_ns,
            sent_at_ns=completed_ns + 1,
            users_reported=1,
            users_expected=1,
            slices=[],
        )
        bench.traces.note(aggregate, completed_ns + 2)
        claimed = {"twin_completed": bench.hand.now_ns - 1, "inferred": bench.hand.now_ns + 10**12}
        record = (await bench.decide(hops_ns=claimed)).record
        assert record.hops_ns["twin_completed"] == completed_ns
        assert "inferred" not in record.hops_ns, "a hop in the future is no hop"
        elapsed_ms = (record.hops_ns["confirmed"] - completed_ns) / 1e6
        assert record.loop_latency_ms == pytest.approx(elapsed_ms - 2.0), "the link's 2 ms"

    on_bench(tmp_path, scene)


def test_latency_of_what_never_crossed_the_centres_link_is_whole(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        started_ns = bench.hand.now_ns - 3_000_000
        fields = handover(hops_ns={"twin_completed": started_ns})
        record = (await bench.decide(**fields)).record
        elapsed_ms = (record.hops_ns["confirmed"] - started_ns) / 1e6
        assert record.loop_latency_ms == pytest.approx(elapsed_ms)
        assert (await bench.decide(xapp="blind")).record.loop_latency_ms is None

    on_bench(tmp_path, scene)


def test_an_applied_decisions_line_is_written_once_it_is_judged(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        record = (await bench.decide(decision_id="d1")).record
        assert bench.lines("decisions.jsonl") == []
        bench.log.judge(record.decision_id, Effect.VERIFIED, {"why": "seen"})
        line = bench.lines("decisions.jsonl")[0]
        assert (line["effect"], line["effect_detail"]) == ("verified", {"why": "seen"})
        await bench.decide(decision_id="d2", action=Action.RESERVE, parameters=kbps(9000))
        bench.log.write_pending()
        assert [ln["effect"] for ln in bench.lines("decisions.jsonl")] == ["verified", "pending"]
        counts = bench.log.counts()
        assert (counts["applied"], counts["verified"], counts["pending"]) == (2, 1, 1)
        names = [path.name for path in bench.log.flush(tmp_path / "out")]
        assert names == ["decisions.parquet", "decisions.csv"]

    on_bench(tmp_path, scene)


def test_a_full_disk_does_not_stop_control(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    (tmp_path / "decisions.jsonl").symlink_to("/dev/full")

    async def scene(bench: Bench) -> None:
        assert (await bench.decide()).record.verdict is Verdict.APPLIED
        assert (await bench.decide(parameters=kbps(19_999))).rule == "admission"

    on_bench(tmp_path, scene)
    lines = AppendOnlyLog(tmp_path / "audit.jsonl")
    assert not lines.append({"a": 1})
    assert lines.lost_lines == 1
    assert lines.alarm == "audit.jsonl: No space left on device"


def test_a_log_recovers_when_the_disk_does(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.mkdir()
    lines = AppendOnlyLog(path)
    assert not lines.append({"n": 1})
    path.rmdir()
    assert lines.append({"n": 2})
    assert lines.alarm is None
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"n": 2}]


async def until(condition: Callable[[], object]) -> None:
    """Lets other tasks run until `condition()`; fails after many turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{condition} never became true")


GAMING = {"sst": 1, "sd": "0000aa"}


def admit(guaranteed_mbps: float = 1, **fields: Any) -> dict[str, Any]:
    return {
        "action": "admit",
        "target": {"s_nssai": GAMING},
        "parameters": {"name": "gaming", "sla": {"guaranteed_mbps": guaranteed_mbps}},
        **fields,
    }


def test_a_slice_is_admitted_and_covered_by_decisions(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        rehearsed = (await bench.decide(**admit(dry_run=True))).record
        assert rehearsed.verdict is Verdict.APPLIED and bench.enforcer.calls == []
        record = (await bench.decide(**admit())).record
        assert record.verdict is Verdict.APPLIED, record.reason
        assert bench.min_kbps() == {1: 8000, 2: 2000, 3: 1000}
        target = {"s_nssai": GAMING, "cell_id": "ap1"}
        off = {"action": "cover", "target": target, "parameters": {"covered": False}}
        assert (await bench.decide(**off)).record.verdict is Verdict.APPLIED
        assert bench.min_kbps() == {1: 8000, 2: 2000}
        again = await bench.decide(**off)
        assert again.rule == "admission"
        assert "does not cover ap1" in again.record.reason

    on_bench(tmp_path, scene)


def test_a_slice_is_admitted_though_nobody_can_remember_it(tmp_path: Path) -> None:
    kept = RunFolder(tmp_path).live_slices
    kept.with_suffix(".new").symlink_to("/dev/full")

    async def scene(bench: Bench) -> None:
        assert (await bench.decide(**admit())).record.verdict is Verdict.APPLIED
        assert bench.min_kbps() == {1: 8000, 2: 2000, 3: 1000}
        alarm = bench.pipeline._slices.alarm
        assert alarm is not None and alarm.startswith(f"{kept.name}: No space left")

    on_bench(tmp_path, scene)


def test_admission_refuses_with_the_numbers_and_changes_nothing(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        decided = await bench.decide(**admit(guaranteed_mbps=9))
        assert decided.rule == "admission"
        assert "ap1: asked 9.0 Mbit/s, 8.0 left of 18.0 reservable" in decided.record.reason
        assert bench.enforcer.calls == [] and 3 not in bench.enforcer.state.slices

    on_bench(tmp_path, scene)

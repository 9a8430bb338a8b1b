"""The memory of decisions: records by id, counts, and the table on disk.

Records live in memory up to `RECORDS_KEPT`; each is appended to
`decisions.jsonl` once it is final: rejected, or its effect judged.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from controller.audit import AppendOnlyLog
from controller.contracts.decisions import DecisionRecord, Effect, Verdict
from controller.twins.history import write_table

RECORDS_KEPT = 20_000
HOPS = (
    "twin_completed",
    "aggregate_sent",
    "aggregate_received",
    "inferred",
    "received",
    "guarded",
    "enforced",
    "confirmed",
)
TABLE_COLUMNS = {
    "decision_id": "string",
    "trace_id": "string",
    "xapp": "string",
    "action": "string",
    "target": "string",
    "parameters": "string",
    "verdict": "string",
    "reason": "string",
    "effect": "string",
    "effect_detail": "string",
    "confirmations": "string",
    "loop_latency_ms": "double",
    **{f"{hop}_ns": "int64" for hop in HOPS},
}
"""Nested values are JSON text, so that the CSV has the same columns."""


def is_final(record: DecisionRecord) -> bool:
    return record.verdict is not Verdict.APPLIED or record.effect is not Effect.PENDING


def table_row(record: DecisionRecord) -> dict[str, Any]:
    document = record.model_dump(mode="json")
    row: dict[str, Any] = {}
    for column in TABLE_COLUMNS:
        if column.endswith("_ns"):
            row[column] = record.hops_ns.get(column.removesuffix("_ns"))
        else:
            value = document[column]
            row[column] = orjson.dumps(value).decode() if isinstance(value, dict | list) else value
    return row


class DecisionLog:
    """Newest last; counts cover the whole run, also what memory no longer holds."""

    def __init__(self, lines: AppendOnlyLog) -> None:
        self._lines = lines
        self._records: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._forgotten: deque[DecisionRecord] = deque(maxlen=RECORDS_KEPT)
        self.verdicts: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()

    def get(self, decision_id: str) -> DecisionRecord | None:
        return self._records.get(decision_id)

    def newest(self, count: int) -> list[DecisionRecord]:
        """Oldest of them first."""
        return list(self._records.values())[-count:] if count > 0 else []

    def all_records(self) -> list[DecisionRecord]:
        """In the order of arrival; those whose id may be tried again are among them."""
        records = [*self._records.values(), *self._forgotten]
        return sorted(records, key=lambda record: record.hops_ns["received"])

    def add(self, record: DecisionRecord, rule: str, remember: bool = True) -> None:
        """`rule`: the guard's that failed; not to `remember`: its id may be tried again."""
        if remember:
            self._records[record.decision_id] = record
        else:
            self._forgotten.append(record)
        while len(self._records) > RECORDS_KEPT:
            self._records.popitem(last=False)
        self.verdicts[record.verdict.value] += 1
        self.actions[record.action.value] += 1
        if rule:
            self.rules[rule] += 1
        if is_final(record):
            self._lines.append(record.model_dump(mode="json"))

    def judge(self, decision_id: str, effect: Effect, detail: dict[str, Any]) -> DecisionRecord:
        """Fills in the effect of an applied decision and writes its line. `detail` comes to
        what its enforcement measured.

        A record that memory no longer holds raises KeyError: 20,000 decisions
        within one effect window is not a running testbed.
        """
        before = self._records[decision_id]
        record = before.model_copy(
            update={"effect": effect, "effect_detail": {**before.effect_detail, **detail}}
        )
        self._records[decision_id] = record
        self.effects[effect.value] += 1
        self._lines.append(record.model_dump(mode="json"))
        return record

    def add_detail(self, decision_id: str, name: str, detail: dict[str, Any]) -> None:
        """Something learned after the effect was judged; the decision's line is written anew."""
        record = self._records[decision_id]
        more = {**record.effect_detail, name: detail}
        self._records[decision_id] = record.model_copy(update={"effect_detail": more})
        self._lines.append(self._records[decision_id].model_dump(mode="json"))

    def pending(self) -> Iterator[DecisionRecord]:
        return (r for r in self._records.values() if not is_final(r))

    def write_pending(self) -> None:
        """At the end of the run: what could not be judged any more, as `pending`."""
        for record in self.pending():
            self._lines.append(record.model_dump(mode="json"))

    def flush(self, folder: Path) -> list[Path]:
        """Writes decisions.parquet and decisions.csv."""
        rows = [table_row(record) for record in self.all_records()]
        return write_table(rows, TABLE_COLUMNS, folder, "decisions")

    def counts(self) -> dict[str, Any]:
        return {
            **{verdict.value: self.verdicts[verdict.value] for verdict in Verdict},
            "verified": self.effects[Effect.VERIFIED.value],
            "refuted": self.effects[Effect.REFUTED.value],
            "not_exercised": self.effects[Effect.NOT_EXERCISED.value],
            "pending": sum(1 for _ in self.pending()),
            "by_action": dict(self.actions),
            "by_rule": dict(self.rules),
        }

"""Queue rows of OVSDB: what has to be done to a port's tree, and how its rates are read.

Pure: operations as RFC 7047 has them go out, rows come in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.contracts.queue_tree import QueueRates, queue_row
from controller.queues import FIXED_QUEUE_IDS, Queues


@dataclass(frozen=True)
class Tree:
    """A port's QoS row: its uuid; queue id -> uuid of its row, and its other_config."""

    qos: str
    rows: Mapping[int, str]
    configs: Mapping[int, Mapping[str, str]]

    def own(self) -> dict[int, str]:
        return {i: row for i, row in self.rows.items() if i not in FIXED_QUEUE_IDS}


@dataclass(frozen=True)
class Edit:
    """Operations that change a tree, `rows` of them on Queue rows; `inserted`: op -> queue."""

    tree: Tree
    wanted: Mapping[int, dict[str, str]]
    operations: list[dict[str, Any]]
    inserted: Mapping[int, int]
    rows: int

    @property
    def changes_rates_only(self) -> bool:
        """No queue comes and none goes."""
        return self.wanted.keys() == self.tree.own().keys()

    def after(self, results: list[dict[str, Any]]) -> Tree:
        """The tree once the operations were committed with these results."""
        fixed = {i: r for i, r in self.tree.rows.items() if i in FIXED_QUEUE_IDS}
        kept = {i: r for i, r in self.tree.own().items() if i in self.wanted}
        new = {i: results[n]["uuid"][1] for n, i in self.inserted.items()}
        configs = {i: self.tree.configs[i] for i in fixed} | dict(self.wanted)
        return Tree(self.tree.qos, {**fixed, **kept, **new}, configs)


def edit_of(interface: str, tree: Tree, queues: Queues) -> Edit:
    wanted = {i: queue_row(rates) for i, rates in queues.items()}
    own = tree.own()
    operations = [_unless_changed(tree)]
    inserted: dict[int, int] = {}
    rows = 0
    for queue_id, config in wanted.items():
        columns = {"other_config": ["map", [[k, v] for k, v in config.items()]]}
        if queue_id not in own:
            name = f"q_{re.sub('[^a-zA-Z0-9]', '_', interface)}_{queue_id}"
            inserted[len(operations)] = queue_id
            insert = {"op": "insert", "table": "Queue", "row": columns, "uuid-name": name}
            operations += [insert, _link(tree, "insert", queue_id, ["named-uuid", name])]
            rows += 1
        elif tree.configs[queue_id] != config:
            where = _where(own[queue_id])
            operations.append({"op": "update", "table": "Queue", "where": where, "row": columns})
            rows += 1
    for queue_id in own.keys() - wanted.keys():
        operations.append(_link(tree, "delete", queue_id, ["uuid", own[queue_id]]))
        operations.append({"op": "delete", "table": "Queue", "where": _where(own[queue_id])})
        rows += 1
    return Edit(tree, wanted, operations, inserted, rows)


def _unless_changed(tree: Tree) -> dict[str, Any]:
    held = [[i, ["uuid", row]] for i, row in tree.rows.items()]
    return {
        "op": "wait",
        "table": "QoS",
        "timeout": 0,
        "where": _where(tree.qos),
        "columns": ["queues"],
        "until": "==",
        "rows": [{"queues": ["map", held]}],
    }


def select(table: str, columns: list[str], row: str | None = None) -> dict[str, Any]:
    where = [] if row is None else _where(row)
    return {"op": "select", "table": table, "where": where, "columns": columns}


def _where(row: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", row]]]


def _link(tree: Tree, mutator: str, queue_id: int, row: list[str]) -> dict[str, Any]:
    return {
        "op": "mutate",
        "table": "QoS",
        "where": _where(tree.qos),
        "mutations": [["queues", mutator, ["map", [[queue_id, row]]]]],
    }


def rates_of(config: Mapping[str, str]) -> QueueRates:
    return QueueRates(
        int(config.get("min-rate", 0)) // 1000,
        int(config.get("max-rate", 0)) // 1000,
        int(config.get("priority", 0)),
    )

"""A run's recorded twins as the `cell` events they were: for forks and training.

Rows are those of the results' table `twins` (`controller/twins/history.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any


def cell_events(
    rows: Sequence[Mapping[str, Any]],
    link_kbps: Mapping[str, float],
    reservable_ratio: float,
) -> Iterator[dict[str, Any]]:
    """In the order of arrival; the shape of `controller/ric/observation.py`'s `cell_event`."""
    arrived = sorted(rows, key=lambda r: (r["received_at_ns"], r["cell_id"], r["window"]))
    for (_, cell_id, _), group in groupby(
        arrived, key=lambda r: (r["received_at_ns"], r["cell_id"], r["window"])
    ):
        own = list(group)
        first = own[0]
        yield {
            "kind": "cell",
            "id": cell_id,
            **{
                name: first[name]
                for name in (
                    "trace_id",
                    "window",
                    "period_ms",
                    "completed_at_ns",
                    "sent_at_ns",
                    "received_at_ns",
                    "users_reported",
                    "users_expected",
                )
            },
            "capacity_kbps": round(link_kbps[cell_id]),
            "reservable_kbps": round(link_kbps[cell_id] * reservable_ratio),
            "slices": [_slice(row, link_kbps) for row in own],
        }


def _slice(row: Mapping[str, Any], link_kbps: Mapping[str, float]) -> dict[str, Any]:
    names = ("users", "demand_kbps", "goodput_kbps", "loss_ratio", "owd_p95_ms", "traffic_class")
    ceiling = row["max_kbps"] if row["max_kbps"] is not None else link_kbps[row["cell_id"]]
    return {
        "slice_id": row["slice_id"],
        "s_nssai": {"sst": row["sst"], "sd": row["sd"]},
        **{name: row[name] for name in names},
        "reservation": {"min_kbps": row["min_kbps"] or 0, "max_kbps": round(ceiling)},
    }

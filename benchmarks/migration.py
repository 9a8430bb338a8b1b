"""When and where services move: the forecasting xApp against always, never and nearest, on packets.

Scenario `border`: two cars commute between two edges, two shuttle at the border.  Paired by
seed, order alternating between seeds.  The primary metric, stated beforehand, is the cost:
mean request latency (a lost request counts its timeout) plus 5 ms for every Mbit/s of
migration traffic on the wire per service.  Asked: the forecast's mean cost is the lowest,
its latency below that of never moving, its downtime and bytes below those of moving always
and to the nearest.

Runs are kept in results/bench/migration; one that the testbed itself calls invalid is made
again and never quoted.

`./testbed.sh bench migration [--seeds N...] [--duration S] [--record-most N]`
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

from benchmarks.runs import RESULTS, run, versions_of, why_not_quotable, write
from topologies.results.percentiles import percentiles

STRATEGIES = ("forecast", "always", "never", "nearest")
MOVERS = ("always", "nearest")
"""They follow where users are; never moving costs no bytes and no downtime."""
COST_MS_PER_MBPS = 5.0
DEADLINE_MS = 10.0
TIMEOUT_MS = 1000.0
"""The scenario's: what a lost request counts."""
COMPARED = ("cost_ms", "latency_mean_ms", "in_deadline_ratio", "bytes_on_wire", "downtime_s")
PRIMARY = f"mean request latency + {COST_MS_PER_MBPS:g} ms per Mbit/s moved for each service"


@dataclass(frozen=True)
class Case:
    """One run: a strategy under a seed."""

    strategy: str
    seed: int
    duration_s: float
    settings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return RESULTS / "migration" / f"{self.strategy}-{self.seed}"

    def why_not(self) -> str | None:
        """None: it may be quoted."""
        if reason := why_not_quotable(self.folder):
            return reason
        asked = self.folder / "asked.json"
        if asked.exists() and json.loads(asked.read_text()) == self.asked():
            return None
        return "recorded with other settings"

    def asked(self) -> dict[str, Any]:
        return {"duration_s": self.duration_s, "settings": list(self.settings)}

    def record(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        arguments = ["--policy", "xapps", "--duration", str(self.duration_s)]
        for setting in (f"xapps.service-migration.config.strategy={self.strategy}", *self.settings):
            arguments += ["--set", setting]
        run("border", self.folder, *arguments, seed=self.seed)
        (self.folder / "asked.json").write_text(json.dumps(self.asked()) + "\n")


def figures(summary: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Of one run; every request of every service counts once."""
    services, moves, duration_s = summary["services"], summary["migrations"], summary["duration_s"]
    latencies = parquet.read_table(out / "requests.parquet")["latency_ms"].to_pylist()
    rows = [q for q in latencies if q is not None]
    asked, lost = len(latencies), len(latencies) - len(rows)
    mean_ms = (sum(rows) + lost * TIMEOUT_MS) / asked
    wire_mbps = 8e-6 * moves["bytes_on_wire"] / duration_s / len(services)
    return {
        "cost_ms": mean_ms + COST_MS_PER_MBPS * wire_mbps,
        "latency_mean_ms": mean_ms,
        "latency_ms": percentiles(rows, ("p50", "p95", "p99")),
        "in_deadline_ratio": sum(q <= DEADLINE_MS for q in rows) / asked,
        "requests": asked,
        "lost_requests": lost,
        "migrations": moves["count"],
        "bytes_on_wire": moves["bytes_on_wire"],
        "downtime_ms": moves["downtime_ms"],
        "downtime_s": sum(m["downtime_ms"] for m in moves["each"]) / 1000,
        "by_service": {s["name"]: s["latency_ms"]["p50"] for s in services},
        "effects": {
            k: summary["decisions"]["by_action"].get("migrate", {}).get(k, 0)
            for k in ("verified", "refuted", "not_exercised", "pending")
        },
        "moves_ahead": ahead(out),
        "handovers": summary["handovers"]["count"],
        "verdict": summary["validity"]["verdict"],
        "reasons": summary["validity"]["reasons"],
    }


def ahead(out: Path) -> dict[str, Any]:
    """When moves were done before the handover nearest to them (negative: after it)."""
    asked = parquet.read_table(out / "requests.parquet", columns=["service", "ue_id"]).to_pylist()
    user_of = {r["service"]: r["ue_id"] for r in asked}
    rows = parquet.read_table(out / "decisions.parquet").to_pylist()
    applied = [r for r in rows if r["verdict"] == "applied"]
    handovers = [
        (json.loads(r["target"])["ue_id"], r["confirmed_ns"])
        for r in applied
        if r["action"] == "handover"
    ]
    leads_s = []
    for move in (r for r in applied if r["action"] == "migrate"):
        user = user_of.get(json.loads(move["target"])["service"])
        gaps_s = [(at - move["confirmed_ns"]) / 1e9 for ue_id, at in handovers if ue_id == user]
        if gaps_s:
            leads_s.append(min(gaps_s, key=abs))
    return {
        "median_s": statistics.median(leads_s) if leads_s else None,
        "ratio": statistics.fmean(lead >= 0 for lead in leads_s) if leads_s else None,
    }


def shown(seed: int, strategy: str, row: Mapping[str, Any]) -> str:
    latency, down = row["latency_ms"], row["downtime_ms"]
    return (
        f"seed {seed} {strategy:9s} cost {row['cost_ms']:6.2f} ms: "
        f"mean {row['latency_mean_ms']:6.2f} "
        f"(p50 {latency['p50']:.1f}, p95 {latency['p95']:.1f}, p99 {latency['p99']:.1f}), "
        f"{100 * row['in_deadline_ratio']:.1f} % within {DEADLINE_MS:g} ms, "
        f"{row['migrations']} moves, {row['bytes_on_wire'] / 1e6:.1f} MB, "
        f"done {row['moves_ahead']['median_s'] or 0:.1f} s before the handover, "
        f"down p50 {down.get('p50') or 0:.0f} ms, lost {row['lost_requests']}, "
        f"{row['verdict']} {'; '.join(row['reasons'])}"
    )


def judged(table: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Mean of each strategy, and the forecast's cost less the others' by seed.

    `table`: strategy -> seed -> `figures`; the same seeds for all.
    """
    means = {
        strategy: {name: statistics.fmean(row[name] for row in rows.values()) for name in COMPARED}
        for strategy, rows in table.items()
    }
    ours = table["forecast"]
    differences = {
        strategy: [ours[seed]["cost_ms"] - row["cost_ms"] for seed, row in rows.items()]
        for strategy, rows in table.items()
        if strategy != "forecast"
    }
    return {"means": means, "cost_difference_ms": differences, "bounds": bounds(means)}


def bounds(means: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """What is asked of the forecast, in words, and whether it holds."""
    asked = [("cost_ms", other) for other in STRATEGIES if other != "forecast"]
    asked += [("latency_mean_ms", "never")]
    asked += [(name, other) for name in ("downtime_s", "bytes_on_wire") for other in MOVERS]
    return {
        f"{name} {means['forecast'][name]:.6g}, below {other}'s {means[other][name]:.6g}": (
            means["forecast"][name] < means[other][name]
        )
        for name, other in asked
    }


def recorded(cases: Sequence[Case]) -> dict[str, Any]:
    """Figures of runs that may all be quoted."""
    table: dict[str, dict[str, Any]] = {strategy: {} for strategy in STRATEGIES}
    versions: dict[str, str] = {}
    for case in cases:
        summary = json.loads((case.folder / "summary.json").read_text())
        versions = versions_of(summary)
        row = figures(summary, case.folder)
        table[case.strategy][str(case.seed)] = row
        print(shown(case.seed, case.strategy, row))
    return {"primary": PRIMARY, "versions": versions, "runs": table, **judged(table)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--duration", type=float, default=30)
    parser.add_argument("--record-most", type=int, metavar="N", help="runs of this call")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    options = parser.parse_args()
    cases = [
        Case(strategy, seed, options.duration, tuple(options.settings))
        for index, seed in enumerate(options.seeds)
        for strategy in (STRATEGIES if index % 2 == 0 else STRATEGIES[::-1])
    ]
    for case in [c for c in cases if c.why_not()][: options.record_most]:
        print(f"recording {case.folder.name}", flush=True)
        case.record()
        print(f"  {case.why_not() or 'valid'}", flush=True)
    if missing := {c.folder.name: reason for c in cases if (reason := c.why_not())}:
        print(f"{len(missing)} runs may not be quoted, so there are no figures; call again:")
        for name, reason in missing.items():
            print(f"  {name}: {reason}")
        return 1
    found = recorded(cases)
    print(f"primary: {PRIMARY}")
    for strategy, mean in found["means"].items():
        print(
            f"{strategy:9s} cost {mean['cost_ms']:6.2f} ms, "
            f"latency {mean['latency_mean_ms']:6.2f} ms, "
            f"{100 * mean['in_deadline_ratio']:.1f} % in time, "
            f"{mean['bytes_on_wire'] / 1e6:.1f} MB moved, {mean['downtime_s']:.2f} s down"
        )
    print(f"written to {write('migration', found)}")
    for bound, holds in found["bounds"].items():
        print(f"{'holds' if holds else 'does not hold'}: {bound}")
    return 0 if all(found["bounds"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

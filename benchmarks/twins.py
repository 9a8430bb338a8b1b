"""User twins: attribute updates per second beside Redis, age, memory, bytes on the wire.

A real local controller is fed over UDP by another process; the reference is the obvious
client code that writes a Redis hash and stream, fed with the same datagrams, in turn
with it.  Rates are per second of processor time of the controller, and of the client
alone (its server's time is not charged).
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.runs import write
from benchmarks.twin_attach import on_a_testbed
from benchmarks.twin_reports import ATTRIBUTES_CHANGED, CELLS
from benchmarks.twin_stand import Stand, finished, stand

PERIOD_MS = 500
USERS = 200
LOAD_PERIOD_MS = 40
"""5,000 reports/s of 200 users: about half a core."""
REFERENCE_PORT = 5599
REFERENCE_REPORTS = {"attribute": 500, "report": 3000}
SHARE_USERS = (8, 32, 128, 200)
FEW_USERS = 32
SLOWEST_FILL_S = 60.0
"""What is kept longest beside a twin: the demands a budget looks at."""
BOUNDS = {
    "updates_per_core_s": ("at least", 20_000.0),
    "times_redis_by_attribute": ("at least", 3.0),
    "age_p99_ms": ("at most", PERIOD_MS + 10.0),
    "inter_arrival_error_ratio": ("at most", 0.05),
    "bytes_per_twin": ("at most", 16_000.0),
    "aggregate_share_200_users": ("at most", 0.05),
    "aggregate_share_8_users": ("at most", 0.05),
    "twin_after_attach_p99_ms": ("at most", 500.0),
    "twin_migration_gap_max_ms": ("at most", 50.0),
    "twin_versions_lost": ("at most", 0.0),
}


# -- rates ------------------------------------------------------------------------------


def controller_rate(made: Stand, seconds: float) -> dict[str, float]:
    """Of the local controller's whole work on reports, forecasts included."""
    before, spent_s = made.call("status"), made.processor_s
    sender = made.start_reports(LOAD_PERIOD_MS, seconds, USERS)
    time.sleep(0.9 * seconds)
    check_twins(made, round(0.2 * seconds * 1000 / LOAD_PERIOD_MS))
    sent = int(finished(sender, 60 + seconds))
    time.sleep(0.1)
    spent_s = made.processor_s - spent_s
    after = made.call("status")
    accepted = after["accepted"] - before["accepted"]
    return {
        "updates_per_core_s": accepted * ATTRIBUTES_CHANGED / spent_s,
        "report_us": spent_s / accepted * 1e6,
        "sent": sent,
        "accepted": accepted,
        "kernel_drops": after["kernel_drops"] - before["kernel_drops"],
    }


def reference_rate(made: Stand, database: Path, how: str, length: int) -> dict[str, float]:
    """Of the client's own processor time; the reports are those the controller gets."""
    reports = REFERENCE_REPORTS[how]
    client = made.start(
        "benchmarks.twin_redis", str(database), str(REFERENCE_PORT), str(length), how, str(reports)
    )
    assert client.stdout is not None
    client.stdout.readline()
    # Slow enough for its socket's buffer, and going on until it has what it wants.
    sender = made.start_reports(LOAD_PERIOD_MS, 2 * reports / 5000 + 0.5, USERS, REFERENCE_PORT)
    spent = orjson.loads(client.stdout.readline())
    finished(client, 60)
    finished(sender, 60)
    updates = spent["reports"] * ATTRIBUTES_CHANGED
    return {
        "updates_per_core_s": updates / spent["processor_s"],
        "updates_per_s": updates / spent["wall_s"],
    }


@contextmanager
def redis_server() -> Iterator[Path]:
    """Debian's, on a Unix socket of its own, writing nothing to disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="holon-redis-") as folder:
        path = Path(folder) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            end_s = time.monotonic() + 10
            while not path.exists() and time.monotonic() < end_s:
                time.sleep(0.05)
            yield path
        finally:
            server.terminate()
            server.wait()


def rates(pairs: int, seconds: float) -> dict[str, Any]:
    """Controller and both references in turn; medians, and ratios of each pair."""
    rows = []
    with redis_server() as database, stand(USERS) as made:
        length = made.inventory.twins.history_length
        controller_rate(made, 2.0)  # models and caches are warm from here on
        for number in range(pairs):
            row = {
                "controller": controller_rate(made, seconds),
                "attribute": reference_rate(made, database, "attribute", length),
                "report": reference_rate(made, database, "report", length),
            }
            rows.append(row)
            shown = {name: round(r["updates_per_core_s"]) for name, r in row.items()}
            print(f"pair {number + 1}: attribute updates per core second {shown}", flush=True)

    def median_of(name: str, reference: str | None = None) -> float:
        own = [r[name]["updates_per_core_s"] for r in rows]
        others = [r[reference]["updates_per_core_s"] if reference else 1.0 for r in rows]
        return statistics.median(a / b for a, b in zip(own, others, strict=True))

    return {
        "pairs": rows,
        "updates_per_core_s": median_of("controller"),
        "redis_by_attribute_per_core_s": median_of("attribute"),
        "redis_by_report_per_core_s": median_of("report"),
        "times_redis_by_attribute": median_of("controller", "attribute"),
        "times_redis_by_report": median_of("controller", "report"),
    }


def check_twins(made: Stand, reports: int) -> None:
    """What was counted is in twin and history: as many reports as must be, in order, and the
    twin says what the report of its version said."""
    ue_id = made.inventory.users[0].ue_id
    twin, history = made.call("twin", ue_id=ue_id), made.call("history", ue_id=ue_id, last=1000)
    sequences = [report["sequence"] for report in history]
    same = [r for r in history if r["sequence"] == twin["version"]]
    speed_mps = twin["user"]["speed_mps"]["value"]
    expected = min(reports, made.inventory.twins.history_length)
    if len(history) < expected or sequences != sorted(set(sequences)):
        raise SystemExit(f"{ue_id}: history of {len(history)} reports, {expected} were sent")
    if [r["speed_mps"] for r in same] != [speed_mps]:
        raise SystemExit(f"{ue_id}: version {twin['version']} is not what its report said")


# -- age, memory, bytes -------------------------------------------------------------------


def ages(seconds: float) -> dict[str, float]:
    """All twins' ages at random moments, and how regularly reports arrive."""
    moments = random.Random(1)
    seen: list[float] = []
    with stand(USERS) as made:
        sender = made.start_reports(PERIOD_MS, seconds + 3, USERS)
        time.sleep(3)
        end_s = time.monotonic() + seconds - 1
        while time.monotonic() < end_s:
            time.sleep(moments.uniform(0.02, 0.18))
            seen += made.call("ages")
        intervals_ms = [i for own in made.call("inter_arrivals").values() for i in own]
        finished(sender, 30)
    cuts = statistics.quantiles(seen, n=100)
    errors = sorted(abs(i - PERIOD_MS) / PERIOD_MS for i in intervals_ms)
    return {
        "age_p50_ms": cuts[49],
        "age_p99_ms": cuts[98],
        "age_samples": len(seen),
        "inter_arrival_mean_ms": statistics.mean(intervals_ms),
        "inter_arrival_error_ratio": abs(statistics.mean(intervals_ms) / PERIOD_MS - 1),
        "inter_arrivals_within_5_pct_ratio": sum(e <= 0.05 for e in errors) / len(errors),
    }


def memory(users: int, margin_s: float = 3.0) -> dict[str, float]:
    """Growth of the process from a few twins to many, everything kept beside them full too.

    The few (a batch of forecasts) make the models' buffers and caches, which no twin adds to.
    """
    with stand(users) as made:
        length = made.inventory.twins.history_length
        finished(made.start_reports(PERIOD_MS, 5.0, FEW_USERS), 60)
        few = _memory_bytes(made)
        seconds = max(length * PERIOD_MS / 1000, SLOWEST_FILL_S) + margin_s
        sender = made.start_reports(PERIOD_MS, seconds, users)
        finished(sender, seconds + 60)
        status = made.call("status")
        many = _memory_bytes(made)
        check_twins(made, length)
        if status["twins"] != users:
            raise SystemExit(f"{status['twins']} twins of {users} users")
    return {
        "users": users,
        "history_length": length,
        "process_bytes_of_few": few["rss"],
        "bytes_per_twin": (many["own"] - few["own"]) / (users - FEW_USERS),
        "rss_bytes_per_twin": (many["rss"] - few["rss"]) / (users - FEW_USERS),
    }


def _memory_bytes(made: Stand) -> dict[str, float]:
    """`own`: resident and of no file.  Files' pages are libraries'; PSS shares those among the
    machine's processes, so it jumps by megabytes when another Python ends."""
    lines = Path(f"/proc/{made.controller.pid}/status").read_text().splitlines()
    kilobytes = {n: float(v.split()[0]) for n, v in (x.split(":") for x in lines if "Rss" in x)}
    rss = kilobytes["RssAnon"] + kilobytes["RssFile"] + kilobytes["RssShmem"]
    return {"rss": rss * 1024, "own": kilobytes["RssAnon"] * 1024}


def shares(seconds: float) -> list[dict[str, float]]:
    """VL4's bytes on the wire by VL1's, by number of users, at the default period."""
    found = []
    for users in SHARE_USERS:
        with stand(users) as made:
            finished(made.start_reports(PERIOD_MS, seconds, users), seconds + 30)
            status = made.call("status")
        reports, aggregates = status["bytes_on_wire"], status["aggregate_bytes_on_wire"]
        row = {
            "users": users,
            "report_bytes_per_s": reports / seconds,
            "aggregate_bytes_per_s": aggregates / seconds,
            "share": aggregates / reports,
        }
        found.append(row)
        rates_bps = f"{row['aggregate_bytes_per_s']:.0f} of {row['report_bytes_per_s']:.0f} B/s"
        percent = 100 * row["share"]
        print(
            f"{users:4d} users in {len(CELLS)} cells: VL4 {rates_bps}, {percent:.2f} %", flush=True
        )
    return found


# -- the whole ------------------------------------------------------------------------------


def judged(figures: dict[str, float]) -> list[str]:
    """Prints each bounded figure; those whose bound does not hold."""
    broken = []
    if "times_redis_by_report" in figures:
        print(f"{'times_redis_by_report':28s} {figures['times_redis_by_report']:14,.3f}   no bound")
    for name, (side, bound) in BOUNDS.items():
        if name not in figures:
            continue
        value = figures[name]
        holds = value >= bound if side == "at least" else value <= bound
        print(f"{name:28s} {value:14,.3f}   {side} {bound:,g}: {'yes' if holds else 'NO'}")
        if not holds:
            broken.append(name)
    return broken


PARTS = ("rates", "ages", "memory", "shares", "testbed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement of a rate")
    parser.add_argument("--memory-users", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if "rates" in options.parts:
        found |= rates(options.pairs, options.seconds)
    if "ages" in options.parts:
        found |= ages(12.0)
    if "shares" in options.parts:
        found["shares"] = shares(6.0)
        found["aggregate_share_200_users"] = found["shares"][-1]["share"]
    if "memory" in options.parts:
        found["memory"] = memory(options.memory_users)
        found["bytes_per_twin"] = found["memory"]["bytes_per_twin"]
    if "testbed" in options.parts:
        found["testbed"] = on_a_testbed(5, 10, 15.0, options.settings)
        for name in ("after_attach_p99_ms", "migration_gap_max_ms", "versions_lost"):
            found[f"twin_{name}"] = found["testbed"][f"twin_{name}"]
        found["aggregate_share_8_users"] = found["testbed"]["aggregate_share"]
    broken = judged(found)
    print(f"written to {write('twins', found)}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())

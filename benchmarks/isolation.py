"""A real-time slice's one-way delay and loss while another slice floods: the isolation suite.

Four cases, interleaved in rounds: unloaded (the reference), flooded with the
flooding slice's meter far above the flood (only queues protect), flooded with that
meter at the slice's guarantee, and flooded without slices (the negative test: it
must be bad).  The figures are of downlink probes, the direction that is flooded,
pooled over all rounds.

The noise floor is how far the unloaded p99.9 of one round lies from that of
another; it is stated, and subtracted from the flooded p99.9 where a bound says so.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.runs import REPOSITORY, RESULTS, run, versions_of, write

UNLOADED, FLOODED, METERED, UNSLICED = (
    "unloaded",
    "flooded, meter off",
    "flooded, meter on",
    "flooded, no slices",
)
CASES: dict[str, list[str]] = {
    UNLOADED: ["--set", "traffic=[]"],
    FLOODED: [],
    METERED: ["--set", "static_reservations.0.max_mbps=5"],
    UNSLICED: ["--set", "slicing=false"],
}
DOCUMENT = REPOSITORY / "docs" / "isolation.md"

Delays = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """One case, once: downlink probes' delays, ms, and what became of the run."""

    owd_ms: Delays
    sent: int
    lost: int
    leaked_frames: int
    verdict: str
    reasons: list[str]
    versions: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One case over all rounds; delays in ms."""

    name: str
    probes: int
    lost: int
    p50: float
    p99: float
    p999: float
    leaked_frames: int
    verdicts: list[str]


@dataclass(frozen=True)
class Check:
    """One thing that has to hold: what, the figure, its bound, whether it held."""

    name: str
    figure: float
    wanted: str
    holds: bool


def measure(number: int, case: str, duration_s: float) -> Round:
    name = "".join(c if c.isalnum() else "-" for c in case)
    out = RESULTS / "isolation" / f"{number}-{name}"
    arguments = ["--policy", "static", "--duration", str(duration_s), *CASES[case]]
    summary = run("isolation", out, *arguments, seed=number)
    sent, received = downlink_counts(out)
    return Round(
        owd_ms=downlink_delays(out),
        sent=sent,
        lost=sent - received,
        leaked_frames=sum(s["leaked_frames"] for s in summary["slices"]),
        verdict=summary["validity"]["verdict"],
        reasons=summary["validity"]["reasons"],
        versions=versions_of(summary),
    )


def downlink_delays(out: Path) -> Delays:
    probes = pq.read_table(out / "probes.parquet", columns=["slice", "direction", "owd_ms"])
    wanted = pc.and_(pc.equal(probes["slice"], "urllc"), pc.equal(probes["direction"], "down"))
    return np.asarray(probes.filter(wanted)["owd_ms"].drop_null().to_numpy(), dtype=np.float64)


def downlink_counts(out: Path) -> tuple[int, int]:
    """(sent, received) probes."""
    rows = pq.read_table(out / "flows.parquet").to_pylist()
    probes = [r for r in rows if r["flow"].startswith("probe-urllc") and r["direction"] == "down"]
    return sum(r["sent_packets"] for r in probes), sum(r["received_packets"] for r in probes)


def pooled(name: str, rounds: list[Round]) -> Case:
    owd_ms = np.concatenate([r.owd_ms for r in rounds])
    p50, p99, p999 = (float(v) for v in np.percentile(owd_ms, [50, 99, 99.9]))
    return Case(
        name,
        probes=sum(r.sent for r in rounds),
        lost=sum(r.lost for r in rounds),
        p50=p50,
        p99=p99,
        p999=p999,
        leaked_frames=sum(r.leaked_frames for r in rounds),
        verdicts=[r.verdict for r in rounds],
    )


def noise_floor_ms(unloaded: list[Round]) -> float:
    """Spread of the unloaded p99.9 between rounds; 0 with a single round."""
    p999 = [float(np.percentile(r.owd_ms, 99.9)) for r in unloaded]
    return max(p999) - min(p999)


def judge(cases: dict[str, Case], floor_ms: float) -> list[Check]:
    reference, unsliced = cases[UNLOADED], cases[UNSLICED]
    p99_bound_ms = 2 * reference.p99 + 0.5
    p999_bound_ms = 1.2 * reference.p999 + 0.5
    checks = []
    for name in (FLOODED, METERED):
        case = cases[name]
        tail_ms = case.p999 - floor_ms
        checks += [
            Check(f"{name}: lost", case.lost, "0", case.lost == 0),
            Check(
                f"{name}: p99 ms",
                case.p99,
                f"<= {p99_bound_ms:.2f} (2 x unloaded + 0.5)",
                case.p99 <= p99_bound_ms,
            ),
            Check(
                f"{name}: p99.9 less the noise floor, ms",
                tail_ms,
                f"<= {p999_bound_ms:.2f} (1.2 x unloaded + 0.5)",
                tail_ms <= p999_bound_ms,
            ),
        ]
    leaked = sum(c.leaked_frames for c in cases.values())
    return [
        *checks,
        Check("leaked frames, all cases", leaked, "0", leaked == 0),
        Check(
            f"{UNSLICED}: p99 ms",
            unsliced.p99,
            f"> {5 * reference.p99:.2f} (5 x unloaded)",
            unsliced.p99 > 5 * reference.p99,
        ),
        Check(f"{UNSLICED}: lost", unsliced.lost, "> 0", unsliced.lost > 0),
    ]


def document(cases: list[Case], floor_ms: float, checks: list[Check], versions: str) -> str:
    """The page docs/isolation.md."""
    rows = "\n".join(
        f"| {c.name} | {c.probes} | {c.lost} | {c.p50:.2f} | {c.p99:.2f} | {c.p999:.2f} "
        f"| {', '.join(c.verdicts)} |"
        for c in cases
    )
    verdicts = "\n".join(
        f"| {c.name} | {c.figure:.2f} | {c.wanted} | {'yes' if c.holds else 'NO'} |" for c in checks
    )
    return f"""# Isolation, measured

Written by `./testbed.sh bench isolation --document`; scenario `isolation`: 1,000 downlink probes a
second of a real-time slice on a 25 Mbit/s downlink that an elastic slice floods with 50 Mbit/s, ten
times what it is guaranteed. {versions}

| case | probes | lost | p50 ms | p99 ms | p99.9 ms | verdict of each run |
|---|---|---|---|---|---|---|
{rows}

Noise floor (spread of the unloaded p99.9 between rounds): {floor_ms:.2f} ms.

| what must hold | measured | wanted | holds |
|---|---|---|---|
{verdicts}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=20, help="seconds measured, each run")
    parser.add_argument("--document", action="store_true", help=f"write {DOCUMENT.name} in docs")
    options = parser.parse_args()
    rounds: dict[str, list[Round]] = {name: [] for name in CASES}
    for number in range(1, options.rounds + 1):
        for name in CASES:
            done = measure(number, name, options.duration)
            rounds[name].append(done)
            p50, p99, p999 = np.percentile(done.owd_ms, [50, 99, 99.9])
            print(
                f"round {number} {name:20s} p50 {p50:.2f} p99 {p99:.2f} p99.9 {p999:.2f} ms, "
                f"lost {done.lost} of {done.sent}, {done.verdict} {'; '.join(done.reasons)}",
                flush=True,
            )
    cases = {name: pooled(name, rounds[name]) for name in CASES}
    floor_ms = noise_floor_ms(rounds[UNLOADED])
    checks = judge(cases, floor_ms)
    for case in cases.values():
        print(f"{case.name:20s} {case.probes} probes, {case.lost} lost, p50 {case.p50:.2f} "
              f"p99 {case.p99:.2f} p99.9 {case.p999:.2f} ms")  # fmt: skip
    print(f"noise floor of p99.9: {floor_ms:.2f} ms")
    for check in checks:
        print(f"{'ok  ' if check.holds else 'FAIL'} {check.name}: {check.figure:.2f}, "
              f"wanted {check.wanted}")  # fmt: skip
    figures = {
        "cases": [asdict(c) for c in cases.values()],
        "noise_floor_ms": floor_ms,
        "checks": [asdict(c) for c in checks],
        "rounds": {
            name: [{"lost": r.lost, "verdict": r.verdict, "reasons": r.reasons} for r in found]
            for name, found in rounds.items()
        },
        "versions": rounds[UNLOADED][0].versions,
    }
    print(f"written to {write('isolation', figures)}")
    if options.document:
        versions = ", ".join(f"{k} {v}" for k, v in rounds[UNLOADED][0].versions.items())
        DOCUMENT.write_text(document(list(cases.values()), floor_ms, checks, f"({versions}.)"))
        print(f"written to {DOCUMENT}")
    valid = all(v == "valid" for c in cases.values() for v in c.verdicts)
    return 0 if valid and all(c.holds for c in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())

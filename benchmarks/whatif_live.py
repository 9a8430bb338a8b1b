"""Forks on real packets: is the strategy that was predicted best also measured best?

One testbed after the other, all with the same seed, so with the same demand at the same
moment of scenario time.  In each, every fork is predicted at every moment and one strategy is
applied through the guard; after the horizon the fixed split is put back.  What the strategies
were worth comes from the twins' reports afterwards, that is from packets.

Each testbed's moments are kept in results/bench/whatif_live with the testbed's own verdict; one
that was invalid (a busy machine, late timers) is made again and never quoted.

`--predict-again` replaces the predictions by those that today's code makes from the twins that
each of these testbeds had shown until then: a changed model is judged by packets already sent.

`./testbed.sh bench whatif_live [--scenario S] [--seed N...] [--moments N] [--record-most N]`
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proportions import Choice, judged, words
from benchmarks.recorded import read
from benchmarks.runs import RESULTS, testbed, write
from benchmarks.whatif_picking import STRATEGIES as FORKS
from benchmarks.whatif_picking import moments
from controller.contracts import rpc
from controller.whatif.calibration import Calibration
from controller.whatif.forecast import OnnxForecast
from controller.whatif.predicting import predict
from controller.whatif.scoring import score
from topologies.cli.northbound import Northbound, running

STRATEGIES: tuple[str, ...] = tuple(s.kind for s in FORKS)
FIRST_S = 9.0
EVERY_S = 6.0
MOMENTS = 12
HORIZON_S = 2.0
SCORED_WITHIN_S = 6.0
RESTORE_STEPS_MAX = 6
RESTORE_PAUSE_S = 0.5
FINISH_TIMEOUT_S = 120.0
PRICE_TIE = 0.02
"""Equal but for the price of what is reserved."""


@dataclass(frozen=True)
class Series:
    """One testbed in which `strategy` is applied at every moment."""

    scenario: str
    seed: int
    strategy: str
    moments: int

    @property
    def folder(self) -> Path:
        return RESULTS / "whatif_live" / f"{self.scenario}-{self.seed}-{self.strategy}"

    def kept(self) -> dict[str, Any] | None:
        """What was recorded of it, if that may be quoted and is long enough."""
        try:
            document: dict[str, Any] = json.loads((self.folder / "moments.json").read_text())
        except (OSError, ValueError):
            return None
        is_valid = document["validity"]["verdict"] == "valid"
        return document if is_valid and len(document["moments"]) >= self.moments else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--seed", type=int, nargs="+", default=[3])
    parser.add_argument("--moments", type=int, default=MOMENTS, help="of each testbed, at least")
    parser.add_argument("--predict-again", action="store_true", help="from recorded twins")
    parser.add_argument("--record-most", type=int, metavar="N", help="testbeds of this call")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # takes the testbed down
    wanted = [
        Series(options.scenario, seed, strategy, options.moments)
        for seed in options.seed
        for strategy in STRATEGIES
    ]
    for series in [s for s in wanted if s.kept() is None][: options.record_most]:
        record(series)
    missing = [s for s in wanted if s.kept() is None]
    if missing:
        print(f"{len(missing)} testbeds are missing or invalid, so there are no figures:")
        for series in missing:
            print(f"  {series.folder.name}")
        return 1
    rows = []
    for seed in options.seed:
        of_seed = {s.strategy: s.kept() or {} for s in wanted if s.seed == seed}
        seen = {name: document["moments"] for name, document in of_seed.items()}
        if options.predict_again:
            folders = {s.strategy: s.folder for s in wanted if s.seed == seed}
            seen = {name: predicted_again(folders[name], found) for name, found in seen.items()}
        count = min(len(found) for found in seen.values())
        rows += [{"seed": seed, **moment(seen, index)} for index in range(count)]
    figures = show(rows)
    print(f"written to {write('whatif_live', {'moments': rows, **figures})}")
    return 0 if figures["all"]["ratio"] >= 0.9 else 1


def show(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`hold` and `static` are the same network until something is applied, so what they differ
    by is what two measurements of one thing differ by: less is a tie."""
    noise = [abs(row["measured"]["hold"] - row["measured"]["static"]) for row in rows]
    tie = max(PRICE_TIE, sum(noise) / len(noise))
    choices = [Choice(row["picked"], row["measured"]) for row in rows]
    for row, choice in zip(rows, choices, strict=True):
        row["is_best"] = choice.is_right(tie)
        print(
            f"seed {row['seed']} t {row['t_s']:4.0f} s  predicted {row['picked']:12s} measured "
            + "  ".join(f"{s} {row['measured'][s]:.3f}" for s in STRATEGIES)
            + ("  picked" if row["is_best"] else "  missed")
        )
    figures = {"noise_floor": sum(noise) / len(noise), **judged(choices, tie)}
    print(f"on packets: {words(figures)}")
    return figures


def predicted_again(folder: Path, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same moments with the scores that are predicted now; outcomes stay as measured."""
    run, calibration, forecast = read(folder), Calibration.load(), OnnxForecast()
    begins_s = (run.summary["measured"]["start_ns"] - run.summary["measured"]["t0_ns"]) / 1e9
    at_s = [m["t_s"] - begins_s for m in found]
    scores = [
        {s: p.score for s, p in zip(STRATEGIES, predictions, strict=True)}
        for _, snapshot in moments(folder, run, calibration, at_s)
        for predictions in [predict(snapshot, FORKS, HORIZON_S, forecast, calibration)]
    ]
    return [{**m, "predicted": of_now} for m, of_now in zip(found, scores, strict=True)]


def record(series: Series) -> None:
    print(f"recording {series.folder.name}", flush=True)
    testbed("up", series.scenario, "--policy", "static", "--seed", str(series.seed))
    try:
        run = running()
        api = Northbound(run)
        begun = rpc.call(run.emulation_socket, "begin")
        t0_s = time.monotonic() - rpc.call(run.emulation_socket, "status")["t_s"]
        due_s = [FIRST_S + EVERY_S * index for index in range(series.moments)]
        found = [{"t_s": at_s, **applied(api, series.strategy, t0_s + at_s)} for at_s in due_s]
        rpc.call(run.emulation_socket, "finish", FINISH_TIMEOUT_S, out=str(series.folder))
    finally:
        testbed("down")
    summary = json.loads((series.folder / "summary.json").read_text())
    document = {"begun": begun, "validity": summary["validity"], "moments": found}
    (series.folder / "moments.json").write_text(json.dumps(document, indent=1) + "\n")
    reasons = "; ".join(summary["validity"]["reasons"])
    print(f"  {summary['validity']['verdict']} {reasons}", flush=True)


def applied(api: Northbound, strategy: str, due_s: float) -> dict[str, Any]:
    late_s = time.monotonic() - due_s
    time.sleep(max(0.0, -late_s))
    forks = {s: api.post("whatif", {"strategy": {"kind": s}})["fork_id"] for s in STRATEGIES}
    body = {"horizon_s": HORIZON_S}
    ranked = api.post("whatif/compare", {"fork_ids": list(forks.values()), **body})
    answer = api.post(f"whatif/{forks[strategy]}/apply", body)
    prediction = answer["fork"]["prediction"]
    time.sleep(HORIZON_S + 0.5)
    steps = restore(api)
    document = scored(api, forks[strategy])
    for fork_id in forks.values():
        api.delete(f"whatif/{fork_id}")
    return {
        "late_s": max(0.0, late_s),
        "predicted": {f["name"]: f["prediction"]["score"] for f in ranked},
        "verdicts": [d["verdict"] for d in answer["decisions"]],
        "reasons": [d["reason"] for d in answer["decisions"] if d["reason"]],
        "restored_in_steps": steps,
        "reserved_kbps": prediction["reserved_kbps"],
        "reservable_kbps": sum(c["reservable_kbps"] for c in api.get("cells")),
        "comparison": document["comparison"],
    }


def restore(api: Northbound) -> int:
    """The fixed split again, in as many steps as the guard's slew limit asks for."""
    for step in range(RESTORE_STEPS_MAX):
        back = api.post("whatif", {"strategy": {"kind": "static"}})["fork_id"]
        decisions = api.post(f"whatif/{back}/apply", {"horizon_s": 1.0})["decisions"]
        api.delete(f"whatif/{back}")
        if not decisions:
            return step
        time.sleep(RESTORE_PAUSE_S)
    raise SystemExit(f"the fixed split did not come back: {decisions[-1]['reason']}")


def scored(api: Northbound, fork_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + SCORED_WITHIN_S
    while time.monotonic() < deadline_s:
        document: dict[str, Any] = api.get(f"whatif/{fork_id}")
        if document["comparison"] is not None:
            return document
        time.sleep(0.2)
    raise SystemExit(f"fork {fork_id} was not scored within {SCORED_WITHIN_S} s")


def moment(seen: dict[str, list[dict[str, Any]]], index: int) -> dict[str, Any]:
    """Predictions are the mean over the testbeds: each has its own noise at that moment."""
    runs = {strategy: of_run[index] for strategy, of_run in seen.items()}
    predicted = {s: sum(r["predicted"][s] for r in runs.values()) / len(runs) for s in STRATEGIES}
    measured = {
        s: score(
            r["comparison"]["measured_satisfied_ratio"],
            r["reserved_kbps"] / r["reservable_kbps"],
        )
        for s, r in runs.items()
    }
    picked = max(predicted, key=lambda s: predicted[s])
    return {
        "t_s": runs[STRATEGIES[0]]["t_s"],
        "predicted": predicted,
        "measured": measured,
        "picked": picked,
        "runs": runs,
    }


if __name__ == "__main__":
    raise SystemExit(main())

"""Forks on real packets: is the strategy that was predicted best also measured best?

One testbed after the other, all with the same seed, so with the same demand at the same
moment of scenario time.  In each, every fork is predicted at every moment and one strategy is
applied through the guard; after the horizon the fixed split is put back.  What the strategies
were worth comes from the twins' reports afterwards, that is from packets.

`./testbed.sh bench whatif_live [--scenario S] [--seed N]`
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.runs import testbed, write
from controller.contracts import rpc
from controller.whatif.scoring import score
from topologies.cli.northbound import Northbound, running

STRATEGIES = ("hold", "static", "proportional", "follow")
MOMENTS_S = (9.0, 16.0, 23.0, 30.0)
HORIZON_S = 2.0
SCORED_WITHIN_S = 6.0
RESTORE_STEPS_MAX = 6
RESTORE_PAUSE_S = 0.5
PRICE_TIE = 0.02
"""Equal but for the price of what is reserved."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="crossroads")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    seen = {s: strategy_run(options.scenario, options.seed, s) for s in STRATEGIES}
    rows = [moment(seen, index) for index in range(len(MOMENTS_S))]
    # Until something is applied `hold` and `static` are the same network: what they differ by
    # is what two measurements of one thing differ by.
    noise = [abs(row["measured"]["hold"] - row["measured"]["static"]) for row in rows]
    tie = max(PRICE_TIE, sum(noise) / len(noise))
    for row in rows:
        best = max(row["measured"].values())
        row["is_best"] = row["measured"][row["picked"]] >= best - tie
    for row in rows:
        print(
            f"t {row['t_s']:4.0f} s  predicted {row['picked']:12s} measured "
            + "  ".join(f"{s} {row['measured'][s]:.3f}" for s in STRATEGIES)
            + ("  picked" if row["is_best"] else "  missed")
        )
    ratio = sum(row["is_best"] for row in rows) / len(rows)
    print(
        f"best of four picked in {ratio:.0%} of {len(rows)} forks; "
        f"ties within {tie:.3f} (noise floor)"
    )
    print(f"written to {write('whatif_live', {'moments': rows, 'picked_ratio': ratio})}")
    return 0


def strategy_run(scenario: str, seed: int, strategy: str) -> list[dict[str, Any]]:
    """One testbed in which `strategy` is applied at every moment."""
    testbed("up", scenario, "--policy", "static", "--seed", str(seed))
    try:
        run = running()
        api = Northbound(run)
        status = rpc.call(run.emulation_socket, "status")
        t0_s = time.monotonic() - status["t_s"]
        found = [applied(api, strategy, t0_s + at_s) for at_s in MOMENTS_S]
        api.close()
        return found
    finally:
        testbed("down")


def applied(api: Northbound, strategy: str, due_s: float) -> dict[str, Any]:
    time.sleep(max(0.0, due_s - time.monotonic()))
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
        "t_s": MOMENTS_S[index],
        "predicted": predicted,
        "measured": measured,
        "picked": picked,
        "runs": runs,
    }


if __name__ == "__main__":
    raise SystemExit(main())

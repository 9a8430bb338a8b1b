"""How exactly queues and meters keep to their settings: ceilings, policing, shaping, shares.

On a running testbed (scenario `shares`): each case is set by the API, confirmed by
the switches, and then read at the receiving hosts: bytes that the kernel counted
on their interfaces (L2) over 10 s of its clock.  Each host is in one slice.

Four mechanisms, each alone: a meter (a user's limit), a queue's maximum without a meter
(a real-time slice on a server's link, shaped to its share), both in a row (a slice's
ceiling in a cell), and the division of a saturated link between elastic queues, in
proportion to their minima.  The sum over the link is the reference for the shares.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import testbed, write
from controller.contracts import rpc
from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder
from topologies.cli.northbound import Northbound, running

RATE_TOLERANCE_RATIO = 0.02
SHARE_TOLERANCE_RATIO = 0.03
OFFERED_LEAST_RATIO = 1.05
SETTLE_S = 2.0
"""A meter's burst passes, queues fill."""
LINK_MBPS = 20.0
ELASTIC = ("first", "second", "third")
LIMITED = "third"
"""The one that offers more than the link."""
HOST_OF = {"first": "ue1", "second": "ue2", "third": "ue3", "shaped": "sink"}
NO_CEILING_MBPS = 100.0

CEILINGS_MBPS = (1.0, 4.0, 12.0)
USER_LIMITS_MBPS = (0.5, 2.0, 8.0)
SHAPED_PROMISES_MBPS = (0.09, 0.43, 3.0)
"""What the real-time slice's SLA guarantees; its share of the server's link follows."""
MIXES_MBPS = (
    (0.12, 1.0, 16.0),
    (0.12, 0.12, 16.0),
    (0.5, 2.0, 8.0),
    (4.0, 4.0, 4.0),
    (1.0, 5.0, 10.0),
    (0.12, 0.5, 2.0),
)


@dataclass(frozen=True)
class Reading:
    """One figure: what was set, what the host received, Mbit/s (L2), over how long."""

    mechanism: str
    case: str
    slice_name: str
    set_mbps: float
    measured_mbps: float
    offered_mbps: float
    seconds: float
    tolerance_ratio: float

    @property
    def error_ratio(self) -> float:
        return self.measured_mbps / self.set_mbps - 1

    @property
    def exercised(self) -> bool:
        """A queue that ran empty, or a limit that nobody reached, would say nothing."""
        return self.offered_mbps >= OFFERED_LEAST_RATIO * self.set_mbps

    @property
    def holds(self) -> bool:
        return self.exercised and abs(self.error_ratio) <= self.tolerance_ratio

    @property
    def words(self) -> str:
        if not self.exercised:
            return f"  NOT EXERCISED: only {self.offered_mbps:.2f} Mbit/s were offered"
        return "" if self.holds else "  DOES NOT HOLD"

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "error_ratio": round(self.error_ratio, 5), "holds": self.holds}


@dataclass(frozen=True)
class Rate:
    """Of one slice, Mbit/s: what its host received (L2), what was offered (payload); how long."""

    mbps: float
    offered_mbps: float
    seconds: float


class Receivers:
    """What hosts' interfaces received, as the kernel counts it."""

    def __init__(self, run: RunFolder, inventory: Inventory) -> None:
        self._run = run
        self._hosts = {name: inventory.host(host) for name, host in HOST_OF.items()}

    def bytes_now(self) -> dict[str, tuple[float, int]]:
        """Slice -> (moment, s; bytes so far)."""
        found = {}
        for name, host in self._hosts.items():
            lines = Path(f"/proc/{host.pid}/net/dev").read_text().splitlines()
            line = next(s for s in lines if s.strip().startswith(f"{host.interface}:"))
            found[name] = time.monotonic(), int(line.partition(":")[2].split()[0])
        return found

    def rates(self, seconds: float) -> dict[str, Rate]:
        """By slice; what was offered in the same seconds is told by the senders."""
        asked = {"duration_s": seconds}
        with ThreadPoolExecutor(1) as pool:
            before = self.bytes_now()
            asking = pool.submit(
                rpc.call, self._run.emulation_socket, "measure", seconds + 30, **asked
            )
            time.sleep(seconds)
            after = self.bytes_now()
            told = {s["name"]: s["offered_mbps"] for s in asking.result()["slices"]}
        rates = {}
        for name, (at_s, count) in after.items():
            taken_s = at_s - before[name][0]
            mbps = (count - before[name][1]) * 8 / taken_s / 1e6
            rates[name] = Rate(mbps, told[name], taken_s)
        return rates


class Settings:
    """Changes by the API, as an operator's; each confirmed by the switches on return."""

    def __init__(self, api: Northbound) -> None:
        self._api = api
        self._minima_mbps = dict.fromkeys(ELASTIC, 1.0)

    def _patch(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._api.patch(f"slices/{name}", changes))

    def reserve(self, rates_mbps: Mapping[str, tuple[float, float]]) -> None:
        """Slice -> (minimum, ceiling) in the cell; who gives comes before who takes."""
        growth = {name: rates_mbps[name][0] - self._minima_mbps[name] for name in rates_mbps}
        for name in sorted(growth, key=lambda n: growth[n]):
            low, high = rates_mbps[name]
            wanted = {"access_point": "ap1", "min_mbps": low, "max_mbps": high}
            self._patch(name, {"reservations": [wanted]})
            self._minima_mbps[name] = low

    def limit_users(self, name: str, mbps: float | None) -> None:
        self._patch(name, {"user_max_mbps": mbps})

    def promise_shaped(self, mbps: float, interface: str) -> float:
        """Its new share of the server's link as the switch confirmed it: the queue's maximum."""
        held = [{"access_point": "ap1", "min_mbps": 0.05}]
        changes = {"sla": {"guaranteed_mbps": mbps}, "reservations": held}
        queues = self._patch("shaped", changes)["diff"]["queues"][interface]
        rates = [
            q["after"] for q in queues.values() if q["after"]["min_kbps"] == q["after"]["max_kbps"]
        ]
        if len(rates) != 1:
            raise SystemExit(f"{interface}: one shaped queue expected, the change shows {queues}")
        return float(rates[0]["max_kbps"]) / 1000


def shares(mix_mbps: Mapping[str, float], measured_mbps: Mapping[str, float]) -> dict[str, float]:
    """What each would get of what the link carried, in proportion to the minima."""
    carried, promised = sum(measured_mbps.values()), sum(mix_mbps.values())
    return {name: carried * mbps / promised for name, mbps in mix_mbps.items()}


class Measuring:
    """The cases, each set, settled and read over `seconds`."""

    def __init__(
        self, run: RunFolder, inventory: Inventory, api: Northbound, seconds: float, every: int
    ) -> None:
        """`every`: only each so many-th case of a mechanism."""
        self._every = every
        self._receivers = Receivers(run, inventory)
        self._settings = Settings(api)
        self._rest = dict.fromkeys((n for n in ELASTIC if n != LIMITED), (0.5, NO_CEILING_MBPS))
        self._seconds = seconds
        self._sink_port = next(p.interface for p in inventory.ports if p.peer == "sink")

    def _read(self) -> dict[str, Rate]:
        time.sleep(SETTLE_S)
        return self._receivers.rates(self._seconds)

    def ceilings(self) -> Iterator[Reading]:
        """A slice's ceiling in a cell: its meter, then its queue."""
        for ceiling in CEILINGS_MBPS[:: self._every]:
            self._settings.reserve({LIMITED: (ceiling, ceiling), **self._rest})
            yield self._rate("ceiling (meter and queue)", LIMITED, ceiling)

    def policing(self) -> Iterator[Reading]:
        """A user's meter, in a slice whose queue would carry twice as much."""
        for limit in USER_LIMITS_MBPS[:: self._every]:
            self._settings.reserve({LIMITED: (2 * limit, NO_CEILING_MBPS), **self._rest})
            self._settings.limit_users(LIMITED, limit)
            yield self._rate("policing (user's meter)", LIMITED, limit)
        self._settings.limit_users(LIMITED, None)

    def shaping(self) -> Iterator[Reading]:
        """A real-time slice's queue on a server's link, where no meter of that rate stands."""
        for promise in SHAPED_PROMISES_MBPS[:: self._every]:
            share = self._settings.promise_shaped(promise, self._sink_port)
            yield self._rate("shaping (queue's maximum)", "shaped", share)

    def _rate(self, mechanism: str, name: str, wanted_mbps: float) -> Reading:
        read = self._read()[name]
        return _reading(mechanism, f"{wanted_mbps:g} Mbit/s", name, wanted_mbps, read)

    def mixes(self) -> Iterator[Reading]:
        """Elastic queues that saturate the link together."""
        for minima in MIXES_MBPS[:: self._every]:
            mix = dict(zip(ELASTIC, minima, strict=True))
            self._settings.reserve({n: (mbps, NO_CEILING_MBPS) for n, mbps in mix.items()})
            read = {name: rate for name, rate in self._read().items() if name in mix}
            got = {name: rate.mbps for name, rate in read.items()}
            case = " / ".join(f"{mbps:g}" for mbps in minima)
            for name, wanted in shares(mix, got).items():
                tolerance = SHARE_TOLERANCE_RATIO
                yield _reading("weighted shares", case, name, wanted, read[name], tolerance)
            together = Rate(
                sum(got.values()),
                sum(rate.offered_mbps for rate in read.values()),
                read[LIMITED].seconds,
            )
            yield _reading("link (all queues)", case, "all", LINK_MBPS, together)


def _reading(
    mechanism: str,
    case: str,
    name: str,
    set_mbps: float,
    rate: Rate,
    tolerance_ratio: float = RATE_TOLERANCE_RATIO,
) -> Reading:
    return Reading(
        mechanism, case, name, set_mbps, rate.mbps, rate.offered_mbps, rate.seconds, tolerance_ratio
    )


@contextmanager
def on_testbed() -> Iterator[tuple[RunFolder, Inventory, Northbound]]:
    testbed("up", "shares", "--policy", "static")
    try:
        run = running()
        yield run, Inventory.load(run.inventory), Northbound(run)
    finally:
        testbed("down")


def measure(seconds: float, every: int) -> list[Reading]:
    found = []
    with on_testbed() as (run, inventory, api):
        measuring = Measuring(run, inventory, api, seconds, every)
        for part in (measuring.shaping, measuring.ceilings, measuring.policing, measuring.mixes):
            for reading in part():
                found.append(reading)
                print(
                    f"{reading.mechanism:26s} {reading.case:18s} {reading.slice_name:7s}"
                    f"{reading.set_mbps:9.3f}{reading.measured_mbps:10.3f} Mbit/s"
                    f"{100 * reading.error_ratio:8.2f} %  (allowed "
                    f"{100 * reading.tolerance_ratio:g} %)"
                    f"{reading.words}",
                    flush=True,
                )
    return found


def verdict_of(readings: list[Reading]) -> dict[str, Any]:
    worst: dict[str, float] = {}
    for reading in readings:
        error = abs(reading.error_ratio)
        worst[reading.mechanism] = max(worst.get(reading.mechanism, 0.0), round(error, 5))
    return {"worst_error_ratio": worst, "holds": all(r.holds for r in readings)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each reading")
    parser.add_argument("--every", type=int, default=1, help="only each N-th case")
    options = parser.parse_args()
    print(f"{'mechanism':26s} {'case':18s} {'slice':7s}{'set':>9s}{'measured':>10s}")
    readings = measure(options.seconds, options.every)
    verdict = verdict_of(readings)
    print(verdict)
    figures = {"readings": [r.as_json() for r in readings], "verdict": verdict}
    print(f"written to {write('shares', figures)}")
    return 0 if verdict["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""A minimal xApp: reserves for each slice what it asked for in the last window, plus headroom.

Copy the folder, rename it in config-file.json, change `plan`.
"""

import sys
import time
from pathlib import Path

from holon_xapp import CellEvent, PlannedReservation, ReservationPlan, Xapp, XappError

FLOOR_KBPS = 200


def plan(event: CellEvent, headroom_ratio: float) -> tuple[PlannedReservation, ...] | None:
    """What each slice shall hold in this cell, or None when what it holds will do."""
    wanted = [max(FLOOR_KBPS, s.demand_kbps * (1 + headroom_ratio)) for s in event.slices]
    fit = min(1.0, event.reservable_kbps / sum(wanted)) if wanted else 1.0
    held = [s.reservation.min_kbps for s in event.slices]
    if all(abs(fit * w - h) <= 0.2 * h for w, h in zip(wanted, held, strict=True)):
        return None
    planned = []
    for item, kbps in zip(event.slices, wanted, strict=True):
        # One decision may raise a rate by at most 100 % and 2 Mbit/s; the guard refuses more.
        min_kbps = int(min(fit * kbps, 2 * item.reservation.min_kbps + 2000))
        max_kbps = int(min(1.3 * min_kbps + 200, 2 * item.reservation.max_kbps + 2000))
        max_kbps = min(max_kbps, int(event.capacity_kbps))
        planned.append(PlannedReservation(item.s_nssai, item.traffic_class, min_kbps, max_kbps))
    return tuple(planned)


def main() -> int:
    try:
        xapp = Xapp.from_environment(Path(__file__).resolve().parent)
        headroom_ratio = float(xapp.settings.config.get("headroom_ratio", 0.25))
        xapp.ready()
        for event in xapp.cells():
            reservations = plan(event, headroom_ratio)
            if reservations is None:
                continue
            decision = xapp.decide(ReservationPlan.answering(event, reservations, time.time_ns()))
            print(f"{event.cell_id}: {decision.verdict} {decision.reason}", flush=True)
    except (XappError, ValueError) as error:
        print(f"xapp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Metrics of the RIC in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.ric.state import Ric

Sample = tuple[Mapping[str, str], float]


def exposition(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
    return lines


def escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def metrics_text(ric: Ric) -> str:
    decisions, centre = ric.decisions, ric.centre
    lines = [
        *exposition("holon_ric_ready", "gauge", "1 once slices are installed.",
                    [({}, float(ric.progress.ready))]),
        *exposition("holon_decisions_total", "counter", "Decisions by verdict.",
                    [({"verdict": v}, n) for v, n in sorted(decisions.verdicts.items())]),
        *exposition("holon_decisions_refused_total", "counter", "Refusals by the rule failed.",
                    [({"rule": r}, n) for r, n in sorted(decisions.rules.items())]),
        *exposition("holon_effects_total", "counter", "Applied decisions by judged effect.",
                    [({"effect": e}, n) for e, n in sorted(decisions.effects.items())]),
        *exposition("holon_effects_open", "gauge", "Applied decisions not judged yet.",
                    [({}, ric.effects.open_count)]),
        *exposition("holon_aggregates_total", "counter", "Aggregates made into twins.",
                    [({}, centre.accepted)]),
        *exposition("holon_aggregates_refused_total", "counter", "Aggregates by why refused.",
                    [({"reason": r}, n) for r, n in sorted(centre.refused.items())]),
        *exposition("holon_aggregate_bytes_total", "counter", "UDP payload received.",
                    [({}, centre.bytes_received)]),
        *exposition("holon_stream_consumers", "gauge", "Open streams.",
                    [({}, len(centre.stream.subscriptions))]),
        *exposition("holon_stream_dropped_total", "counter", "Events lost by slow consumers.",
                    [({}, centre.stream.dropped)]),
        *exposition("holon_counter_failures_total", "counter", "Failed reads of the switches.",
                    [({}, ric.poller.failures)]),
        *exposition("holon_notices_unreached_total", "counter", "Handovers a process missed.",
                    [({"process": p}, n) for p, n in sorted(ric.notices.unreached.items())]),
        *exposition("holon_log_lines_lost_total", "counter", "Lines the disk did not take.",
                    [({}, ric.lost_lines)]),
        *exposition("holon_repairs_total", "counter", "What was repaired or refused, by kind.",
                    [({"kind": k}, n) for k, n in sorted(ric.enforcer.repair_counts().items())]),
        *exposition("holon_alarms", "gauge", "Alarms right now.", [({}, len(ric.alarms()))]),
        *exposition("holon_reserved_kbps", "gauge", "Guaranteed rate of a slice in a cell.",
                    reserved_samples(ric)),
        *exposition("holon_xapp_state", "gauge", "1 for the state that an xApp is in.",
                    [({"xapp": str(x["xapp_name"]), "state": str(x["state"])}, 1.0)
                     for x in ric.xapps.documents()]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def reserved_samples(ric: Ric) -> Iterable[Sample]:
    names = {s.slice_id: str(s.s_nssai) for s in ric.inventory.slices}
    for cell in ric.inventory.cells:
        for r in ric.enforcer.reservations(cell.cell_id):
            if r.slice_id in names:
                labels = {
                    "cell": cell.cell_id,
                    "slice": names[r.slice_id],
                    "traffic_class": r.traffic_class.value,
                }
                yield labels, r.min_kbps

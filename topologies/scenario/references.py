"""What a scenario's schema cannot say: names that must exist, sums that must fit.

Works on plain data (a parsed file or a dumped model), skips what is malformed
(the schema reports that), and returns every problem with its path.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

Path = tuple[str | int, ...]
Item = tuple[Path, Mapping[str, Any]]

RESERVED_NAMES = ("air", "centre", "bg-src", "bg-sink")
DEFAULT_RESERVABLE_RATIO = 0.9


@dataclass(frozen=True)
class Problem:
    path: Path
    message: str


class BrokenScenario(ValueError):
    """Raised inside the schema's validation; keeps the paths of its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(p.message for p in problems))


def broken_references(document: Mapping[str, Any]) -> list[Problem]:
    """Every unresolved name, duplicate and impossible combination of a scenario document."""
    names = _Names.of(document)
    checks = (
        _unknown_names(document, names),
        _links_to_themselves(document),
        _sessions_missing(document),
        _protocol_mismatches(document),
        _task_mismatches(document),
        _impossible_swings(document),
        _reservations_too_large(document),
        _duplicates(document),
        _unknown_offset_cells(document, names),
    )
    return [problem for check in checks for problem in check]


def items(document: Mapping[str, Any], key: str) -> Iterator[Item]:
    """Well-formed elements of a list of mappings, with their paths."""
    elements = document.get(key)
    if isinstance(elements, (list, tuple)):
        for index, element in enumerate(elements):
            if isinstance(element, Mapping):
                yield (key, index), element


def strings(element: Mapping[str, Any], key: str) -> Iterator[tuple[Path, str]]:
    """The string at `key`, or those of the list there, with paths relative to `element`."""
    value = element.get(key)
    if isinstance(value, str):
        yield (key,), value
    elif isinstance(value, (list, tuple)):
        for index, text in enumerate(value):
            if isinstance(text, str):
                yield (key, index), text


@dataclass(frozen=True)
class _Names:
    access_points: list[str]
    switches: list[str]
    servers: list[str]
    edges: list[str]
    users: list[str]
    slices: list[str]
    services: list[str]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> _Names:
        access_points = _named(document, "access_points")
        edges = [
            str(s["name"])
            for _, s in items(document, "servers")
            if s.get("kind") == "edge" and isinstance(s.get("name"), str)
        ]
        return cls(
            access_points=access_points,
            switches=[*access_points, str(document.get("core", "core"))],
            servers=_named(document, "servers"),
            edges=edges,
            users=_named(document, "users"),
            slices=_named(document, "slices"),
            services=_named(document, "services"),
        )


def _named(document: Mapping[str, Any], key: str) -> list[str]:
    return [str(e["name"]) for _, e in items(document, key) if isinstance(e.get("name"), str)]


def unknown(value: str, known: Collection[str], what: str) -> str:
    """`unknown slice 'embd'; did you mean 'embb'? known: embb, urllc`."""
    close = get_close_matches(value, list(known), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {value!r}; {hint}known: {', '.join(sorted(known)) or 'none'}"


def _unknown_names(document: Mapping[str, Any], names: _Names) -> Iterator[Problem]:
    centre_or_edges = ["centre", *names.edges]
    rules: list[tuple[str, str, list[str], str]] = [
        ("access_points", "edge", names.edges, "edge server"),
        ("links", "between", names.switches, "switch"),
        ("servers", "attach", names.switches, "switch"),
        ("users", "slices", names.slices, "slice"),
        ("slices", "cells", names.access_points, "access point"),
        ("services", "slice", names.slices, "slice"),
        ("services", "host", names.servers, "server"),
        ("services", "candidates", names.servers, "server"),
        ("initial_reservations", "access_point", names.access_points, "access point"),
        ("initial_reservations", "slice", names.slices, "slice"),
        ("static_reservations", "access_point", names.access_points, "access point"),
        ("static_reservations", "slice", names.slices, "slice"),
        ("traffic", "service", names.services, "service"),
        ("traffic", "users", names.users, "user"),
        ("probes", "service", names.services, "service"),
        ("probes", "users", names.users, "user"),
        ("requests", "service", names.services, "service"),
        ("requests", "users", names.users, "user"),
        ("requests", "alternatives", names.services, "service"),
        ("xapps", "placement", centre_or_edges, "placement"),
    ]
    for key, field, known, what in rules:
        for path, element in items(document, key):
            for where, value in strings(element, field):
                if value not in known:
                    yield Problem((*path, *where), unknown(value, known, what))
    for where, value in strings(document, "bottlenecks"):
        if value not in names.access_points:
            yield Problem(where, unknown(value, names.access_points, "access point"))


def _links_to_themselves(document: Mapping[str, Any]) -> Iterator[Problem]:
    for path, element in items(document, "links"):
        ends = [name for _, name in strings(element, "between")]
        if len(ends) == 2 and ends[0] == ends[1]:
            yield Problem(
                (*path, "between"), f"a link from {ends[0]!r} to itself; name two switches"
            )


def _unknown_offset_cells(document: Mapping[str, Any], names: _Names) -> Iterator[Problem]:
    """Cells named in `cell_offsets_db`, of the scenario and of single users."""
    for path, owner in [((), document), *items(document, "users")]:
        handover = owner.get("handover")
        offsets = handover.get("cell_offsets_db") if isinstance(handover, Mapping) else None
        for cell in offsets if isinstance(offsets, Mapping) else ():
            if cell not in names.access_points:
                message = unknown(str(cell), names.access_points, "access point")
                yield Problem((*path, "handover", "cell_offsets_db", cell), message)


def _sessions_missing(document: Mapping[str, Any]) -> Iterator[Problem]:
    slice_of = {s.get("name"): s.get("slice") for _, s in items(document, "services")}
    slices_of = {u.get("name"): u.get("slices") for _, u in items(document, "users")}
    for key in ("traffic", "probes", "requests"):
        for path, element in items(document, key):
            wanted = slice_of.get(element.get("service"))
            for where, user in strings(element, "users"):
                has = slices_of.get(user)
                if wanted and isinstance(has, (list, tuple)) and wanted not in has:
                    message = f"user {user!r} has no session in slice {wanted!r} of service "
                    message += f"{element['service']!r}; its slices: {', '.join(map(str, has))}"
                    yield Problem((*path, *where), message)


def _protocol_mismatches(document: Mapping[str, Any]) -> Iterator[Problem]:
    protocol_of = {s.get("name"): s.get("protocol", "udp") for _, s in items(document, "services")}
    for key in ("traffic", "probes"):
        for path, element in items(document, key):
            service = element.get("service")
            wanted = "tcp" if element.get("kind") == "tcp" else "udp"
            if protocol_of.get(service, wanted) != wanted:
                message = f"needs a service of protocol {wanted}; {service!r} has "
                message += f"{protocol_of[service]}"
                yield Problem((*path, "service"), message)


def _task_mismatches(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Requests go to task services, traffic and probes to the others; state fits its server."""
    services = {s.get("name"): s for _, s in items(document, "services")}
    tasks = {name for name, s in services.items() if s.get("kind") == "task"}
    for key in ("traffic", "probes", "requests"):
        for path, element in items(document, key):
            name = element.get("service")
            if name in services and (name in tasks) != (key == "requests"):
                word = "needs" if key == "requests" else "cannot use"
                message = f"{word} a service of kind task; {name!r} is of kind "
                message += "task" if name in tasks else "flow"
                yield Problem((*path, "service"), message)
    for path, element in items(document, "requests"):
        wanted = services.get(element.get("service"), {}).get("slice")
        for where, name in strings(element, "alternatives"):
            if name in services and (name not in tasks or services[name].get("slice") != wanted):
                message = f"an alternative is of kind task and in slice {wanted!r}; {name!r} is not"
                yield Problem((*path, *where), message)
    memory = {s.get("name"): _number(s.get("memory_bytes")) for _, s in items(document, "servers")}
    used: dict[Any, float] = {}
    for path, service in items(document, "services"):
        if service.get("name") not in tasks:
            continue
        if service.get("protocol", "udp") != "udp":
            yield Problem((*path, "protocol"), "a service of kind task speaks udp")
        host = service.get("host")
        used[host] = used.get(host, 0) + _number(service.get("state_bytes", 1 << 20))
        if used[host] > memory.get(host, math.nan):
            message = f"{used[host]:.0f} bytes of state in {host!r}, whose memory_bytes is "
            yield Problem((*path, "host"), f"{message}{memory[host]:.0f}")


def _impossible_swings(document: Mapping[str, Any]) -> Iterator[Problem]:
    for path, element in items(document, "traffic"):
        demand = element.get("demand")
        if not isinstance(demand, Mapping) or demand.get("shape") != "swing":
            continue
        low, high = _number(demand.get("low_mbps")), _number(demand.get("high_mbps"))
        if low > high:
            message = f"{low:g} is above high_mbps {high:g}; swap them"
            yield Problem((*path, "demand", "low_mbps"), message)
        ramp, period = _number(demand.get("ramp_s", 2.0)), _number(demand.get("period_s"))
        share = _number(demand.get("high_ratio", 0.4))
        if 2 * ramp > (1 - share) * period:
            message = f"two ramps of {ramp:g} s and {share:g} of the period high do not fit in "
            message += f"period_s {period:g}; at most {(1 - share) * period / 2:g}"
            yield Problem((*path, "demand", "ramp_s"), message)


def _reservations_too_large(document: Mapping[str, Any]) -> Iterator[Problem]:
    ratio = _number(document.get("reservable_ratio", DEFAULT_RESERVABLE_RATIO))
    rate_of = {
        a.get("name"): _number(a.get("down_mbps")) for _, a in items(document, "access_points")
    }
    for key in ("initial_reservations", "static_reservations"):
        sums_mbps: dict[str, float] = {}
        for path, element in items(document, key):
            cell = element.get("access_point")
            low, high = _number(element.get("min_mbps")), _number(element.get("max_mbps"))
            if high < low:
                yield Problem((*path, "max_mbps"), f"{high:g} is below min_mbps {low:g}")
            rate = rate_of.get(cell, math.nan)
            if not isinstance(cell, str) or math.isnan(low):
                continue
            before_mbps = sums_mbps.get(cell, 0.0)
            sums_mbps[cell] = before_mbps + low
            limit_mbps = ratio * rate + 1e-9
            if before_mbps <= limit_mbps < sums_mbps[cell] and rate > 0:
                message = f"reservations of {cell} exceed {ratio * rate:g} Mbit/s here "
                message += f"(reservable_ratio {ratio} of down_mbps {rate:g})"
                yield Problem((*path, "min_mbps"), message)


def _number(value: Any) -> float:
    """The value as a number; nan, which fails every comparison, when it is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def _duplicates(document: Mapping[str, Any]) -> Iterator[Problem]:
    network = [
        ((*path, "name"), element.get("name"))
        for key in ("access_points", "servers", "users")
        for path, element in items(document, key)
    ]
    core = str(document.get("core", "core"))
    yield from _repeated(network, "name", {core, *RESERVED_NAMES})
    slices = list(items(document, "slices"))
    for field in ("name", "slice_id"):
        yield from _repeated([((*p, field), s.get(field)) for p, s in slices], field)
    identities = [((*p, "s_nssai"), _s_nssai(s.get("s_nssai"))) for p, s in slices]
    yield from _repeated(identities, "S-NSSAI")
    for key in ("services", "traffic"):
        yield from _repeated(
            [((*p, "name"), e.get("name")) for p, e in items(document, key)], f"name in {key}"
        )
    for key in ("initial_reservations", "static_reservations"):
        pairs = [
            ((*p, "slice"), (e.get("access_point"), e.get("slice")))
            for p, e in items(document, key)
        ]
        yield from _repeated(pairs, "reservation for")


def _s_nssai(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    return f"{value.get('sst')}-{str(value.get('sd', 'ffffff')).lower()}"


def _repeated(
    values: list[tuple[Path, Any]], what: str, taken: Collection[str] = ()
) -> Iterator[Problem]:
    seen: set[Any] = set()
    for path, value in values:
        if value is None or isinstance(value, (list, dict)):
            continue
        if value in seen:
            yield Problem(path, f"duplicate {what} {value!r}; it must be unique")
        elif value in taken:
            yield Problem(path, f"{what} {value!r} is taken by the testbed itself; choose another")
        seen.add(value)

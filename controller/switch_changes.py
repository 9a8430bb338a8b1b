"""What Ryu does with one switch: apply a change in order and read it back, read, count.

Order of a change: meters added and modified, barrier, read back; flows in one
atomic bundle with the groups, barrier, read back; meters no flow uses any more, deleted last.
A push too large for one bundle is several, additions first: committing one stops
Open vSwitch's forwarding in userspace mode, and its echoes, for as long as it is large.
What each of them added is read back with it, by a generation of its own.  What was deleted is
read back last: Open vSwitch looks for it at every rule of the table that is left.
A meter's counters start anew when it is modified, so they are read in the same
write, directly before (nothing is forwarded between two messages of one write in
userspace mode), and kept in `Retired`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from controller import openflow as of
from controller.switch_program import (
    GENERATION_MASK,
    KIND_AND_SLICE_MASK,
    KIND_MASK,
    OWNER_COOKIE,
    OWNER_MASK,
    Kind,
    cookie_of,
    match_of,
)
from controller.switch_session import ExchangeFailed, SwitchSession

Document = Mapping[str, Any]
Retired = dict[int, dict[str, int]]
"""Meter id -> counters of its earlier lives."""

_BUNDLED = (
    "groups_add", "groups_modify", "flows_add", "aliens_delete", "flows_delete", "groups_delete",
)  # fmt: skip
"""In this order."""
BUNDLE_MESSAGES = 1000
"""In one bundle. Open vSwitch commits about a hundred thousand a second."""
_PART_SHIFT = 24
"""Where a generation has the number of the bundle; changes of one run stay below."""
_SHARES = [
    (part << _PART_SHIFT | change, 7 << _PART_SHIFT | 7) for part in range(8) for change in range(8)
]
"""(cookie, mask) that tell all flows there are apart by when they were written."""
_ALL_BITS = 2**64 - 1
_INTERNAL_TABLE = 254
"""Open vSwitch's own flows, with cookie 0; shown only to who asks for exactly that cookie."""
_GROUPS_AT = 1
"""Place of the groups among what is read back."""
_READ_BACK_AT = 2
"""Place of what is read back behind a commit: the commit and its barrier come first."""
_EXACT_FLOW = ("actions", "metadata", "meter_id", "goto")


class ReadBackDiffers(Exception):
    """The barrier came back, but the switch shows something else than was sent."""


def apply_change(
    session: SwitchSession, change: Document, generation: int, retired: Retired
) -> None:
    """Make it and confirm it. Raises `ExchangeFailed`, `ReadBackDiffers`."""
    if change["meters_add"] or change["meters_modify"]:
        _set_meters(session, change, retired)
    if any(change[name] for name in _BUNDLED):
        _replace_flows(session, change, generation)
    if change["meters_delete"]:
        _delete_meters(session, change["meters_delete"], retired)


def _set_meters(session: SwitchSession, change: Document, retired: Retired) -> None:
    dp = session.datapath
    modified, added = change["meters_modify"], change["meters_add"]
    messages = []
    for meter in modified:
        messages += [
            of.meter_stats_request(dp, meter["meter_id"]),
            of.meter_change(dp, "modify", meter),
        ]
    messages += [of.meter_change(dp, "add", meter) for meter in added]
    messages.append(of.barrier(dp))
    wanted = [*modified, *added]
    messages += [of.meter_config_request(dp, meter["meter_id"]) for meter in wanted]
    answers = session.exchange(messages)
    for index, meter in enumerate(modified):
        _retire(retired, meter["meter_id"], answers[2 * index])
    for meter, replies in zip(wanted, answers[-len(wanted) :], strict=True):
        _confirm_meter(meter, replies)


def _confirm_meter(meter: Document, replies: list[Any]) -> None:
    found = [of.meter_read(config) for reply in replies for config in reply.body]
    if found != [dict(meter)]:
        raise ReadBackDiffers(f"meter {meter['meter_id']}: sent {dict(meter)}, read {found}")


def _retire(retired: Retired, meter_id: int, replies: list[Any]) -> None:
    kept = retired.setdefault(meter_id, {})
    for reply in replies:
        for stats in reply.body:
            for name, count in of.meter_counters(stats).items():
                kept[name] = kept.get(name, 0) + count


def _delete_meters(session: SwitchSession, meters: list[Document], retired: Retired) -> None:
    dp = session.datapath
    messages = []
    for meter in meters:
        messages += [
            of.meter_stats_request(dp, meter["meter_id"]),
            of.meter_change(dp, "delete", meter),
        ]
    answers = session.exchange([*messages, of.barrier(dp), of.meter_config_request(dp)])
    for index, meter in enumerate(meters):
        _retire(retired, meter["meter_id"], answers[2 * index])
    left = {config.meter_id for reply in answers[-1] for config in reply.body}
    still = left & {meter["meter_id"] for meter in meters}
    if still:
        raise ReadBackDiffers(f"meters {sorted(still)} were deleted and are still there")


def _replace_flows(session: SwitchSession, change: Document, generation: int) -> None:
    """Part by part: all messages of a large push at once would be gigabytes."""
    deleted = list(_slices(change["flows_delete"])) or [[]]
    parts = list(_parts(change))
    for number, part in enumerate(parts):
        own = (generation + (number << _PART_SHIFT)) & GENERATION_MASK
        is_last = number == len(parts) - 1
        gone = deleted[0] if is_last else []
        mods = list(session.pace.through(_mods(session.datapath, part, own)))
        answers = _commit(session, mods, own, _read_back(session, part, own, gone))
        _confirm(session, part, gone, answers)
    for gone in deleted[1:]:
        readers = dict.fromkeys(range(len(gone)), _flows_of)
        _confirm_deleted(session, gone, session.exchange(_looks(session, gone), readers=readers))


def _parts(change: Document) -> Iterator[dict[str, list[Any]]]:
    """The change in changes of at most `BUNDLE_MESSAGES`, in the order in which they are made."""
    part: dict[str, list[Any]] = {name: [] for name in _BUNDLED}
    room = BUNDLE_MESSAGES
    for name in _BUNDLED:
        left = change[name]
        while left:
            part[name], left = left[:room], left[room:]
            room -= len(part[name])
            if not room:
                yield part
                part, room = {name: [] for name in _BUNDLED}, BUNDLE_MESSAGES
    if room < BUNDLE_MESSAGES:
        yield part


def _slices(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), BUNDLE_MESSAGES):
        yield items[start : start + BUNDLE_MESSAGES]


def _mods(dp: Any, change: Document, generation: int) -> Iterator[Any]:
    """As `_BUNDLED` has them."""
    yield from (of.group_change(dp, "add", group) for group in change["groups_add"])
    yield from (of.group_change(dp, "modify", group) for group in change["groups_modify"])
    yield from (of.flow_add(dp, flow, generation) for flow in change["flows_add"])
    yield from (of.flows_delete(dp, cookie) for cookie in change["aliens_delete"])
    yield from (of.flow_delete(dp, flow) for flow in change["flows_delete"])
    # Last: deleting a group deletes the flows that still point to it.
    yield from (of.group_change(dp, "delete", group) for group in change["groups_delete"])


def _commit(
    session: SwitchSession, mods: list[Any], bundle_id: int, read_back: Sequence[Any] = ()
) -> list[list[Any]]:
    """All of them or none; the answers to `read_back`. Raises `ExchangeFailed`."""
    dp = session.datapath
    # What is read back rides behind the commit's barrier: one journey less, in the same order.
    batch = [of.bundle_commit(dp, bundle_id), of.barrier(dp), *read_back]
    places = range(_READ_BACK_AT, len(batch))
    readers = {i: _flows_of for i in places if i != _READ_BACK_AT + _GROUPS_AT}
    try:
        session.exchange(of.bundle_of(dp, bundle_id, mods))
        return session.exchange(batch, readers=readers)[_READ_BACK_AT:]
    except ExchangeFailed:
        _discard(session, bundle_id)
        raise


def _read_back(
    session: SwitchSession, change: Document, generation: int, gone: list[Document]
) -> list[Any]:
    dp = session.datapath
    return [
        of.flows_request(dp, OWNER_COOKIE | generation, OWNER_MASK | GENERATION_MASK),
        of.groups_request(dp),
        *(of.flows_request(dp, cookie, _ALL_BITS) for cookie in change["aliens_delete"]),
        *_looks(session, gone),
    ]


def _looks(session: SwitchSession, gone: list[Document]) -> list[Any]:
    return [of.flows_request(session.datapath, flow=f) for f in session.pace.through(gone)]


def _confirm(
    session: SwitchSession, change: Document, gone: list[Document], answers: list[list[Any]]
) -> None:
    """Raises `ReadBackDiffers`."""
    aliens = change["aliens_delete"]
    _confirm_added(session, change["flows_add"], answers[0])
    _confirm_groups(change, answers[_GROUPS_AT])
    flows_left = answers[_GROUPS_AT + 1 :]
    for cookie, replies in zip(aliens, flows_left, strict=False):
        left = {flow["table_id"] for reply in replies for flow in reply}
        if left - {_INTERNAL_TABLE}:
            raise ReadBackDiffers(f"flows with cookie {cookie:#x} were deleted and are still there")
    _confirm_deleted(session, gone, flows_left[len(aliens) :])


def _confirm_deleted(
    session: SwitchSession, gone: list[Document], answers: list[list[Any]]
) -> None:
    for flow, replies in session.pace.through(zip(gone, answers, strict=True)):
        if any(_key(flow) == _key(left) for reply in replies for left in reply):
            raise ReadBackDiffers(f"flow {_key(flow)} was deleted and is still there")


def _confirm_groups(change: Document, replies: list[Any]) -> None:
    found = {group["group_id"]: group for group in _groups(replies)}
    for group in (*change["groups_add"], *change["groups_modify"]):
        seen = found.get(group["group_id"])
        if seen != group:
            raise ReadBackDiffers(f"group {group['group_id']}: sent {group}, read {seen}")
    still = found.keys() & {group["group_id"] for group in change["groups_delete"]}
    if still:
        raise ReadBackDiffers(f"groups {sorted(still)} were deleted and are still there")


def _groups(replies: list[Any]) -> list[dict[str, Any]]:
    return [of.group_read(stats) for reply in replies for stats in reply.body]


def _discard(session: SwitchSession, bundle_id: int) -> None:
    """A bundle whose commit failed is gone already; then the switch says so."""
    try:
        session.exchange([of.bundle_discard(session.datapath, bundle_id)])
    except ExchangeFailed:
        return


def _confirm_added(
    session: SwitchSession, added: list[Document], replies: list[list[dict[str, Any]]]
) -> None:
    installed = (flow for reply in replies for flow in reply)
    found = {_key(flow): flow for flow in session.pace.through(installed)}
    for flow in session.pace.through(added):
        seen = found.get(_key(flow))
        if seen is None:
            raise ReadBackDiffers(f"flow {_key(flow)} was added and is not there")
        sent = {name: flow[name] for name in _EXACT_FLOW}
        read = {name: seen[name] for name in _EXACT_FLOW}
        if sent != read:
            raise ReadBackDiffers(f"flow {_key(flow)}: sent {sent}, read {read}")


def _flows_of(reply: Any) -> list[dict[str, Any]]:
    return [of.flow_read(stats) for stats in reply.body]


def _encoded_flows_of(reply: Any) -> list[orjson.Fragment]:
    """One by one: encoding many at once would keep everybody waiting."""
    return [orjson.Fragment(orjson.dumps(flow)) for flow in _flows_of(reply)]


def _key(flow: Document) -> tuple[Any, ...]:
    return flow["table_id"], flow["priority"], match_of(flow["match"])


def read_program(session: SwitchSession) -> dict[str, Any]:
    """All flows (encoded already), groups and meters of the switch, in the plain form."""
    dp = session.datapath
    totals, groups, meters = session.exchange(
        [of.flow_totals_request(dp, 0, 0), of.groups_request(dp), of.meter_config_request(dp)]
    )
    count = sum(reply.body.flow_count for reply in totals)
    flows: list[list[Any]] = []
    # A switch that has said more than it was heard hears no echo, and takes us for dead.
    for cookie, mask in _SHARES if count > BUNDLE_MESSAGES else ((0, 0),):
        (replies,) = session.exchange(
            [of.flows_request(dp, cookie, mask)], readers={0: _encoded_flows_of}
        )
        flows += replies
    return {
        "flows": [flow for reply in flows for flow in reply],
        "groups": _groups(groups),
        "meters": [of.meter_read(config) for reply in meters for config in reply.body],
    }


def read_counters(session: SwitchSession, cookies: list[int], retired: Retired) -> dict[str, Any]:
    """Ports, queues, meters (earlier lives included) and totals of flows by cookie."""
    dp = session.datapath
    totals = [of.flow_totals_request(dp, c, OWNER_MASK | KIND_AND_SLICE_MASK) for c in cookies]
    ports, queues, meters, users, *flows = session.exchange(
        [
            of.port_stats_request(dp),
            of.queue_stats_request(dp),
            of.meter_stats_request(dp),
            of.flows_request(dp, cookie_of(Kind.USER, 0), OWNER_MASK | KIND_MASK),
            *totals,
        ]
    )
    return {
        "ports": {str(s.port_no): of.port_counters(s) for r in ports for s in r.body},
        "queues": [of.queue_counters(s) for r in queues for s in r.body],
        "meters": _with_earlier_lives(meters, retired),
        "users": [
            {"match": of.match_read(s.match), "bytes": s.byte_count} for r in users for s in r.body
        ],
        "flows": [
            {
                "cookie": cookie,
                "packets": sum(r.body.packet_count for r in replies),
                "bytes": sum(r.body.byte_count for r in replies),
            }
            for cookie, replies in zip(cookies, flows, strict=True)
        ],
    }


def _with_earlier_lives(replies: list[Any], retired: Retired) -> dict[str, dict[str, int]]:
    found = {i: dict(c) for i, c in retired.items()}
    for reply in replies:
        for stats in reply.body:
            kept = found.setdefault(stats.meter_id, {})
            for name, count in of.meter_counters(stats).items():
                kept[name] = kept.get(name, 0) + count
    return {str(meter_id): counters for meter_id, counters in found.items()}

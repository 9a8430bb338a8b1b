"""Plain flows and meters to OpenFlow 1.3 messages of Ryu, and back. Builds, never sends.

The plain forms are the JSON of `switch_program.py` (`Flow.as_json`, `Meter.as_json`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser

Message = Any
Datapath = Any
Document = Mapping[str, Any]

_GROUP_KINDS = {"fast_failover": ofp.OFPGT_FF, "indirect": ofp.OFPGT_INDIRECT}
_ALL_METERS = ofp.OFPM_ALL
_WHOLE_COOKIE = 2**64 - 1
_ATOMIC = ofp.ONF_BF_ATOMIC | ofp.ONF_BF_ORDERED
_EXPERIMENTER_ERROR = 0xFFFF
_BUNDLE_ERRORS = {
    2300: "unknown", 2301: "permission denied", 2302: "bad bundle id", 2303: "bundle exists",
    2304: "bundle closed", 2305: "out of bundles", 2306: "bad type", 2307: "bad flags",
    2308: "bad length", 2309: "bad xid", 2310: "message not allowed in a bundle",
    2311: "message conflict", 2312: "too many messages", 2313: "a message of the bundle failed",
    2314: "timeout", 2315: "bundle in progress",
}  # fmt: skip

# -- requests ------------------------------------------------------------------


def barrier(dp: Datapath) -> Message:
    return parser.OFPBarrierRequest(dp)


def meter_change(dp: Datapath, command: str, meter: Document) -> Message:
    """`command`: add, modify or delete. One drop band, kbit/s, burst always set."""
    commands = {"add": ofp.OFPMC_ADD, "modify": ofp.OFPMC_MODIFY, "delete": ofp.OFPMC_DELETE}
    bands = []
    if command != "delete":
        bands = [parser.OFPMeterBandDrop(rate=meter["rate_kbps"], burst_size=meter["burst_kbit"])]
    flags = ofp.OFPMF_KBPS | ofp.OFPMF_BURST | ofp.OFPMF_STATS
    return parser.OFPMeterMod(dp, commands[command], flags, meter["meter_id"], bands)


def meter_config_request(dp: Datapath, meter_id: int | None = None) -> Message:
    return parser.OFPMeterConfigStatsRequest(dp, 0, _ALL_METERS if meter_id is None else meter_id)


def meter_stats_request(dp: Datapath, meter_id: int | None = None) -> Message:
    return parser.OFPMeterStatsRequest(dp, 0, _ALL_METERS if meter_id is None else meter_id)


def flow_add(dp: Datapath, flow: Document, generation: int) -> Message:
    """Adds, or replaces what has the same table, priority and match."""
    return parser.OFPFlowMod(
        dp,
        cookie=flow["cookie"] | generation,
        table_id=flow["table_id"],
        command=ofp.OFPFC_ADD,
        priority=flow["priority"],
        match=_match(flow["match"]),
        instructions=_instructions(flow),
    )


def flow_delete(dp: Datapath, flow: Document) -> Message:
    return parser.OFPFlowMod(
        dp,
        table_id=flow["table_id"],
        command=ofp.OFPFC_DELETE_STRICT,
        priority=flow["priority"],
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=_match(flow["match"]),
    )


def flows_delete(dp: Datapath, cookie: int) -> Message:
    """Every flow of every table that carries exactly this cookie."""
    return parser.OFPFlowMod(
        dp,
        cookie=cookie,
        cookie_mask=_WHOLE_COOKIE,
        table_id=ofp.OFPTT_ALL,
        command=ofp.OFPFC_DELETE,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=_match({}),
    )


def group_change(dp: Datapath, command: str, group: Document) -> Message:
    """`command`: add, modify or delete."""
    commands = {"add": ofp.OFPGC_ADD, "modify": ofp.OFPGC_MODIFY, "delete": ofp.OFPGC_DELETE}
    buckets = []
    if command != "delete":
        buckets = [
            parser.OFPBucket(
                watch_port=ofp.OFPP_ANY if b["watch_port"] is None else b["watch_port"],
                watch_group=ofp.OFPG_ANY if b["watch_group"] is None else b["watch_group"],
                actions=[_action(a) for a in b["actions"]],
            )
            for b in group["buckets"]
        ]
    kind = _GROUP_KINDS[group["kind"]]
    return parser.OFPGroupMod(dp, commands[command], kind, group["group_id"], buckets)


def groups_request(dp: Datapath) -> Message:
    return parser.OFPGroupDescStatsRequest(dp, 0)


def bundle_of(dp: Datapath, bundle_id: int, messages: Iterable[Message]) -> list[Message]:
    """Opens a bundle and puts the messages in; nothing happens until it is committed.

    A message that the switch refuses here is left out of the bundle and would not
    stop the commit: look at the errors first, then commit or discard.
    """
    added = [parser.ONFBundleAddMsg(dp, bundle_id, _ATOMIC, m, []) for m in messages]
    return [_bundle_control(dp, bundle_id, ofp.ONF_BCT_OPEN_REQUEST), *added]


def bundle_commit(dp: Datapath, bundle_id: int) -> Message:
    """All or nothing: one message that fails now rolls the others back."""
    return _bundle_control(dp, bundle_id, ofp.ONF_BCT_COMMIT_REQUEST)


def bundle_discard(dp: Datapath, bundle_id: int) -> Message:
    return _bundle_control(dp, bundle_id, ofp.ONF_BCT_DISCARD_REQUEST)


def _bundle_control(dp: Datapath, bundle_id: int, kind: int) -> Message:
    return parser.ONFBundleCtrlMsg(dp, bundle_id, kind, _ATOMIC, [])


def flows_request(
    dp: Datapath, cookie: int = 0, cookie_mask: int = 0, flow: Document | None = None
) -> Message:
    """All flows with that cookie, or those at least as specific as `flow` in its table."""
    return parser.OFPFlowStatsRequest(
        dp,
        0,
        ofp.OFPTT_ALL if flow is None else flow["table_id"],
        ofp.OFPP_ANY,
        ofp.OFPG_ANY,
        cookie,
        cookie_mask,
        _match({} if flow is None else flow["match"]),
    )


def flow_totals_request(dp: Datapath, cookie: int, cookie_mask: int) -> Message:
    """Packets and bytes of all flows with that cookie, summed by the switch."""
    return parser.OFPAggregateStatsRequest(
        dp, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, cookie_mask, _match({})
    )


def port_stats_request(dp: Datapath) -> Message:
    return parser.OFPPortStatsRequest(dp, 0, ofp.OFPP_ANY)


def queue_stats_request(dp: Datapath) -> Message:
    return parser.OFPQueueStatsRequest(dp, 0, ofp.OFPP_ANY, ofp.OFPQ_ALL)


# -- answers -------------------------------------------------------------------


def flow_read(stats: Any) -> dict[str, Any]:
    """A flow-stats entry in the plain form, its cookie with generation."""
    plain: dict[str, Any] = {
        "table_id": stats.table_id,
        "priority": stats.priority,
        "match": match_read(stats.match),
        "cookie": stats.cookie,
        "actions": [],
        "metadata": None,
        "meter_id": None,
        "goto": None,
    }
    for instruction in stats.instructions:
        kind = instruction.type
        if kind == ofp.OFPIT_GOTO_TABLE:
            plain["goto"] = instruction.table_id
        elif kind == ofp.OFPIT_WRITE_METADATA:
            plain["metadata"] = [instruction.metadata, instruction.metadata_mask]
        elif kind == ofp.OFPIT_METER:
            plain["meter_id"] = instruction.meter_id
        elif kind == ofp.OFPIT_APPLY_ACTIONS:
            plain["actions"] = [_action_read(a) for a in instruction.actions]
        else:
            plain["actions"].append(["unknown_instruction", kind])
    return plain


def match_read(match: Any) -> dict[str, int | str]:
    return {name: _plain(value) for name, value in match.items()}


def group_read(stats: Any) -> dict[str, Any]:
    """A group description in the plain form; one of a type that we never make has no buckets
    and so never equals one of ours."""
    kinds = {number: name for name, number in _GROUP_KINDS.items()}
    buckets = [
        {
            "actions": [_action_read(a) for a in b.actions],
            "watch_port": None if b.watch_port == ofp.OFPP_ANY else b.watch_port,
            "watch_group": None if b.watch_group == ofp.OFPG_ANY else b.watch_group,
        }
        for b in stats.buckets
    ]
    return {
        "group_id": stats.group_id,
        "kind": kinds.get(stats.type, "fast_failover"),
        "buckets": buckets if stats.type in kinds else [],
    }


def meter_read(config: Any) -> dict[str, int]:
    """A meter-config entry in the plain form; a foreign shape never equals one of ours."""
    if len(config.bands) != 1 or not config.flags & ofp.OFPMF_KBPS:
        return {"meter_id": config.meter_id, "rate_kbps": -1, "burst_kbit": -1}
    band = config.bands[0]
    return {
        "meter_id": config.meter_id,
        "rate_kbps": band.rate,
        "burst_kbit": band.burst_size,
    }


def meter_counters(stats: Any) -> dict[str, int]:
    return {
        "packets": stats.packet_in_count,
        "bytes": stats.byte_in_count,
        "drop_packets": sum(b.packet_band_count for b in stats.band_stats),
        "drop_bytes": sum(b.byte_band_count for b in stats.band_stats),
    }


def port_counters(stats: Any) -> dict[str, int]:
    names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped")
    return {name: getattr(stats, name) for name in names}


def queue_counters(stats: Any) -> dict[str, int]:
    """`tx_errors` of a linux-htb queue are the packets its class dropped."""
    return {
        "port_no": stats.port_no,
        "queue_id": stats.queue_id,
        "tx_packets": stats.tx_packets,
        "tx_bytes": stats.tx_bytes,
        "drop_packets": stats.tx_errors,
    }


def error_words(error: Any) -> str:
    """An OFPErrorMsg in words, e.g. `OFPET_METER_MOD_FAILED: OFPMMFC_UNKNOWN_METER`."""
    if error.type == _EXPERIMENTER_ERROR:
        return f"bundle: {_BUNDLE_ERRORS.get(error.exp_type, error.exp_type)}"
    kind = ofp.ofp_error_type_to_str(error.type).partition("(")[0]
    code = ofp.ofp_error_code_to_str(error.type, error.code).partition("(")[0]
    return f"{kind}: {code}"


# -- parts ---------------------------------------------------------------------


def _match(fields: Mapping[str, int | str]) -> Any:
    return _match_of(tuple(fields.items()))


@lru_cache(maxsize=4096)
def _match_of(fields: tuple[tuple[str, int | str], ...]) -> Any:
    """Never changed once it is made; switches share most, and making one is slow."""
    return parser.OFPMatch(**{name: _wire(value) for name, value in fields})


def _wire(value: int | str) -> Any:
    """ "value/mask" becomes a pair, of numbers where they are written in hexadecimal."""
    if isinstance(value, int) or "/" not in value:
        return value
    first, _, mask = value.partition("/")
    return (int(first, 0), int(mask, 0)) if first.startswith("0x") else (first, mask)


def _plain(value: Any) -> int | str:
    if not isinstance(value, tuple):
        return value  # type: ignore[no-any-return]
    first, mask = value
    return f"{first:#x}/{mask:#x}" if isinstance(first, int) else f"{first}/{mask}"


def _instructions(flow: Document) -> list[Any]:
    """In OpenFlow's order of execution."""
    found = []
    if flow["meter_id"] is not None:
        found.append(parser.OFPInstructionMeter(flow["meter_id"], ofp.OFPIT_METER))
    if flow["actions"]:
        actions = [_action(a) for a in flow["actions"]]
        found.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions))
    if flow["metadata"] is not None:
        found.append(parser.OFPInstructionWriteMetadata(*flow["metadata"]))
    if flow["goto"] is not None:
        found.append(parser.OFPInstructionGotoTable(flow["goto"]))
    return found


def _action(action: list[Any]) -> Any:
    kind, *operands = action
    if kind == "output":
        return parser.OFPActionOutput(operands[0], 0)
    if kind == "set_queue":
        return parser.OFPActionSetQueue(operands[0])
    if kind == "group":
        return parser.OFPActionGroup(operands[0])
    if kind == "set_field":
        return parser.OFPActionSetField(**{operands[0]: operands[1]})
    raise ValueError(f"unknown action {kind!r}; known: output, group, set_queue, set_field")


def _action_read(action: Any) -> list[Any]:
    if action.type == ofp.OFPAT_OUTPUT:
        return ["output", action.port]
    if action.type == ofp.OFPAT_GROUP:
        return ["group", action.group_id]
    if action.type == ofp.OFPAT_SET_QUEUE:
        return ["set_queue", action.queue_id]
    if action.type == ofp.OFPAT_SET_FIELD:
        return ["set_field", action.key, action.value]
    return ["unknown_action", action.type]

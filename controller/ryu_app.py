"""The Ryu application: switches on one side, a Unix socket of the RIC on the other.

Sends and receives, decides nothing and installs nothing by itself: on a connect
it only takes note, and the RIC asks what is there and sends the difference.

Ops of `ryu.sock` (JSON lines as in contracts/rpc.py); switches are named by dpid:
- `status {}` -> {boot, switches: {dpid: connection number}, refused: {reason: connections},
  last_refusal, dead_ports: {dpid: [port_no]}}: without carrier, or silent to BFD
- `read {dpid}` -> {flows, groups, meters}
- `stage {generation, dpid, section, items}`: a part of a change too large for one line
- `change {generation, changes: {dpid: Change.as_json()}}` -> {dpid: {confirmed, detail,
  at_ns, retired}}, all switches at once, each with what was staged for it
- `counters {cookies: {dpid: [cookie]}}` -> {dpid: {ports, queues, meters, flows}}
- `restore {retired: {dpid: {meter_id: counters}}}`: meters' earlier lives, which a
  fresh process does not know
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from ryu import cfg
from ryu.base import app_manager
from ryu.controller import controller as ryu_controller
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

from controller import openflow
from controller.contracts.run_folder import RunFolder
from controller.pacing import Pace, Uncollected
from controller.ryu_launcher import RUN_FOLDER_VARIABLE
from controller.switch_admission import Admission
from controller.switch_changes import (
    ReadBackDiffers,
    Retired,
    apply_change,
    read_counters,
    read_program,
)
from controller.switch_session import ExchangeFailed, SwitchSession

_ECHO_INTERVAL_S = 1.0
_UNREPLIED_ECHOES = 2
_SOCKET_TIMEOUT_S = 1.0
"""A peer that does not read, or is gone without a word, is let go after about 4 s."""

# Ryu by default never notices a dead peer. Set here, after it has parsed its options.
cfg.CONF.set_override("echo_request_interval", _ECHO_INTERVAL_S)
cfg.CONF.set_override("maximum_unreplied_echo_requests", _UNREPLIED_ECHOES)
cfg.CONF.set_override("socket_timeout", _SOCKET_TIMEOUT_S)


def _admission(run: RunFolder) -> Admission:
    log = logging.getLogger(__name__)
    known = [switch["dpid"] for switch in orjson.loads(run.inventory.read_bytes())["switches"]]
    return Admission(known, time.monotonic, Pace(_let_others_work), log.warning)


def _let_others_work() -> None:
    hub.sleep(0)


def _guard_connections(admission: Admission) -> None:
    """Put the guard between every accepted socket and Ryu, which looks its factory up by name."""
    serve_switch = ryu_controller.datapath_connection_factory

    def serve_guarded(sock: Any, address: Any) -> None:
        with contextlib.closing(admission.guard(sock, address)) as guarded:
            serve_switch(guarded, address)

    ryu_controller.datapath_connection_factory = serve_guarded


_RUN = RunFolder(Path(os.environ[RUN_FOLDER_VARIABLE]))
_ADMISSION = _admission(_RUN)
_guard_connections(_ADMISSION)


class SliceEnforcement(app_manager.RyuApp):  # type: ignore[misc]
    """Keeps one `SwitchSession` per connected switch and answers the RIC."""

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._boot = f"{os.getpid()}-{time.time_ns()}"
        self._sessions: dict[int, SwitchSession] = {}
        self._connections = 0
        self._retired: dict[int, Retired] = {}
        self._uncollected = Uncollected()
        self._staged: dict[int, tuple[int, dict[str, list[Any]]]] = {}
        """Datapath id -> (generation, parts of its change by section)."""
        self._ops: dict[str, Callable[..., Any]] = {
            "status": self.status,
            "read": self.read,
            "stage": self.stage,
            "change": self.change,
            "counters": self.counters,
            "restore": self.restore,
        }

    def start(self) -> Any:
        gc.collect()
        gc.freeze()  # Ryu's own objects live as long as it does: nobody needs to look at them
        hub.spawn(serve, _RUN.ryu_socket, self._ops)
        return super().start()

    # -- switches -----------------------------------------------------------

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_state_change(self, event: Any) -> None:
        dp = event.datapath
        if event.state == MAIN_DISPATCHER:
            self._connections += 1
            self._sessions[dp.id] = SwitchSession(
                dp, self._connections, openflow.barrier, hub.Event, Pace(_let_others_work)
            )
            self.logger.info("switch %s connected", dp.id)
        elif dp.id in self._sessions and self._sessions[dp.id].datapath is dp:
            self._sessions.pop(dp.id).lose()
            self.logger.info("switch %s disconnected", dp.id)

    def _dead_ports(self) -> dict[str, list[int]]:
        """Ryu keeps each port's last description, from the handshake and port-status messages."""
        return {
            str(dpid): [
                number
                for number, port in session.datapath.ports.items()
                if number < ofproto_v1_3.OFPP_MAX and not port.state & ofproto_v1_3.OFPPS_LIVE
            ]
            for dpid, session in self._sessions.items()
        }

    @set_ev_cls(  # type: ignore[untyped-decorator]
        [
            ofp_event.EventOFPBarrierReply,
            ofp_event.EventOFPMeterConfigStatsReply,
            ofp_event.EventOFPMeterStatsReply,
            ofp_event.EventOFPFlowStatsReply,
            ofp_event.EventOFPGroupDescStatsReply,
            ofp_event.EventOFPAggregateStatsReply,
            ofp_event.EventOFPPortStatsReply,
            ofp_event.EventOFPQueueStatsReply,
        ],
        MAIN_DISPATCHER,
    )
    def on_reply(self, event: Any) -> None:
        session = self._session_of(event.msg)
        if session is not None:
            session.deliver(event.msg.xid, event.msg)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_error(self, event: Any) -> None:
        reason = openflow.error_words(event.msg)
        self.logger.warning("switch %s: %s", event.msg.datapath.id, reason)
        session = self._session_of(event.msg)
        if session is not None:
            session.fail(event.msg.xid, reason)

    def _session_of(self, message: Any) -> SwitchSession | None:
        session = self._sessions.get(message.datapath.id)
        return session if session and session.datapath is message.datapath else None

    def _session(self, dpid: int) -> SwitchSession:
        if dpid not in self._sessions:
            raise ExchangeFailed(f"switch {dpid} is not connected")
        return self._sessions[dpid]

    # -- ops ----------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return {
            "boot": self._boot,
            "switches": {str(d): s.number for d, s in self._sessions.items()},
            "dead_ports": self._dead_ports(),
            "refused": dict(_ADMISSION.refused),
            "last_refusal": _ADMISSION.last_refusal,
        }

    def read(self, dpid: int) -> dict[str, Any]:
        with self._uncollected:
            return read_program(self._session(dpid))

    def stage(self, generation: int, dpid: int, section: str, items: list[Any]) -> None:
        """What was staged for a change that never came is thrown away by the next.

        No garbage is collected until then: ever more flows would be looked at again and again.
        """
        if dpid not in self._staged:
            self._uncollected.begin()
        known, sections = self._staged.get(dpid, (0, {}))
        if known != generation:
            sections = {}
        self._staged[dpid] = generation, sections
        sections.setdefault(section, []).extend(items)

    def _whole(self, dpid: int, generation: int, change: Mapping[str, Any]) -> dict[str, Any]:
        """The change with what was staged for it."""
        staged_for, sections = self._staged.pop(dpid, (generation, {}))
        if staged_for != generation:
            sections = {}
        return {**change, **{n: [*items, *change[n]] for n, items in sections.items()}}

    def change(self, generation: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        def one(dpid: str, change: Mapping[str, Any]) -> dict[str, Any]:
            retired = self._retired.setdefault(int(dpid), {})
            detail = ""
            with self._uncollected:
                if int(dpid) in self._staged:
                    self._uncollected.end()
                whole = self._whole(int(dpid), generation, change)
                try:
                    apply_change(self._session(int(dpid)), whole, generation, retired)
                except (ExchangeFailed, ReadBackDiffers) as error:
                    detail = str(error)
                pace = Pace(_let_others_work)
                for items in whole.values():
                    pace.drop(items)
            return {
                "confirmed": not detail,
                "detail": detail,
                "at_ns": time.time_ns(),
                "retired": {str(i): counters for i, counters in retired.items()},
            }

        return _at_once(one, changes)

    def counters(self, cookies: Mapping[str, list[int]]) -> dict[str, Any]:
        def one(dpid: str, wanted: list[int]) -> dict[str, Any]:
            retired = self._retired.setdefault(int(dpid), {})
            try:
                return read_counters(self._session(int(dpid)), wanted, retired)
            except ExchangeFailed as error:
                return {"error": str(error)}

        return _at_once(one, cookies)

    def restore(self, retired: Mapping[str, Mapping[str, dict[str, int]]]) -> None:
        for dpid, meters in retired.items():
            self._retired[int(dpid)] = {int(i): dict(c) for i, c in meters.items()}


def _at_once(work: Callable[[str, Any], Any], items: Mapping[str, Any]) -> dict[str, Any]:
    """`work` on every item in a green thread of its own."""
    results: dict[str, Any] = {}

    def run(key: str, value: Any) -> None:
        try:
            results[key] = work(key, value)
        except Exception as error:  # process boundary: the caller gets the reason
            results[key] = {"confirmed": False, "error": repr(error), "detail": repr(error)}

    if len(items) == 1:  # the common case of a reservation: no thread to start
        run(*next(iter(items.items())))
    else:
        hub.joinall([hub.spawn(run, key, value) for key, value in items.items()])
    return results


# -- the socket ------------------------------------------------------------------


def serve(path: Path, ops: Mapping[str, Callable[..., Any]]) -> None:
    """JSON lines over a Unix socket, a green thread per connection."""
    path.unlink(missing_ok=True)
    listener = hub.listen(str(path), family=socket.AF_UNIX)
    while True:
        connection, _ = listener.accept()
        hub.spawn(_converse, connection, ops)


def _converse(connection: Any, ops: Mapping[str, Callable[..., Any]]) -> None:
    lines = connection.makefile("rb")
    try:
        for line in lines:
            connection.sendall(_answer(line, ops) + b"\n")
    except OSError:
        pass  # the client is gone
    finally:
        lines.close()
        connection.close()


def _answer(line: bytes, ops: Mapping[str, Callable[..., Any]]) -> bytes:
    try:
        request = orjson.loads(line)
        op = request.pop("op")
        if op not in ops:
            raise KeyError(f"unknown op {op!r}; known: {', '.join(sorted(ops))}")
        return orjson.dumps({"ok": True, "result": ops[op](**request)})
    except Exception as error:  # process boundary: the caller gets the reason
        return orjson.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"})

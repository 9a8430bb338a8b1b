"""What local controllers tell user agents over the network: settings of the twin model, polls.

One UDP datagram of JSON in slice 0, from the collector's address to the agent's:
`{"settings": AgentSettings}` or `{"poll": true}`.  Anything else, or from anybody
else, changes nothing.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from controller.contracts.addressing import COLLECTOR_IP, COLLECTOR_UDP_PORT
from controller.contracts.twin_messages import MAX_REPORT_PERIOD_MS, MIN_REPORT_PERIOD_MS
from controller.contracts.twin_models import AgentSettings, Upload

MAX_ORDER_BYTES = 2048
_WAIT_MS = 200
USE_CASE = ("heading_deg", "odometer_m", "operations")
"""Fields that a report has only where its twin model asks for them."""


class BadOrder(ValueError):
    """A datagram that is no order of a local controller."""


def first_settings(period_ms: int) -> AgentSettings:
    """How an agent works until a local controller says otherwise."""
    return AgentSettings(
        version=0, period_ms=period_ms, upload=Upload.PUSH, batch_reports=1, every={}, precision={}
    )


def parse_order(payload: bytes, source: tuple[str, int]) -> AgentSettings | None:
    """Settings, or None for a poll.  Raises `BadOrder`."""
    if source != (COLLECTOR_IP, COLLECTOR_UDP_PORT) or len(payload) > MAX_ORDER_BYTES:
        raise BadOrder("not from a local controller, or too long")
    try:
        document = orjson.loads(payload)
        if document == {"poll": True}:
            return None
        return AgentSettings.model_validate_json(json.dumps(document["settings"]))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadOrder(str(error)) from None


def rounded(value: float, step: float) -> float:
    """To the nearest multiple of `step`, without the tail of binary fractions; 0: as it is."""
    return value if step == 0 else round(round(value / step) * step, 9)


def fitted(report: dict[str, Any], settings: AgentSettings, in_full: bool) -> dict[str, Any]:
    """The report as the twin model wants it: rounded, without what is not due in this window.

    `in_full`: with everything, as the first report of an agent or of new settings is.
    """
    window, precision = report["window"], settings.precision

    def is_due(name: str) -> bool:
        return in_full or window % settings.every.get(name, 1) == 0

    fitted_report = {
        **report,
        "settings_version": settings.version,
        "rsrp_dbm": {
            cell: rounded(dbm, precision.get("rsrp_dbm", 0.0))
            for cell, dbm in (report["rsrp_dbm"].items() if is_due("rsrp_dbm") else ())
        },
        "flows": [_fitted_flow(flow, precision) for flow in report["flows"]],
    }
    for name in ("position_m", "speed_mps"):
        if not is_due(name):
            del fitted_report[name]
    for name in USE_CASE:
        if name in settings.every and is_due(name) and name in report:
            fitted_report[name] = rounded(report[name], precision.get(name, 0.0))
        else:
            fitted_report.pop(name, None)
    if "speed_mps" in fitted_report:
        fitted_report["speed_mps"] = rounded(report["speed_mps"], precision.get("speed_mps", 0.0))
    if "position_m" in fitted_report:
        step = precision.get("position_m", 0.0)
        fitted_report["position_m"] = [rounded(x, step) for x in report["position_m"]]
    if settings.upload is Upload.BATCH:
        fitted_report["batch_reports"] = settings.batch_reports
    return fitted_report


def _fitted_flow(flow: Mapping[str, Any], precision: Mapping[str, float]) -> dict[str, Any]:
    return {
        name: rounded(value, precision[name]) if name in precision and value is not None else value
        for name, value in flow.items()
    }


def checked_period_ms(period_ms: object) -> int:
    """ValueError for what no agent can report at."""
    low_ms, high_ms = MIN_REPORT_PERIOD_MS, MAX_REPORT_PERIOD_MS
    if type(period_ms) is not int or not low_ms <= period_ms <= high_ms:
        raise ValueError(
            f"report_period_ms {period_ms!r}: a whole number of {low_ms}-{high_ms} ms is right"
        )
    return period_ms


class OrderReceiver:
    """A thread that waits on all users' sockets; `handle` gets user's index, datagram, source."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        handle: Callable[[int, bytes, tuple[str, int]], None],
    ) -> None:
        self._sockets = {opened.fileno(): (i, opened) for i, opened in enumerate(sockets)}
        self._handle = handle
        self._ending = threading.Event()
        self._poll = select.epoll()
        for descriptor in self._sockets:
            self._poll.register(descriptor, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            for descriptor, _ in self._poll.poll(_WAIT_MS / 1000):
                index, opened = self._sockets[descriptor]
                try:
                    payload, source = opened.recvfrom(MAX_ORDER_BYTES + 1)
                except OSError:  # nothing after all, or an ICMP error of an earlier report
                    continue
                self._handle(index, payload, source)

    def close(self) -> None:
        self._ending.set()
        self._thread.join(timeout=2)
        self._poll.close()

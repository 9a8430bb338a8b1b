"""The xApp's end of the northbound API: stream in, decisions out, kept-alive connections.

Not safe for several threads: give each its own `Xapp`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import urllib3

from holon_xapp.decisions import ANSWER_TIMEOUT_S, REJECTED, Decision, Plan
from holon_xapp.errors import ApiError, ModelError, Unreachable
from holon_xapp.events import (
    CellEvent,
    Event,
    PolicyEvent,
    SliceEvent,
    UserEvent,
    parse_event,
)
from holon_xapp.model import Model, find_model_folder, load_model
from holon_xapp.settings import Settings
from holon_xapp.stream import Backoff, lines_of

CONNECT_TIMEOUT_S = 3.0
SILENCE_TIMEOUT_S = 60.0
"""A stream without an event for so long is opened anew."""
REFUSALS = (404, 409, 422, 429)
"""Answers that concern one decision; the next one may be fine."""

log = logging.getLogger("holon_xapp")


class Xapp:
    """One xApp and its two connections.  `folder` holds its descriptor and code."""

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        self.settings = settings
        self.folder = folder or Path.cwd()
        self._pool = _pool(settings.token)

    @classmethod
    def from_environment(cls, folder: Path | None = None) -> Self:
        """As the testbed starts it: settings, a log on stdout, and an orderly end on SIGTERM.

        Raises `SettingsError`.
        """
        settings = Settings.from_environment()
        logging.basicConfig(
            level=logging.INFO,
            stream=sys.stdout,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        signal.signal(signal.SIGTERM, _leave)
        return cls(settings, folder)

    def close(self) -> None:
        """Closes the connection for decisions."""
        self._pool.clear()

    @property
    def name(self) -> str:
        return self.settings.name

    def ready(self) -> None:
        """Tells the testbed that the xApp works.  Raises `ApiError`, `Unreachable`."""
        self._call("POST", f"/api/v1/xapps/{self.name}/ready")

    def health(self) -> dict[str, Any]:
        """The RIC's own state.  Raises `ApiError`, `Unreachable`."""
        document: dict[str, Any] = self._call("GET", "/api/v1/health")
        return document

    def twin(self, kind: str, twin_id: str) -> dict[str, Any]:
        """A twin's document; `kind`: users, slices or cells.  Raises `ApiError`, `Unreachable`."""
        document: dict[str, Any] = self._call("GET", f"/api/v1/twins/{kind}/{twin_id}")
        return document

    def model(self, name: str) -> Model:
        """A model that the descriptor names, loaded and warm.  Raises `ModelError`."""
        stated = {Path(m["path"]).parent.name: m for m in self._descriptor_models()}
        if name not in stated:
            known = ", ".join(stated) or "none"
            raise ModelError(f"the descriptor names no model {name!r}; it names: {known}")
        folder = find_model_folder(stated[name]["path"], self.folder)
        return load_model(folder, sha256=stated[name]["sha256"])

    def _descriptor_models(self) -> list[dict[str, Any]]:
        path = self.folder / "config-file.json"
        try:
            models: list[dict[str, Any]] = json.loads(path.read_bytes())["holon"]["models"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} names no models: {error!r}") from None
        return models

    def services(self) -> list[dict[str, Any]]:
        """Name, host, candidates, users, state_bytes, ... of every service of the moment."""
        return list(self._call("GET", "/api/v1/services"))

    def topology(self) -> dict[str, Any]:
        """Switches, hosts and links (with rate and delay).  Raises `ApiError`, `Unreachable`."""
        return dict(self._call("GET", "/api/v1/topology"))

    def cell_list(self) -> list[dict[str, Any]]:
        """Cells with their edge, position, capacity and users."""
        return list(self._call("GET", "/api/v1/cells"))

    def decide(self, plan: Plan, dry_run: bool = False) -> Decision:
        """Raises `ApiError` for what no other decision would cure, `Unreachable`.

        What the RIC refuses comes back as a rejected `Decision`, with the reason.
        Sent again once when the connection broke: the decision's id makes that harmless.
        """
        decision_id = f"{self.name[:31]}-{uuid.uuid4().hex}"
        body = {**plan.request(), "xapp": self.name, "decision_id": decision_id}
        if dry_run:
            body["dry_run"] = True
        timeout_s = plan.answer_timeout_s
        try:
            response = self._send("POST", "/api/v1/decisions", body, timeout_s)
        except Unreachable:
            response = self._send("POST", "/api/v1/decisions", body, timeout_s)
        document = _document(response)
        if response.status in REFUSALS:
            return _refused(decision_id, response.status, document)
        _raise_for(response.status, document)
        return Decision.from_record(document)

    def subscribe(
        self, kind: str = "cell", ids: Iterable[str] | None = None, period_ms: int = 0
    ) -> Generator[Event, None, None]:
        """Events without end, reconnecting when the stream breaks.

        `ids`: only these cells, slices or users (None: all).  `period_ms`: at most one
        event per id in that time.  Raises `ApiError` (a wrong kind, a token that
        is no longer valid) and `EventError`.
        """
        wanted = None if ids is None else frozenset(ids)
        backoff = Backoff()
        while True:
            try:
                for line in self._stream_lines(kind, wanted, period_ms):
                    backoff.reset()
                    event = parse_event(line)
                    if wanted is None or _id_of(event) in wanted:
                        yield event
                reason = "the RIC closed it"
            except (urllib3.exceptions.HTTPError, Unreachable) as error:
                reason = str(error)
            wait_s = backoff.take_s()
            log.warning("stream interrupted (%s); again in %.1f s", reason, wait_s)
            time.sleep(wait_s)

    def cells(self, ids: Iterable[str] | None = None) -> Generator[CellEvent, None, None]:
        """`subscribe("cell")`, typed."""
        for event in self.subscribe("cell", ids):
            if isinstance(event, CellEvent):
                yield event

    def users(
        self, ids: Iterable[str] | None = None, period_ms: int = 0
    ) -> Generator[UserEvent, None, None]:
        """`subscribe("user")`, typed: user twins with their forecasts, as they change."""
        for event in self.subscribe("user", ids, period_ms):
            if isinstance(event, UserEvent):
                yield event

    def policies(self) -> Generator[PolicyEvent, None, None]:
        """A1 policies of the types that the descriptor names: those that stand, then changes.

        In a thread of its own with an `Xapp` of its own, beside the loop over cells.
        """
        for event in self.subscribe("policy"):
            if isinstance(event, PolicyEvent):
                yield event

    def answer(self, policy: PolicyEvent, status: str = "OK", reason: str = "") -> None:
        """What became of it: OK (it is enforced from now on), ERROR with the reason, DELETED.

        Raises `ApiError`, `Unreachable`.
        """
        said = {
            "policy_type_id": policy.policy_type_id,
            "policy_instance_id": policy.policy_instance_id,
            "handler_id": self.name,
            "status": status,
            "revision": policy.revision,
            "reason": reason,
        }
        self._call("POST", "/api/v1/policy-replies", said)

    def _stream_lines(
        self, kind: str, wanted: frozenset[str] | None, period_ms: int
    ) -> Iterator[bytes]:
        fields: dict[str, str] = {"kind": kind}
        if period_ms:
            fields["period_ms"] = str(period_ms)
        if wanted is not None and len(wanted) == 1:
            fields["id"] = next(iter(wanted))
        # A pool of its own: the other's connection would be busy while a decision is due.
        with _pool(self.settings.token) as pool:
            response = pool.request(
                "GET",
                f"{self.settings.url}/api/v1/stream",
                fields=fields,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=SILENCE_TIMEOUT_S),
                preload_content=False,
            )
            try:
                if response.status >= 500 or response.status == 409:
                    raise Unreachable(f"{response.status}: {_text(response)}")
                if response.status != 200:
                    _raise_for(response.status, _document(response))
                # None: every chunk as it arrives, whatever its size.
                yield from lines_of(response.stream(None))
            finally:
                response.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._send(method, path, body)
        document = _document(response)
        _raise_for(response.status, document)
        return document

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method,
                self.settings.url + path,
                json=body,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{method} {path}: {error}") from None


def _pool(token: str) -> urllib3.PoolManager:
    """Directly to the RIC, whatever proxy the machine has; asks once, and follows nobody."""
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    return urllib3.PoolManager(headers=headers, retries=False)


def _text(response: urllib3.BaseHTTPResponse) -> str:
    return response.data[:200].decode("utf-8", "replace")


def _document(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        return response.json()
    except ValueError:
        return {"error": _text(response)}


def _raise_for(status: int, document: Any) -> None:
    if status < 400:
        return
    said = document if isinstance(document, dict) else {}
    message, hint = str(said.get("error", "no reason given")), str(said.get("hint", ""))
    if status >= 500:
        raise Unreachable(f"{status}: {message}")
    raise ApiError(status, message, hint)


def _refused(decision_id: str, status: int, document: Any) -> Decision:
    said = document if isinstance(document, dict) else {}
    if "verdict" in (said.get("decision") or {}):
        return Decision.from_record(said["decision"], status)
    return Decision(decision_id, REJECTED, str(said.get("error", "no reason given")), status)


def _id_of(event: Event) -> str:
    if isinstance(event, CellEvent):
        return event.cell_id
    if isinstance(event, UserEvent):
        return event.ue_id
    if isinstance(event, PolicyEvent):
        return f"{event.policy_type_id}/{event.policy_instance_id}"
    return event.slice_key if isinstance(event, SliceEvent) else event.decision_id


def _leave(_: int, __: FrameType | None) -> None:
    log.info("asked to end")
    raise SystemExit(0)

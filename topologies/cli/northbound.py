"""The RIC's REST API as the operator's commands use it: one request, with the token.

By the standard library alone: every command waits for what it imports.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from controller.contracts.run_folder import RunFolder, current_run
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused

TIMEOUT_S = 15.0
_SAFE_IN_TARGET = "!$%&'()*+,/:;=?@[]~"
"""Callers quote names themselves where a slash or a question mark would mislead."""


def running() -> RunFolder:
    """The testbed that is up; refused when there is none."""
    run = current_run()
    if run is None or not run.inventory.exists():
        raise CommandRefused("no testbed is up; start one with ./testbed.sh up minimal")
    return run


def northbound_port(run: RunFolder) -> int:
    """Read without the inventory's schema, which takes longer to load than the answer to come."""
    return int(orjson.loads(run.inventory.read_bytes())["northbound_tcp_port"])


class NotFound(CommandRefused):
    """The API knows nothing under that path."""


class Northbound:
    """The API of a run's RIC. Any answer other than 2xx is `CommandRefused`."""

    def __init__(self, run: RunFolder, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._port = northbound_port(run)
        self.url = f"http://127.0.0.1:{self._port}"
        self._headers = {"Authorization": f"Bearer {run.token.read_text().strip()}"}

    def get(self, path: str, **parameters: Any) -> Any:
        return self._exchange("GET", path, parameters=parameters).json()

    def post(self, path: str, body: Any) -> Any:
        return self._exchange("POST", path, body).json()

    def patch(self, path: str, body: Any) -> Any:
        return self._exchange("PATCH", path, body).json()

    def put(self, path: str, body: Any = None) -> Any:
        return self._exchange("PUT", path, body).json()

    def delete(self, path: str) -> Any:
        return self._exchange("DELETE", path).json()

    def _exchange(
        self, method: str, path: str, body: Any = None, parameters: Mapping[str, Any] | None = None
    ) -> Answer:
        """`path`: below /api/v1, or from the root when it begins with a slash."""
        from_root = path if path.startswith("/") else f"/api/v1/{path}"
        target = quote(from_root, safe=_SAFE_IN_TARGET)
        if parameters:
            target += f"?{urlencode(parameters)}"
        try:
            with terminal.signs_of_life("waiting for the RIC"):
                answer = self._send(method, target, body)
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
            raise CommandRefused(
                f"the RIC does not answer at {self.url}{target} ({reason}); see ./testbed.sh status"
            ) from error
        if not 200 <= answer.status < 300:
            kind = NotFound if answer.status == 404 else CommandRefused
            raise kind(reason_of(answer))
        return answer

    def _send(self, method: str, target: str, body: Any) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self.timeout_s)
        content, headers = None, self._headers
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers = {**headers, "Content-Type": "application/json"}
        try:
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, answer.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    """What the API said, whole."""

    status: int
    reason: str
    content: bytes

    def json(self) -> Any:
        """ValueError when it is none."""
        return json.loads(self.content)


def reason_of(answer: Answer) -> str:
    """The API's own words about a refusal, on one line: what was wrong; what would be right."""
    try:
        body = answer.json()
        words = (body["error"], body["hint"])
    except (ValueError, TypeError, KeyError):
        text = answer.content.decode(errors="replace")
        words = (answer.reason or "no reason given", text[:200])
    return "; ".join(" ".join(str(word).split()) for word in words if word)


@contextmanager
def northbound(timeout_s: float = TIMEOUT_S) -> Iterator[Northbound]:
    """`with northbound() as api:` on the testbed that is up."""
    yield Northbound(running(), timeout_s)

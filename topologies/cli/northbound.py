"""The RIC's REST API as the operator's commands use it: one request, with the token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from controller.contracts.inventory import Inventory
from controller.contracts.run_folder import RunFolder, current_run
from topologies.cli import terminal
from topologies.cli.errors import CommandRefused

TIMEOUT_S = 15.0


def running() -> RunFolder:
    """The testbed that is up; refused when there is none."""
    run = current_run()
    if run is None or not run.inventory.exists():
        raise CommandRefused("no testbed is up; start one with ./testbed.sh up minimal")
    return run


class NotFound(CommandRefused):
    """The API knows nothing under that path."""


class Northbound:
    """A session with the RIC of a run. Any answer other than 2xx is `CommandRefused`."""

    def __init__(self, run: RunFolder, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        port = Inventory.load(run.inventory).northbound_tcp_port
        self.url = f"http://127.0.0.1:{port}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the user's must not see loopback calls
        self._session.headers["Authorization"] = f"Bearer {run.token.read_text().strip()}"

    def get(self, path: str, **parameters: Any) -> Any:
        return self._exchange("GET", path, params=parameters).json()

    def post(self, path: str, body: Any) -> Any:
        return self._exchange("POST", path, json=body).json()

    def patch(self, path: str, body: Any) -> Any:
        return self._exchange("PATCH", path, json=body).json()

    def put(self, path: str, body: Any = None) -> Any:
        return self._exchange("PUT", path, json=body).json()

    def delete(self, path: str) -> Any:
        return self._exchange("DELETE", path).json()

    def close(self) -> None:
        self._session.close()

    def _exchange(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """`path`: below /api/v1, or from the root when it begins with a slash."""
        url = self.url + (path if path.startswith("/") else f"/api/v1/{path}")
        try:
            with terminal.signs_of_life("waiting for the RIC"):
                answer = self._session.request(method, url, timeout=self.timeout_s, **arguments)
        except requests.RequestException as error:
            reason = type(error).__name__
            raise CommandRefused(
                f"the RIC does not answer at {url} ({reason}); see ./testbed.sh status"
            ) from error
        if not answer.ok:
            kind = NotFound if answer.status_code == 404 else CommandRefused
            raise kind(reason_of(answer))
        return answer


def reason_of(answer: requests.Response) -> str:
    """The API's own words about a refusal, on one line: what was wrong; what would be right."""
    try:
        body = answer.json()
        words = (body["error"], body["hint"])
    except (requests.JSONDecodeError, TypeError, KeyError):
        words = (answer.reason or "no reason given", answer.text[:200])
    return "; ".join(" ".join(str(word).split()) for word in words if word)


@contextmanager
def northbound(timeout_s: float = TIMEOUT_S) -> Iterator[Northbound]:
    """`with northbound() as api:` on the testbed that is up."""
    api = Northbound(running(), timeout_s)
    try:
        yield api
    finally:
        api.close()

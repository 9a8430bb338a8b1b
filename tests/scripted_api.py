"""A real HTTP/1.1 server on loopback that answers as a test scripts it: for clients of the API."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ScriptedApi:
    """What it will answer, in order, and what it was asked.

    `streams`: the chunks of each successive stream; `answers`: status and document of
    each successive request (without any, 200 and {}).
    """

    streams: list[list[bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    requests: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    hold: threading.Event = field(default_factory=threading.Event)
    """Streams stay open until this is set, once their chunks are out."""
    drop_next: bool = False
    url: str = ""


@contextlib.contextmanager
def scripted_api() -> Iterator[ScriptedApi]:
    state = ScriptedApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _note(self, body: Any) -> None:
            state.requests.append((self.command, self.path, body, dict(self.headers)))
            state.connections.add(self.client_address[1])

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            self._note(json.loads(text) if text else None)
            if state.drop_next:
                state.drop_next = False
                self.close_connection = True
                return
            self._answer(*(state.answers.pop(0) if state.answers else (200, {})))

        def do_GET(self) -> None:
            self._note(None)
            if not self.path.startswith("/api/v1/stream"):
                self._answer(200, {"ready": True})
                return
            if state.answers:
                self._answer(*state.answers.pop(0))
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            remaining = state.streams.pop(0) if state.streams else []
            for chunk in remaining:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if not state.streams:
                state.hold.wait(10)
            self.close_connection = True

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.hold.set()
        http.shutdown()
        http.server_close()
        thread.join()

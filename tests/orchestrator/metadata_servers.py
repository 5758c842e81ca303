"""Metadata servers of the clouds, as far as their documentation describes what a preempted machine sees."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, str]
NOT_FOUND: Answer = (404, "")
FORBIDDEN: Answer = (403, "")
UNAUTHORIZED: Answer = (401, "")


@dataclass
class Aws:
    """IMDSv2: no word without a token, and a token that has run out is refused."""

    action: dict[str, str] | None = None
    tokens: list[str] = field(default_factory=list)

    def take_away(self) -> None:
        self.action = {"action": "terminate", "time": "2026-01-01T08:22:00Z"}

    def let_tokens_run_out(self) -> None:
        self.tokens = [f"{token} no more" for token in self.tokens]

    def answer(self, method: str, path: str, headers: Callable[[str], str | None]) -> Answer:
        if (method, path) == ("PUT", "/latest/api/token"):
            if headers("X-aws-ec2-metadata-token-ttl-seconds") is None:
                return 400, ""
            self.tokens.append(f"token-{len(self.tokens)}")
            return 200, self.tokens[-1]
        if headers("X-aws-ec2-metadata-token") not in self.tokens:
            return UNAUTHORIZED
        if path != "/latest/meta-data/spot/instance-action" or self.action is None:
            return NOT_FOUND
        return 200, json.dumps(self.action)


@dataclass
class Gcp:
    preempted: str = "FALSE"
    maintenance: str = "NONE"

    def take_away(self) -> None:
        self.preempted = "TRUE"

    def answer(self, method: str, path: str, headers: Callable[[str], str | None]) -> Answer:
        if method != "GET" or headers("Metadata-Flavor") != "Google":
            return FORBIDDEN
        values = {"preempted": self.preempted, "maintenance-event": self.maintenance}
        value = values.get(path.removeprefix("/computeMetadata/v1/instance/"))
        return NOT_FOUND if value is None else (200, value)


@dataclass
class Azure:
    events: list[dict[str, object]] = field(default_factory=list)

    def take_away(self, vm: str = "this-vm", kind: str = "Preempt") -> None:
        self.events.append(
            {
                "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5",
                "EventType": kind,
                "ResourceType": "VirtualMachine",
                "Resources": [vm],
                "EventStatus": "Scheduled",
                "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT",
                "EventSource": "Platform",
            }
        )

    def answer(self, method: str, path: str, headers: Callable[[str], str | None]) -> Answer:
        if method != "GET" or headers("Metadata") != "true":
            return 400, ""
        if path.startswith("/metadata/instance/compute/name?"):
            return 200, "this-vm"
        if path.startswith("/metadata/scheduledevents?"):
            return 200, json.dumps({"DocumentIncarnation": len(self.events), "Events": self.events})
        return NOT_FOUND


@dataclass
class Talker:
    """Says the same to everything."""

    text: str

    def take_away(self) -> None:
        """It would not know."""

    def answer(self, *_: object) -> Answer:
        return 200, self.text


Cloud = Aws | Gcp | Azure | Talker


@contextmanager
def served(cloud: Cloud) -> Iterator[str]:
    """The server's address, while it serves what `cloud` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply()

        def do_PUT(self) -> None:
            self._reply()

        def _reply(self) -> None:
            code, body = cloud.answer(self.command, self.path, self.headers.get)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

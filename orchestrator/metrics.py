"""The optional metrics page: how the run is doing, in Prometheus' text format, served by its launcher.

A page is made from what is booked at that moment; nothing is measured for it. It is open to whoever reaches the
address, so a port alone is served to this host only.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final

from .accounting.keeping import goodput

if TYPE_CHECKING:
    from collections.abc import Iterator

Facts = Mapping[str, Any]
Samples = list[tuple[dict[str, str], float]]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_CLOSE_EVERY_S: Final = 0.1
"""How long the end of a run may wait for the server's."""


def page(facts: Facts, labels: Mapping[str, str]) -> str:
    """The facts that a bookkeeper tells, as Prometheus reads them. `labels` say whose they are."""
    alone: dict[str, str] = {}
    metrics: list[tuple[str, str, str, Samples]] = [
        ("info", "gauge", "Which run this is, and which launcher.", [(dict(labels), 1)]),
        ("step", "gauge", "The newest finished step; -1: none.", [(alone, facts["step"])]),
        ("committed_step", "gauge", "The newest committed step; -1: none.", [(alone, facts["committed_step"])]),
        ("attempt", "gauge", "Which start of the workers this is.", [(alone, facts["attempt"])]),
        (
            "seconds_total",
            "gauge",  # No counter: what has to be redone moves from productive to lost_work.
            "The launcher's time by category; the categories add up to its wall clock.",
            [({"category": str(heading)}, seconds) for heading, seconds in facts["seconds"].items()],
        ),
        ("wall_seconds_total", "counter", "The launcher's wall clock.", [(alone, facts["wall_s"])]),
        ("evaluation_seconds", "gauge", "Of the productive time, evaluation.", [(alone, facts["evaluation_s"])]),
        ("goodput_ratio", "gauge", "Productive time by wall clock.", [(alone, round(goodput(facts), 6))]),
        (
            "failures_total",
            "counter",
            "Failures by class.",
            [({"class": kind.lower()}, count) for kind, count in facts["failures"].items()],
        ),
        ("restarts_total", "counter", "Failures that a new step came after.", [(alone, facts["restarts"])]),
        ("steps_redone_total", "counter", "Steps that had to be done again.", [(alone, facts["steps_redone"])]),
    ]
    return "".join(_metric(f"relight_{name}", kind, what, samples) for name, kind, what, samples in metrics)


def _metric(name: str, kind: str, what: str, samples: Samples) -> str:
    lines = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, make: Callable[[], str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.make = make
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of the run's business."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # Seconds that a client may take to ask.
    server: _Server

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] in {"/metrics", "/"}
        body = (self.server.make() if found else "the metrics are at /metrics\n").encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Who asks is not said."""


@contextmanager
def served(address: str | None, make: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """Serve what `make` returns at `address` ("host:port") meanwhile; None: nowhere.

    An address that cannot be had is said once, and the run goes on without.
    """
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server = _Server(host.strip("[]"), int(port), make)
    except OSError as error:
        say(f"metrics.prometheus: {address} cannot be had, the run goes on without its metrics page: {error}")
        yield
        return
    with server:
        threading.Thread(target=server.serve_forever, args=(_CLOSE_EVERY_S,), name="metrics", daemon=True).start()
        say(f"metrics at http://{host}:{server.server_address[1]}/metrics")
        try:
            yield
        finally:
            server.shutdown()

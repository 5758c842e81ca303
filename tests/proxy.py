"""A proxy in front of an S3 server that does to requests what networks and overloaded servers do.

`from relight.tests.proxy import Fault, proxied`. Which request meets which fault is decided by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

_BLACKHOLE_S: Final = 20.0


class Fault(StrEnum):
    ERROR_500 = "500 without doing it"
    SLOW_DOWN = "503 SlowDown"
    RESET = "reset before it was forwarded"
    LOST_REPLY = "done, and the reply is lost"
    TRUNCATED = "the reply's body ends early"
    SILENCE = "no answer at all"
    CONFLICT = "409 without doing it"
    ERROR_AFTER = "done, and answered with 500"
    FLIPPED = "one bit of the reply's body is wrong"


_ANSWERS: Final = {
    Fault.ERROR_500: (b"500 Internal Server Error", b"InternalError"),
    Fault.ERROR_AFTER: (b"500 Internal Server Error", b"InternalError"),
    Fault.SLOW_DOWN: (b"503 Slow Down", b"SlowDown"),
    Fault.CONFLICT: (b"409 Conflict", b"ConditionalRequestConflict"),
}

Choose = Callable[[str, str], Fault | None]
"""The fault that a request meets, from its method and its path with query."""


@dataclass
class Proxy:
    endpoint_url: str = ""
    choose: Choose = lambda method, path: None
    fired: Counter[Fault] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    """Method and path of every request that came."""


@dataclass(frozen=True)
class _Message:
    first: bytes
    headers: list[bytes]
    body: bytes

    def header(self, name: bytes) -> bytes:
        for line in self.headers:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return b""

    def to_bytes(self, body: bytes | None = None) -> bytes:
        return b"\r\n".join([self.first, *self.headers, b"", self.body if body is None else body])


@contextmanager
def proxied(upstream_url: str) -> Iterator[Proxy]:
    """A proxy in a thread of its own; `choose` may be set at any time."""
    proxy, ready, loop = Proxy(), threading.Event(), asyncio.new_event_loop()
    upstream = urlsplit(upstream_url)
    stop = asyncio.Event()

    async def serve() -> None:
        held: set[asyncio.Task[None] | None] = set()
        """The loop alone does not keep a connection's task from being collected while it waits."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            held.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _serve(proxy, (upstream.hostname or "", upstream.port or 80), reader, writer)
            writer.transport.abort()
            held.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
        proxy.endpoint_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        await asyncio.sleep(0.01)  # What was accepted just before becomes a task in the loop's next turns.
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0.01)  # Transports are closed in the loop's next turns.

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _serve(
    proxy: Proxy, upstream: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """The requests of one connection, one after the other, until a fault ends it."""
    while True:
        request = await _read(reader, writer)
        method, path = request.first.decode().split(" ")[:2]
        proxy.requests.append(f"{method} {path}")
        fault = proxy.choose(method, path)
        if fault is not None:
            proxy.fired[fault] += 1
        reply = await _reply(request, method, upstream, fault)
        if reply is None:
            return
        if fault is Fault.TRUNCATED:
            writer.write(reply.to_bytes(reply.body[: len(reply.body) // 2]) if reply.body else b"HTTP/1.1 2")
            await writer.drain()
            return
        body = bytes([reply.body[0] ^ 1]) + reply.body[1:] if fault is Fault.FLIPPED and reply.body else reply.body
        writer.write(reply.to_bytes(body))
        await writer.drain()


async def _reply(request: _Message, method: str, upstream: tuple[str, int], fault: Fault | None) -> _Message | None:
    """What the client is told; None when it is told nothing and its connection ends."""
    if fault is Fault.SILENCE:
        await asyncio.sleep(_BLACKHOLE_S)
    if fault in {Fault.RESET, Fault.SILENCE}:
        return None
    if fault in _ANSWERS and fault is not Fault.ERROR_AFTER:
        return _answer(fault)
    reply = await _forward(request, method, upstream)
    if fault is Fault.LOST_REPLY:
        return None
    return _answer(fault) if fault is Fault.ERROR_AFTER else reply


def _answer(fault: Fault) -> _Message:
    status, code = _ANSWERS[fault]
    body = b"<Error><Code>" + code + b"</Code><Message>planted</Message></Error>"
    headers = [b"Content-Type: application/xml", b"Content-Length: %d" % len(body)]
    return _Message(b"HTTP/1.1 " + status, headers, body)


async def _forward(request: _Message, method: str, upstream: tuple[str, int]) -> _Message:
    reader, writer = await asyncio.open_connection(*upstream, limit=1 << 20)
    try:
        writer.write(request.to_bytes())
        await writer.drain()
        return await _read(reader, None, bodyless=method == "HEAD")
    finally:
        writer.close()


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, *, bodyless: bool = False
) -> _Message:
    """A whole message; its body comes with a length afterwards, however it was sent."""
    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    first, *headers = head.split(b"\r\n")
    message = _Message(first, headers, b"")
    if writer is not None and message.header(b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if bodyless or b" 204 " in first or b" 304 " in first:
        return message
    if message.header(b"transfer-encoding") == b"chunked":
        body = await _read_chunks(reader)
        kept = [line for line in headers if not line.lower().startswith(b"transfer-encoding:")]
        kept.append(b"Content-Length: %d" % len(body))
    else:
        body = await reader.readexactly(int(message.header(b"content-length") or 0))
        kept = headers
    return _Message(first, [line for line in kept if not line.lower().startswith(b"expect:")], body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass
    return body

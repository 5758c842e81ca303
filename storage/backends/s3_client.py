"""The connection to S3: one s3fs filesystem for each process that uses it, driven from any of its threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import s3fs
from aiobotocore.session import AioSession
from botocore.handlers import add_expect_header
from botocore.loaders import create_loader
from fsspec.asyn import get_loop

from .patience import Budget, Contact, Patience
from .s3_errors import explain
from .s3_place import S3Place

T = TypeVar("T")

_CLEANUP_S: Final = 15.0
_CONNECTIONS: Final = 32
_DESCRIPTIONS: Final = create_loader()
"""Megabytes of JSON about Amazon's services, parsed once."""


class S3Client:
    """Connects at the first use, and anew in a forked child: neither sockets nor event loops survive a fork."""

    def __init__(self, place: S3Place, patience: Patience) -> None:
        self.place = place
        self.contact = Contact(patience, self._describe)
        self.sends_checksums = True
        """Whether the server is given a checksum with every body. Known once connected."""
        self._lock = threading.Lock()
        self._filesystem: Any = None
        self._process = 0

    def budget(self, size: int = 0) -> Budget:
        return Budget(self.contact, size)

    async def call(self, method: str, **arguments: Any) -> Any:
        """One request, tried once. Raises what botocore and the network raise."""
        try:
            client = await self._filesystem.set_session()
        except ValueError as error:  # A malformed endpoint in the environment.
            raise OSError(f"{type(error).__name__} while connecting") from None
        reply = await getattr(client, method)(Bucket=self.place.bucket, **arguments)
        self.contact.heard()
        return reply

    @property
    def endpoint_url(self) -> str:
        """Where requests go, as far as that is known."""
        client = getattr(self._filesystem, "_s3", None)
        return str(client.meta.endpoint_url) if client is not None else self.place.endpoint_url or "the store"

    def _describe(self, error: Exception) -> str:
        return f"{self.place.location('')}: {explain(error, 'write', self.place.bucket, self.endpoint_url)}"

    def run(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """The outcome of `work`; raises TimeoutError after `limit_s` seconds.

        When the calling thread is interrupted, what `work` has begun is undone before this returns.
        """
        ended = threading.Event()

        async def bounded() -> T:
            try:
                async with asyncio.timeout(limit_s):
                    return await work
            finally:
                ended.set()

        try:
            loop = self._connected().loop
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(bounded(), loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(_CLEANUP_S)
            raise

    def _connected(self) -> Any:
        with self._lock:
            if self._process != os.getpid():
                self._filesystem = self._connect()
                self._process = os.getpid()
            return self._filesystem

    def _connect(self) -> Any:
        place = self.place
        session = AioSession()  # Finds credentials as every AWS tool does, and renews them.
        session.register_component("data_loader", _DESCRIPTIONS)
        # A server that never says `100 Continue` would be waited for until the timeout.
        session.unregister("before-call.s3", add_expect_header)
        config: dict[str, Any] = {
            # The retries are ours: two loops, one in the other, would multiply, and botocore draws from `random`.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": self.contact.patience.connect_timeout_s,
            "read_timeout": self.contact.patience.read_timeout_s,
            "max_pool_connections": _CONNECTIONS,
        }
        if place.request_checksum_calculation is not None:
            config["request_checksum_calculation"] = place.request_checksum_calculation
        self.sends_checksums = _sends_checksums(session, place)
        if self.sends_checksums and "payload_signing_enabled" not in (session.get_scoped_config().get("s3") or {}):
            # The signature covers the CRC32 of what is sent. A SHA-256 beside it would cost more than all the rest, and
            # protect nothing: what is read back over a connection without TLS is signed by nobody.
            config["s3"] = {"payload_signing_enabled": False}
        return s3fs.S3FileSystem(
            session=session,
            skip_instance_cache=True,  # A cached one is shared with whoever else uses s3fs here.
            use_listings_cache=False,  # A cached listing misses what other processes put and delete.
            endpoint_url=place.endpoint_url,
            client_kwargs={} if place.region is None else {"region_name": place.region},
            config_kwargs=config,
            loop=get_loop(),
        )


def _sends_checksums(session: AioSession, place: S3Place) -> bool:
    chosen = place.request_checksum_calculation or session.get_config_variable("request_checksum_calculation")
    return str(chosen).lower() != "when_required"

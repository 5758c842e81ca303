"""A run on S3, or on any server that speaks its protocol with conditional writes. A PUT is durable when it returns.

Keys are never renamed, and never overwritten unless asked to. Every put carries a token of its own, so that after a
lost reply what is there says whose it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from ..errors import AlreadyExists, NotFound, StorageUnavailable
from .base import Bytes, Entry, Source, Upload, check_key, check_prefix
from .patience import Budget, Patience
from .s3_client import S3Client
from .s3_errors import FOREIGN, Kind, explain, kind_of
from .s3_place import S3Place
from .s3_put import InTheWay, Put
from .s3_requests import fetch, fetch_into, insisted, list_children, list_uploads
from .s3_upload import MIN_PART_BYTES, abort

T = TypeVar("T")


class S3Backend:
    """Objects below one prefix of a bucket. Nothing is contacted before the first use."""

    def __init__(self, place: S3Place, patience: Patience | None = None) -> None:
        self._place = place
        self._client = S3Client(place, patience or Patience())

    @property
    def url(self) -> str:
        return self._place.url

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        self._put(key, memoryview(data).cast("B") if len(data) else memoryview(b""), overwrite=overwrite)

    def put_stream(self, key: str, source: Source) -> None:
        # What is sent as a whole is read here: the requests' own thread must never wait for another store.
        self._put(key, source if len(source) > MIN_PART_BYTES else source[:], overwrite=False)

    def _put(self, key: str, data: Source, *, overwrite: bool) -> None:
        check_key(key)
        budget = self._client.budget(len(data))
        put = Put(self._client, self._place.prefix + key, data, overwrite=overwrite, budget=budget)
        try:
            self._run(put.run(), f"cannot write {self._place.location(key)}", "write", budget)
        except InTheWay:
            message = f"{self._place.location(key)} exists already and is never overwritten"
            raise AlreadyExists(message) from None

    def settle(self, prefix: str) -> None:
        """What a listing of an object store shows is durable."""
        check_prefix(prefix)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        if length == 0:
            self.size(key)
            return b""
        budget = self._client.budget(length if length is not None and length < 1 << 32 else 0)
        last = "" if length is None else str(start + length - 1)
        fetching = fetch(self._client, self._place.prefix + key, f"bytes={start}-{last}", budget)
        return self._run(fetching, f"cannot read {self._place.location(key)}", "read", budget)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        check_key(key)
        if not buffer:
            self.size(key)
            return 0
        budget = self._client.budget(len(buffer))
        fetching = fetch_into(self._client, self._place.prefix + key, start, buffer, budget)
        return self._run(fetching, f"cannot read {self._place.location(key)}", "read", budget)

    def size(self, key: str) -> int:
        check_key(key)
        budget = self._client.budget()

        async def head() -> int:
            reply = await self._client.call("head_object", Key=self._place.prefix + key)
            return int(reply["ContentLength"])

        return self._run(insisted(head, budget), f"cannot read {self._place.location(key)}", "read", budget)

    def list(self, prefix: str) -> list[Entry]:
        check_prefix(prefix)
        budget = self._client.budget()
        listing = list_children(self._client, self._place.prefix + prefix, budget)
        found = self._run(listing, f"cannot list {self._place.location(prefix)}", "list", budget)
        own = len(self._place.prefix)
        return sorted(Entry(key[own:], size) for key, size in found.items() if _is_child(key[own:], prefix))

    def delete(self, key: str) -> None:
        check_key(key)
        budget = self._client.budget()

        async def act() -> None:
            await self._client.call("delete_object", Key=self._place.prefix + key)

        with contextlib.suppress(NotFound):
            self._run(insisted(act, budget), f"cannot delete {self._place.location(key)}", "delete", budget)

    def uploads(self, prefix: str) -> Sequence[Upload]:
        """Uploads in parts under the prefix that were begun and neither completed nor aborted."""
        check_prefix(prefix)
        budget = self._client.budget()
        listing = list_uploads(self._client, self._place.prefix + prefix, budget)
        found = self._run(listing, f"cannot list uploads to {self._place.location(prefix)}", "clear", budget)
        own = len(self._place.prefix)
        return [Upload(each["Key"][own:], each["UploadId"], each["Initiated"]) for each in found]

    def abort_upload(self, upload: Upload) -> None:
        key, budget = check_key(upload.key), self._client.budget()
        aborting = abort(self._client, self._place.prefix + key, upload.id, budget)
        self._run(aborting, f"cannot abort an upload to {self._place.location(key)}", "clear", budget)

    def _run(self, work: Coroutine[Any, Any, T], what: str, act: str, budget: Budget) -> T:
        with self._translated(what, act):
            try:
                return self._client.run(work, budget.limit_s)
            except TimeoutError:
                budget.end()
                raise

    @contextlib.contextmanager
    def _translated(self, what: str, act: str) -> Iterator[None]:
        try:
            yield
        except FOREIGN as error:
            if kind_of(error) is Kind.ABSENT:
                raise NotFound(f"{what}: no such file") from None
            why = explain(error, act, self._place.bucket, self._client.endpoint_url)
            raise StorageUnavailable(f"{what}: {why}") from None  # The foreign text could quote a credential.


def _is_child(key: str, prefix: str) -> bool:
    """Neither the folder's own marker nor a name that no key of ours could have."""
    name = key.removeprefix(prefix).removesuffix("/")
    return name not in {"", ".", ".."} and "/" not in name

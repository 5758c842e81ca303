"""One put to S3, from the first request to the certainty of what has become of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any, Final

from ..errors import StorageError
from .base import Source
from .patience import Budget
from .s3_client import S3Client
from .s3_errors import FOREIGN, Kind, kind_of
from .s3_requests import fetch, insisted
from .s3_upload import MIN_PART_BYTES, part_spans, upload

_TOKEN: Final = "relight-put"  # noqa: S105  (the name of a metadata field)
_ONLY_IF_ABSENT: Final = {"IfNoneMatch": "*"}


class Whose(Enum):
    OURS = auto()
    ANOTHERS = auto()
    NOBODYS = auto()


class InTheWay(StorageError):
    """Another's object is under the key."""


class Put:
    """One put, until it is clear what has become of it."""

    def __init__(self, client: S3Client, key: str, data: Source, *, overwrite: bool, budget: Budget) -> None:
        self._client = client
        self._data = data
        self._budget = budget
        self._overwrite = overwrite
        self._token = uuid.uuid4().hex
        self._begin = {"Metadata": {_TOKEN: self._token}}
        self._target: dict[str, Any] = {"Key": key} | ({} if overwrite else _ONLY_IF_ABSENT)

    async def run(self) -> None:
        if len(self._data) <= MIN_PART_BYTES:
            body = bytes(self._data[:])
            request = {**self._target, **self._begin, "Body": body}
            await self._conclude(lambda: self._client.call("put_object", **request), lost={Kind.UPLOAD_GONE})
            return
        while True:
            try:
                await self._upload()
            except FOREIGN as error:
                if kind_of(error) not in {Kind.UPLOAD_GONE, Kind.CONFLICT}:
                    raise
                await self._budget.pause(error)  # That upload can no more be completed; another one can.
            else:
                return

    async def _upload(self) -> None:
        async def conclude(complete: Callable[[], Awaitable[Any]]) -> None:
            await self._conclude(complete, lost={Kind.UPLOAD_GONE, Kind.CONFLICT})

        await upload(self._client, self._target, self._data, begin=self._begin, conclude=conclude, budget=self._budget)

    async def _conclude(self, request: Callable[[], Awaitable[Any]], *, lost: set[Kind]) -> None:
        """Send the request that makes the object exist, as often as it takes; after `lost` it is of no more use.

        A reply that did not come, and a 412, which may be the echo of our own first try, are settled by reading.
        """
        while True:
            try:
                await request()
            except FOREIGN as error:
                kind = kind_of(error)
                if kind is Kind.FINAL:
                    raise
                whose = await self._whose()
                if whose is Whose.OURS:
                    return
                if whose is Whose.ANOTHERS and not self._overwrite:
                    raise InTheWay from None
                if kind in lost:
                    raise
                await self._budget.pause(error)
            else:
                return

    async def _whose(self) -> Whose:
        """Whose object is under the key now."""
        key = self._target["Key"]

        async def head() -> Any:
            return await self._client.call("head_object", Key=key)

        try:
            reply = await insisted(head, self._budget)
        except FOREIGN as error:
            if kind_of(error) is Kind.ABSENT:
                return Whose.NOBODYS
            raise
        if _TOKEN in reply.get("Metadata", {}):
            return Whose.OURS if reply["Metadata"][_TOKEN] == self._token else Whose.ANOTHERS
        # A store that keeps no metadata, or an object of somebody else: the bytes decide.
        if reply["ContentLength"] != len(self._data):
            return Whose.ANOTHERS
        for start, end in part_spans(len(self._data)):
            there = await fetch(self._client, key, f"bytes={start}-{end - 1}", self._budget)
            if there != await asyncio.to_thread(self._data.__getitem__, slice(start, end)):
                return Whose.ANOTHERS
        return Whose.OURS

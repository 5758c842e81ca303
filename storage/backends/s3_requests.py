"""The requests that read from S3, each until its reply is whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .patience import Budget, insist
from .s3_client import S3Client
from .s3_errors import FOREIGN, Kind, is_passing, kind_of

T = TypeVar("T")


async def insisted(act: Callable[[], Awaitable[T]], budget: Budget) -> T:
    return await insist(act, budget, foreign=FOREIGN, passing=is_passing)


async def fetch(client: S3Client, key: str, wanted: str, budget: Budget) -> bytes:
    """A byte range, all of it: a reply that was cut short is fetched again."""

    async def get() -> bytes:
        try:
            reply = await client.call("get_object", Key=key, Range=wanted)
        except FOREIGN as error:
            if kind_of(error) is Kind.PAST_THE_END:
                return b""
            raise
        async with reply["Body"] as body:
            data: bytes = await body.read()
        if len(data) != reply["ContentLength"]:
            raise EOFError
        return data

    return await insisted(get, budget)


async def fetch_into(client: S3Client, key: str, start: int, buffer: memoryview, budget: Budget) -> int:
    """As `fetch`, from offset `start` on and straight into the buffer; returns the bytes that were there."""

    async def get() -> int:
        try:
            reply = await client.call("get_object", Key=key, Range=f"bytes={start}-{start + len(buffer) - 1}")
        except FOREIGN as error:
            if kind_of(error) is Kind.PAST_THE_END:
                return 0
            raise
        done = 0
        async with reply["Body"] as body:
            while got := await body.readinto(buffer[done:]):
                done += got
        if done != reply["ContentLength"]:
            raise EOFError
        return done

    return await insisted(get, budget)


async def list_children(client: S3Client, prefix: str, budget: Budget) -> dict[str, int]:
    """Sizes of the objects and folders directly under a prefix, page by page."""
    found: dict[str, int] = {}
    more: dict[str, str] = {}

    async def page() -> Any:
        return await client.call("list_objects_v2", Prefix=prefix, Delimiter="/", **more)

    while True:
        reply = await insisted(page, budget)
        found |= {each["Key"]: int(each["Size"]) for each in reply.get("Contents", ())}
        found |= {each["Prefix"]: 0 for each in reply.get("CommonPrefixes", ())}
        if not reply.get("IsTruncated"):
            return found
        more = {"ContinuationToken": reply["NextContinuationToken"]}


async def list_uploads(client: S3Client, prefix: str, budget: Budget) -> list[dict[str, Any]]:
    """Unfinished uploads under a prefix, page by page."""
    found: list[dict[str, Any]] = []
    more: dict[str, str] = {}

    async def page() -> Any:
        return await client.call("list_multipart_uploads", Prefix=prefix, **more)

    while True:
        reply = await insisted(page, budget)
        found += reply.get("Uploads", ())
        if not reply.get("IsTruncated"):
            return found
        more = {"KeyMarker": reply["NextKeyMarker"], "UploadIdMarker": reply["NextUploadIdMarker"]}

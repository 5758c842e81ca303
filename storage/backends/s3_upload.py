"""Large objects, in parts sent side by side. Either the object appears as a whole, or the upload is aborted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from .base import Source
from .patience import Budget, insist
from .s3_body import Body, crc32
from .s3_client import S3Client
from .s3_errors import FOREIGN, Kind, is_passing, kind_of

MIN_PART_BYTES: Final = 8 << 20
MAX_PARTS: Final = 10_000
_PARTS: Final = 32
_LONGEST_PART_BYTES: Final = 32 << 20
"""Each request costs some milliseconds of the processor, whatever its length; each failed one is sent again whole."""

_PARALLEL: Final = 8
_ABORT_S: Final = 10.0

Conclude = Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]


def part_spans(size: int) -> list[tuple[int, int]]:
    """[start, end) of each part: 8 to 32 MiB by the size of the object, or more for there to be 10,000 at most."""
    mebibyte = 1 << 20
    usual = min(max(MIN_PART_BYTES, size // _PARTS), _LONGEST_PART_BYTES)
    part = max(usual, -(-size // MAX_PARTS)) // mebibyte * mebibyte
    while -(-size // part) > MAX_PARTS:
        part += mebibyte
    return [(start, min(start + part, size)) for start in range(0, size, part)]


async def upload(
    client: S3Client,
    target: dict[str, Any],
    data: Source,
    *,
    begin: dict[str, Any],
    conclude: Conclude,
    budget: Budget,
) -> None:
    """One whole upload. `conclude` is given the request that makes the object exist and repeats it until that is clear.

    `target` names the object and carries the condition of the last request, `begin` the arguments of the first.
    """
    key = target["Key"]

    async def create() -> Any:
        return await client.call("create_multipart_upload", Key=key, **begin)

    upload_id = (await insist(create, budget, foreign=FOREIGN, passing=is_passing))["UploadId"]
    try:
        parts = await _send_parts(client, key, upload_id, data, budget)

        async def complete() -> Any:
            return await client.call(
                "complete_multipart_upload", **target, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

        await conclude(complete)
    except BaseException:
        # Whatever it was, an interrupt included: the parts cost money until they are taken back.
        with contextlib.suppress(*FOREIGN):
            async with asyncio.timeout(_ABORT_S):
                await abort(client, key, upload_id, client.budget())
        raise


async def abort(client: S3Client, key: str, upload_id: str, budget: Budget) -> None:
    """Take the parts back; an upload that is gone already is no error."""

    async def act() -> None:
        try:
            await client.call("abort_multipart_upload", Key=key, UploadId=upload_id)
        except FOREIGN as error:
            if kind_of(error) not in {Kind.UPLOAD_GONE, Kind.ABSENT}:
                raise

    await insist(act, budget, foreign=FOREIGN, passing=is_passing)


async def _send_parts(client: S3Client, key: str, upload_id: str, data: Source, budget: Budget) -> list[dict[str, Any]]:
    gate = asyncio.Semaphore(_PARALLEL)

    async def send(number: int, start: int, end: int) -> dict[str, Any]:
        async with gate:
            part = await asyncio.to_thread(data.__getitem__, slice(start, end))
            checksum = {"ChecksumCRC32": await asyncio.to_thread(crc32, part)} if client.sends_checksums else {}

            async def act() -> Any:
                return await client.call(
                    "upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=Body(part), **checksum
                )

            reply = await insist(act, budget, foreign=FOREIGN, passing=is_passing)
        checksums = {name: value for name, value in reply.items() if name.startswith("Checksum") and value}
        checksums.pop("ChecksumType", None)
        return {"PartNumber": number, "ETag": reply["ETag"], **checksums}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(send(number, start, end))
                for number, (start, end) in enumerate(part_spans(len(data)), start=1)
            ]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]

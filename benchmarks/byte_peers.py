"""What storage's speed is compared with: the system calls alone, and other clients of S3 with nothing around them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_WRITE_BYTES: Final = 64 << 20
_READ_BYTES: Final = 16 << 20
_PART_BYTES: Final = 8 << 20
_SIDE_BY_SIDE: Final = 10
"""boto3's defaults. Obstore's are 5 MiB and 12 side by side."""

Peer = tuple[Callable[[int], object], Callable[[int], object]]
"""Sends everything, and gets what it sent last."""


def raw_write(path: Path, data: memoryview, *, direct: bool) -> None:
    """All bytes to a new file, then file and folder synced. What does not fill a page is left out."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if direct else 0)
    descriptor = os.open(path, flags, 0o666)
    end = len(data) // 4096 * 4096
    for start in range(0, end, _WRITE_BYTES):
        os.write(descriptor, data[start : min(start + _WRITE_BYTES, end)])
    os.fsync(descriptor)
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def raw_read(path: Path, into: memoryview, threads: int, *, direct: bool) -> None:
    """The file by several threads, whole pages only, unverified."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    end = len(into) // 4096 * 4096

    def read(start: int) -> None:
        stop = min(start + _READ_BYTES, end)
        while start < stop and (got := os.preadv(descriptor, [into[start:stop]], start)):
            start += got

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, range(0, end, _READ_BYTES)):
            pass
    os.close(descriptor)


def s3_peers(url: str, data: memoryview) -> dict[str, Peer]:
    """Those that are installed, by name."""
    parts = urlsplit(url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    endpoint = options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    make = {"boto3": _boto3, "obstore": _obstore}
    return {
        name: peer(parts.netloc, f"{parts.path.strip('/')}/{name}", endpoint, region, data)
        for name, peer in make.items()
        if find_spec(name)
    }


def _boto3(bucket: str, prefix: str, endpoint: str | None, region: str, data: memoryview) -> Peer:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client: Any = boto3.client(
        "s3", endpoint_url=endpoint, region_name=region, config=Config(max_pool_connections=_SIDE_BY_SIDE)
    )
    transfer: Any = TransferConfig(
        multipart_chunksize=_PART_BYTES, multipart_threshold=_PART_BYTES, max_concurrency=_SIDE_BY_SIDE
    )
    keys = _Keys(prefix)
    into = memoryview(bytearray(len(data)))

    def send(_: int) -> None:
        client.upload_fileobj(io.BytesIO(data), bucket, next(keys), Config=transfer)

    def get(_: int) -> None:
        client.download_fileobj(bucket, keys.last, Sink(into), Config=transfer)

    return send, get


def _obstore(bucket: str, prefix: str, endpoint: str | None, region: str, data: memoryview) -> Peer:
    import obstore
    from obstore.store import S3Store

    local: dict[str, Any] = {"endpoint": endpoint, "client_options": {"allow_http": True}} if endpoint else {}
    store = S3Store(bucket, region=region, virtual_hosted_style_request=False, **local)
    keys = _Keys(prefix)
    starts = list(range(0, len(data), _PART_BYTES))
    ends = [min(start + _PART_BYTES, len(data)) for start in starts]

    def send(_: int) -> None:
        obstore.put(store, next(keys), data, use_multipart=True)

    def get(_: int) -> None:
        obstore.get_ranges(store, keys.last, starts=starts, ends=ends)

    return send, get


class _Keys(Iterator[str]):
    """A new key each time."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._number = prefix, 0

    def __next__(self) -> str:
        self._number += 1
        return self.last

    @property
    def last(self) -> str:
        return f"{self._prefix}-{self._number}"


class Sink(io.RawIOBase):
    """A file to write to, of memory that is there already."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: len(self._memory)}[whence]
        return self._at

    def write(self, data: Any, /) -> int:
        self._memory[self._at : self._at + len(data)] = data
        self._at += len(data)
        return len(data)

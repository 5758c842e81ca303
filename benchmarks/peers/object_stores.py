"""Clients of S3: s3torchconnector's writer for DCP, and the floors, raw uploads in parts by boto3 and by obstore."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ..byte_peers import Sink
from ..states import Live
from .contender import Place
from .dcp import DcpSave
from .floors import Share

_PART: Final = 8 << 20
_SIDE_BY_SIDE: Final = 4


def _region(environ: Mapping[str, str] = os.environ) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"


class S3Connector(DcpSave):
    title = "s3torchconnector"
    note = "dcp.save with its S3StorageWriter"

    def writer(self, number: int) -> Any:
        from s3torchconnector.dcp import S3StorageWriter

        return S3StorageWriter(_region(), f"{self.place.of(number)}/", s3client_config=self._config())

    def reader(self, number: int) -> Any:
        from s3torchconnector.dcp import S3StorageReader

        return S3StorageReader(_region(), f"{self.place.of(number)}/", s3client_config=self._config())

    def _config(self) -> Any:
        from s3torchconnector import S3ClientConfig

        return S3ClientConfig(force_path_style=True)


class _RawUpload(Share):
    durable = True

    def __init__(self, live: Live, place: Place) -> None:
        super().__init__(live, place)
        parts = urlsplit(place.url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client = self._connect()

    def _connect(self) -> Any:
        raise NotImplementedError

    def _key(self, number: int) -> str:
        return f"{self._prefix}/{number:04d}/raw-{self.rank}"


class Boto3Upload(_RawUpload):
    title = "raw boto3"
    note = f"upload_fileobj and ranged gets, {_SIDE_BY_SIDE} parts of {_PART >> 20} MiB side by side"

    def save(self, number: int) -> None:
        self._client.upload_fileobj(io.BytesIO(self._memory), self._bucket, self._key(number), Config=_transfer())

    def load(self, number: int) -> None:
        self._client.download_fileobj(
            self._bucket, self._key(number), Sink(memoryview(self._memory)), Config=_transfer()
        )

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client("s3", config=Config(s3={"addressing_style": "path"}))


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_chunksize=_PART, max_concurrency=_SIDE_BY_SIDE)


class ObstoreUpload(_RawUpload):
    title = "raw obstore"
    note = f"multipart put and ranged gets, {_SIDE_BY_SIDE} parts of {_PART >> 20} MiB side by side"

    def save(self, number: int) -> None:
        import obstore

        obstore.put(
            self._client, self._key(number), memoryview(self._memory), chunk_size=_PART, max_concurrency=_SIDE_BY_SIDE
        )

    def load(self, number: int) -> None:
        import obstore

        starts = range(0, len(self._memory), _PART)
        ends = [min(start + _PART, len(self._memory)) for start in starts]
        obstore.get_ranges(self._client, self._key(number), starts=list(starts), ends=ends)

    def _connect(self) -> Any:
        from obstore.store import S3Store

        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        local = {"endpoint": endpoint, "client_options": {"allow_http": True}} if endpoint else {}
        return S3Store(self._bucket, region=_region(), virtual_hosted_style_request=False, **local)

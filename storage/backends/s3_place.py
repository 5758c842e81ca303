"""An S3 URL, taken apart: `s3://bucket/prefix?endpoint_url=http://host:port&region=...`. Pure.

Credentials come from the usual provider chain alone: environment, profile, instance role. A URL that holds some is
refused, because it would end up in logs and in the run's own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from ..errors import BadUrl, StorageError
from .base import check_key

_OPTIONS: Final = ("endpoint_url", "region", "request_checksum_calculation")
_CHECKSUMS: Final = ("when_supported", "when_required")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """`prefix` is empty or ends with `/`. The options are None where the environment decides."""

    bucket: str
    prefix: str
    endpoint_url: str | None = None
    region: str | None = None
    request_checksum_calculation: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises `BadUrl`; the message never quotes what could be a secret."""
        body, _, query = url.partition("?")
        bucket, _, path = body.split("://", 1)[1].partition("/")
        if "@" in bucket or ":" in bucket:
            raise BadUrl(
                "storage.url must be s3://BUCKET/PREFIX, without user, password or port. Leave credentials to the "
                "environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, an instance role), and name another server than "
                "Amazon's with ?endpoint_url=http://HOST:PORT or AWS_ENDPOINT_URL"
            )
        if not bucket:
            raise BadUrl("storage.url names no bucket; it must be s3://BUCKET/PREFIX")
        prefix = path.rstrip("/")
        try:
            check_key(prefix or "-")
        except StorageError as error:
            raise BadUrl(f"the path of storage.url cannot be one: {error}") from None
        return cls(bucket=bucket, prefix=f"{prefix}/" if prefix else "", **_options(query))

    @property
    def url(self) -> str:
        """One URL that opens this place again."""
        given = {name: value for name in _OPTIONS if (value := getattr(self, name)) is not None}
        return self.location("").rstrip("/") + (f"?{urlencode(given, safe=':/')}" if given else "")

    def location(self, key: str) -> str:
        """Where an object is, for a message."""
        return f"s3://{self.bucket}/{self.prefix}{key}"


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise BadUrl(f"storage.url has an option that is not known; there are: {', '.join(_OPTIONS)}")
    if options.get("request_checksum_calculation", _CHECKSUMS[0]) not in _CHECKSUMS:
        raise BadUrl(f"request_checksum_calculation in storage.url must be one of: {', '.join(_CHECKSUMS)}")
    if "endpoint_url" in options:
        _check_endpoint(options["endpoint_url"])
    return options


def _check_endpoint(endpoint_url: str) -> None:
    parts = urlsplit(endpoint_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise BadUrl(
            "endpoint_url in storage.url must be http://HOST:PORT or https://HOST:PORT, without user and password"
        )

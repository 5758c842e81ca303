"""From a URL to the backend that serves it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..errors import BadUrl
from .base import Backend
from .local import LocalBackend

_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")


def open_backend(url: str) -> Backend:
    """The storage at `url`: a local path, or a URL of S3 or of anything else that fsspec opens.

    Nothing is written or contacted yet.

    Raises:
        BadUrl: the URL is empty, its scheme is not served, it cannot be a path, or it holds credentials.
    """
    if not url.strip():
        message = "storage.url is empty; name a folder, for example runs/my-run"
        raise BadUrl(message)
    if "\0" in url:
        message = f"storage.url {url!r} contains a NUL character, which no path can"
        raise BadUrl(message)
    if slip := _ONE_SLASH.match(url):
        message = f"a slash is missing in storage.url: {slip.group(1)}:// takes two"
        raise BadUrl(message)
    return _remote(url) if "://" in url else LocalBackend(_expanded(url))


def _remote(url: str) -> Backend:
    scheme = url.partition("://")[0]
    if scheme in {"file", "local"}:
        return LocalBackend(_from_url(url))
    if scheme in {"s3", "s3a"}:
        from .s3 import S3Backend  # Half a second of imports that a local run need not pay for.
        from .s3_place import S3Place

        return S3Backend(S3Place.parse(url))
    from .remote import RemoteBackend

    return RemoteBackend.open(url)


def _from_url(url: str) -> Path:
    parts = urlsplit(url)
    host = "" if parts.netloc == "localhost" else parts.netloc
    return Path(url2pathname(host + parts.path))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        message = f"storage.url {path} names the home of a user that does not exist"
        raise BadUrl(message) from None

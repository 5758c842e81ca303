"""A run on anything else that fsspec opens: Google's and Azure's stores, `memory://` for tests.

What is promised here is what the filesystem itself keeps: that a file appears whole, and that `mode="create"` refuses
one that is there. The start-up probe finds out about the second.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import Any, Final, Self

import fsspec
from fsspec.registry import get_filesystem_class, known_implementations

from ..errors import AlreadyExists, BadUrl, NotFound, StorageError, StorageUnavailable
from .base import Bytes, Entry, check_key, check_prefix

_IN_MEMORY: Final = "memory"
_WITHOUT_FOLDERS: Final = frozenset({_IN_MEMORY, "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "tos"})
_PASSWORD: Final = re.compile(r"://[^/@]*:.*@")
_USER: Final = re.compile(r"://[^/]*@")
_WITH_A_NAME: Final = frozenset({"abfs", "abfss", "az", "ftp", "hdfs", "sftp", "smb", "ssh", "webhdfs"})
"""Where `NAME@HOST` is the address. Elsewhere what stands before the @ may be a key, and would end up in logs."""


_OTHERS: Final = "what else fsspec opens"
_MOVE: Final = "choose another storage.url"

_memory_lock = threading.RLock()
"""fsspec's memory filesystem hands the same file, with one position, to all threads."""


class RemoteBackend:
    """Objects below one path of an fsspec filesystem, which is made at first use, and anew after a fork."""

    def __init__(self, scheme: str, root: str, options: dict[str, Any]) -> None:
        self._scheme = scheme
        self._root = root
        self._options = options
        self._filesystem: Any = None
        self._process = 0
        self._lock = threading.RLock()
        self._turn = _memory_lock if scheme == _IN_MEMORY else contextlib.nullcontext()

    @classmethod
    def open(cls, url: str) -> Self:
        """Raises `BadUrl` when fsspec, or what it needs for this URL, cannot serve it."""
        scheme, _, path = url.partition("://")
        if _PASSWORD.search(url) or "?" in path or (scheme not in _WITH_A_NAME and _USER.search(url)):
            raise BadUrl(
                "storage.url must hold neither user, password nor options; leave credentials to the environment, "
                f"as fsspec's {scheme} filesystem finds them there"
            )
        if scheme not in {*known_implementations, *fsspec.available_protocols()}:
            raise BadUrl(f"{scheme}:// is not a kind of storage that is served; use a local path, s3:// or {_OTHERS}")
        try:
            kind = get_filesystem_class(scheme)
        except ImportError as error:
            module = known_implementations[scheme]["class"].split(".")[0]
            advice = str(error) if module == "fsspec" else f"pip install {module}"
            raise BadUrl(f"{scheme}:// needs a package that is not installed: {advice}") from None
        try:
            check_key(path.rstrip("/").lstrip("/") or "-")
        except StorageError as error:
            raise BadUrl(f"the path of storage.url cannot be one: {error}") from None
        return cls(scheme, path.rstrip("/"), dict(kind._get_kwargs_from_urls(url)))  # noqa: SLF001  (fsspec's own hook for this)

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self._root}"

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        where, body = self._where(key), bytes(data)
        with self._translated(f"cannot write {where}", absent=StorageUnavailable) as filesystem:
            if self._scheme not in _WITHOUT_FOLDERS:
                filesystem.makedirs(where.rpartition("/")[0], exist_ok=True)
            try:
                filesystem.pipe_file(where, body, mode="overwrite" if overwrite else "create")
            except FileExistsError:
                if overwrite:
                    raise
                # The filesystem may have tried again after a reply was lost: then what is in the way is ours.
                if self._scheme == _IN_MEMORY or filesystem.cat_file(where) != body:
                    raise AlreadyExists(f"{where} exists already and is never overwritten") from None

    def settle(self, prefix: str) -> None:
        """What a listing of an object store shows is durable."""
        check_prefix(prefix)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        where = self._where(key)
        size = self.size(key)
        end = size if length is None else min(start + length, size)
        if start >= end:
            return b""
        with self._translated(f"cannot read {where}") as filesystem:
            return bytes(filesystem.cat_file(where, start=start, end=end))

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        data = self.read(key, start, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        where = self._where(key)
        with self._translated(f"cannot read {where}") as filesystem:
            info = filesystem.info(where)
            if info["type"] != "file":
                raise FileNotFoundError(where)
            return int(info["size"])

    def list(self, prefix: str) -> list[Entry]:
        folder = f"{self.url}/{check_prefix(prefix)}".rstrip("/")
        with self._translated(f"cannot list {folder}") as filesystem:
            try:
                found = filesystem.ls(folder, detail=True)
            except FileNotFoundError:
                return []
            # A file of that name is listed as itself.
            inside = filesystem._strip_protocol(folder) + "/"  # noqa: SLF001  (fsspec's own spelling of a path)
            return sorted(_entry(prefix, info) for info in found if info["name"].startswith(inside))

    def delete(self, key: str) -> None:
        where = self._where(key)
        with self._translated(f"cannot delete {where}") as filesystem, contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(where)

    def _where(self, key: str) -> str:
        return f"{self.url}/{check_key(key)}"

    @contextlib.contextmanager
    def _translated(self, what: str, absent: type[StorageError] = NotFound) -> Iterator[Any]:
        try:
            with self._turn:
                yield self._connected()
        except StorageError:
            raise
        except FileNotFoundError:
            why = "no such file" if absent is NotFound else f"its folder or bucket does not exist; create it or {_MOVE}"
            raise absent(f"{what}: {why}") from None
        except Exception as error:  # noqa: BLE001  (every filesystem has a family of errors of its own)
            fact = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise StorageUnavailable(
                f"{what}: {fact}; check credentials, permissions and the network, or {_MOVE}"
            ) from None

    def _connected(self) -> Any:
        with self._lock:
            if self._process != os.getpid():
                # Neither a filesystem that others share nor listings that miss what other processes put.
                options = {"skip_instance_cache": True, "use_listings_cache": False}
                self._filesystem = fsspec.filesystem(self._scheme, **options, **self._options)
                self._process = os.getpid()
            return self._filesystem


def _entry(prefix: str, info: dict[str, Any]) -> Entry:
    name = info["name"].rstrip("/").rpartition("/")[2]
    return Entry(f"{prefix}{name}/", 0) if info["type"] == "directory" else Entry(f"{prefix}{name}", int(info["size"]))

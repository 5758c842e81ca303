"""The narrow waist: seven methods that a place for bytes must have, and the promises that the rest relies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from ..errors import StorageError

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One child in a listing. A folder's key ends with `/` and its size is 0; sizes are in bytes."""

    key: str
    size: int


class Backend(Protocol):
    """Named bytes that survive.

    Keys are `/`-separated names below the URL. A backend holds no state that another process could make stale (no
    listing cache) and is used in the process that opened it: it never crosses a fork. Its methods may be called from
    several threads.
    """

    @property
    def url(self) -> str:
        """Where this is, without credentials: fit for a log line."""

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        """Store `data` under `key`.

        Returns only when the bytes are durable: they and their name survive a power cut. A reader sees all of them
        or nothing, before, during and after a crash. Of any number of concurrent callers exactly one succeeds and
        the others raise `AlreadyExists`, unless `overwrite`, with which the last one wins as a whole.

        When it raises `StorageUnavailable`, the object is there as a whole or not at all, and which of the two is
        settled by reading. Readers may see an object a moment before it is durable: see `settle`.
        """

    def settle(self, prefix: str) -> None:
        """Make durable what a listing of the folder `prefix` shows now.

        For whoever is about to promise something that rests on objects that others put: another process's `put` may
        not have returned yet, or never will, because the process was killed just before its last step.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Up to `length` bytes from offset `start` (all of them by default); raises `NotFound`."""

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """Fill `buffer` from offset `start`; returns the bytes read, fewer only at the end of the object."""

    def size(self, key: str) -> int:
        """Length of the object in bytes; raises `NotFound`."""

    def list(self, prefix: str) -> list[Entry]:
        """The immediate children of the folder `prefix` (ending with `/`, or empty), sorted by key.

        A folder that does not exist is empty; one that became empty may still be shown. A store that cannot be asked
        raises `StorageUnavailable`: no caller may ever mistake an outage for an empty run.
        """

    def delete(self, key: str) -> None:
        """Remove the object, durably; one that is not there is no error."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload in parts that was begun and neither completed nor aborted. `begun` is UTC."""

    key: str
    id: str
    begun: datetime


class Source(Protocol):
    """Bytes that are somewhere else: asked for stretch by stretch, by any thread, and again where a try was lost.

    A memoryview is one, too.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> memoryview: ...


@runtime_checkable
class TakesStreams(Protocol):
    """What a backend has besides, that stores large objects without having them in memory."""

    def put_stream(self, key: str, source: Source) -> None:
        """As `put`, of bytes that are read while they are stored. What reading them raises, this raises."""


@runtime_checkable
class KeepsUploads(Protocol):
    """What a backend has besides, on which a crash leaves unfinished uploads behind, seen in no listing."""

    def uploads(self, prefix: str) -> Sequence[Upload]: ...

    def abort_upload(self, upload: Upload) -> None: ...


def check_key(key: str) -> str:
    """Refuse a key that could leave the run's folder or mean two things; returns it unchanged."""
    if not all(map(_is_plain, key.split("/"))):
        message = f"{key!r} is not a storage key: it must be a relative path of plain names"
        raise StorageError(message)
    return key


def check_prefix(prefix: str) -> str:
    """Refuse what is not a folder's key; returns it without the `/` at its end."""
    if prefix and not (prefix.endswith("/") and all(map(_is_plain, prefix[:-1].split("/")))):
        message = (
            f"{prefix!r} is not a folder in storage: it must be empty or a relative path of plain names, ending in /"
        )
        raise StorageError(message)
    return prefix[:-1]


def _is_plain(name: str) -> bool:
    return name not in {"", ".", ".."} and "\0" not in name

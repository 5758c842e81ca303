"""The start-up probe: does this store take writes, and does it refuse to write the same key twice?

All that is promised about concurrent launchers rests on the second. Some servers accept `If-None-Match` and ignore it.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from typing import Final

from .backends.base import Backend
from .errors import AlreadyExists, NotExclusive, StorageError

_KEY: Final = re.compile(r"probe-[0-9a-f]{32}")


def is_probe(key: str) -> bool:
    """What a start leaves behind that is killed in the middle of this."""
    return _KEY.fullmatch(key) is not None


def probe(backend: Backend, *, single_writer: bool = False) -> None:
    """Write a key of its own twice, and remove it.

    Raises:
        StorageUnavailable: nothing can be written or removed there.
        NotExclusive: the second write was not refused, and nobody has vouched for there being a `single_writer`.
    """
    key = f"probe-{uuid.uuid4().hex}"
    try:
        exclusive = _refuses_the_second(backend, key)
    except StorageError:
        with contextlib.suppress(StorageError):  # What went wrong first is what matters.
            backend.delete(key)
        raise
    backend.delete(key)
    if not exclusive and not single_writer:
        message = (
            f"{backend.url} overwrites what it was asked to create (it ignores If-None-Match), so that two launchers "
            "could not be kept apart. Choose another server, or, if nothing else ever writes to this run, "
            "set storage.single_writer: true (in a script: CheckpointSettings(single_writer=True))"
        )
        raise NotExclusive(message)


def _refuses_the_second(backend: Backend, key: str) -> bool:
    backend.put(key, b"first")
    try:
        backend.put(key, b"second")
    except AlreadyExists:
        return True
    return False

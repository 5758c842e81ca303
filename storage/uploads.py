"""Uploads in parts that nobody will end: their machine was switched off. They cost money and are seen in no listing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from .backends.base import Backend, KeepsUploads, Upload
from .errors import StorageError
from .layout import CHECKPOINTS, AttemptId, is_shard_name

_log = logging.getLogger(__name__)

GRACE: Final = timedelta(hours=1)
"""An upload that was begun more lately is left alone, whoever's it is."""


def dangling(uploads: Iterable[Upload], now: AttemptId, at: datetime) -> list[Upload]:
    """Those of shards of earlier generations that are older than the grace period. Pure; foreign names are not seen."""
    return [upload for upload in uploads if _is_of_an_earlier_generation(upload.key, now) and at - upload.begun > GRACE]


def clear(backend: Backend, now: AttemptId, *, at: datetime | None = None) -> list[Upload]:
    """Abort what earlier generations left, as the writer of `now` sees it; returns what was aborted.

    Trouble is not the run's: the bucket's lifecycle rule does the same.
    """
    if not isinstance(backend, KeepsUploads):
        return []
    cleared = []
    try:
        for upload in dangling(backend.uploads(CHECKPOINTS), now, at or datetime.now(UTC)):
            backend.abort_upload(upload)
            cleared.append(upload)
    except StorageError as error:
        _log.info("could not clear unfinished uploads at %s: %s", backend.url, error)
    return cleared


def _is_of_an_earlier_generation(key: str, now: AttemptId) -> bool:
    folder, _, name = key.removeprefix(CHECKPOINTS).partition("/")
    attempt = AttemptId.parse(folder)
    return (
        key.startswith(CHECKPOINTS)
        and attempt is not None
        and is_shard_name(name)
        and attempt.generation < now.generation
    )

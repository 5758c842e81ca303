"""What can go wrong in storage, in words that say what happened, where, and what to do next.

Foreign exceptions (OSError, botocore's, fsspec's) are translated into these at the backend, once.
"""

from __future__ import annotations

from typing import Self


class StorageError(Exception):
    """Root of everything this room raises on purpose."""


class StorageUnavailable(StorageError):
    """The store did not do what it was asked: no space, no permission, no network.

    The state on it is unchanged: what was being written does not exist for any reader.
    """


class BadUrl(StorageError):
    """The URL cannot name a run's storage."""


class NotFound(StorageError):
    """Nothing is stored under that key."""


class AlreadyExists(StorageError):
    """An exclusive write met a key that is already there."""


class Damaged(StorageError):
    """Stored bytes are not the bytes that were written. Never used, never repaired in place."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key} is damaged: {reason}")
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.key, self.reason)  # It travels between ranks, in DCP's hands.


class NotExclusive(StorageError):
    """The store does not refuse a second write of the same key, so that concurrent launchers cannot be kept apart."""


class OtherRun(StorageError):
    """The URL already holds another run."""


class Busy(StorageError):
    """Somebody is working there, and would be disturbed."""


class Superseded(StorageError):
    """A later generation of this run has started; this one may not write any more."""


class SaveFailed(StorageError):
    """A save was given up. Training may go on: the previous checkpoint is untouched."""

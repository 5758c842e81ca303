"""What can go wrong with a report."""

from __future__ import annotations

from ...storage.errors import StorageError


class NotWritten(StorageError):
    """The file system refused the page. What was there before is there still."""
